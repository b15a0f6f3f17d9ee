"""Peers of calls whose connection is gone: their messages take the next one (RFC 5626; docs/calls.md, "A restart").

A dialog is not bound to a connection. When a phone's or a carrier's has broken, or this process is another one, what is
to be said in a call goes over the flow that the same peer has registered over since; until there is one it waits.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

from edge.b2bua.engine import Engine
from edge.b2bua.leg import Leg
from edge.b2bua.runner import CallRunner
from edge.registrar.bindings import Binding, Kind
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.uri import Uri
from edge.transport.errors import ConnectError, ResolveError

PATIENCE = 32.0
"""Seconds for which a message waits: as long as its transaction lives (64*T1)."""
BYE_PATIENCE = 600.0
"""A BYE waits for the next registration: its answer is not asked for, but a phone that never hears it is in a call that
is over."""
_LOOK_EVERY = 0.2
_MOST = 1000


class _Peer(NamedTuple):
    """Who is on a leg, and where it said it is."""

    kind: str
    name: str
    account: str
    target: str
    host: str


class Elsewhere:
    """`Driver.elsewhere` of an edge. `send` and `is_open` are the driver's, for connections that are open."""

    def __init__(self, engine: Engine, send: Callable[[bytes, Flow], bool], is_open: Callable[[Flow], bool]) -> None:
        self._engine = engine
        self._send = send
        self._is_open = is_open
        self._waiting: deque[tuple[float, bytes, _Peer]] = deque()
        self._over: OrderedDict[Flow, _Peer] = OrderedDict()
        self._sought: dict[_Peer, asyncio.Task[Flow | None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        engine.calls.on_over = self._note

    def __call__(self, data: bytes, flow: Flow) -> bool:
        """A message for a connection that is gone: True where it went another way, or waits for one."""
        found = self._engine.calls.over_flow(flow)
        peer = _peer(*found) if found is not None else self._over.get(flow)
        if peer is None:
            return False
        other = self._flow(peer)
        if other is not None:
            return self._send(data, other)
        if len(self._waiting) >= _MOST:
            return False
        patience = BYE_PATIENCE if data.startswith(b"BYE ") else PATIENCE
        self._waiting.append((self._engine.driver.now() + patience, data, peer))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)
        return True

    def _note(self, call: CallRunner) -> None:
        """The BYE of a call leaves when the call is over."""
        for leg in call.legs.values():
            if isinstance(leg, Leg) and leg.flow.connection:
                self._over[leg.flow] = _peer(call, leg)
                if len(self._over) > _MOST:
                    self._over.popitem(last=False)

    def _look(self) -> None:
        self._timer = None
        now = self._engine.driver.now()
        for _ in range(len(self._waiting)):
            until, data, peer = self._waiting.popleft()
            other = self._flow(peer) or self._connected(peer)
            if other is not None:
                self._send(data, other)
            elif until > now:
                self._waiting.append((until, data, peer))
        if not self._waiting:
            self._sought.clear()
        else:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)

    def _connected(self, peer: _Peer) -> Flow | None:
        """The connection that we make ourselves to a peer that does not come back: to where it said it is."""
        task = self._sought.get(peer)
        if task is None:
            task = self._sought[peer] = asyncio.get_running_loop().create_task(self._connect(peer))
        flow = task.result() if task.done() and not task.cancelled() else None
        return flow if flow is not None and self._is_open(flow) else None

    async def _connect(self, peer: _Peer) -> Flow | None:
        try:
            if peer.kind == "carrier":
                return (await self._engine.carriers.way(peer.name)).flow
            return await self._engine.reach(Uri.parse(peer.target))
        except (ResolveError, ConnectError, RemoteProtocolError):
            return None  # behind a NAT, say: then only the peer itself can connect

    def _flow(self, peer: _Peer) -> Flow | None:
        """The flow that a peer has now."""
        engine = self._engine
        if peer.kind == "carrier":
            state = engine.carriers.state(peer.name)
            flow = state.flow if state is not None else None
            return flow if flow is not None and self._is_open(flow) else None
        username = peer.name
        if peer.kind == "trunk":
            trunk = engine.snapshot().trunks.get((peer.account, peer.name))
            username = (trunk.username or "") if trunk is not None else ""
        aor: Kind = "trunk" if peer.kind == "trunk" else "seat"
        bindings = [
            binding
            for binding in engine.registrar.contacts(aor, username, engine.driver.now())
            if binding.flow is not None and self._is_open(binding.flow)
        ]
        return _same_device(bindings, peer)


def _peer(call: CallRunner, leg: Leg) -> _Peer:
    kind, name = call.party(leg.id)
    source = call.source_of(leg.id)
    target = leg.dialog.remote_target if leg.dialog is not None else ""
    return _Peer(kind, name, source.account if source is not None else "", target, leg.flow.remote.host)


def _same_device(bindings: list[Binding], peer: _Peer) -> Flow | None:
    """The flow of the device that has the call: by its Contact, else by where it sits, else the only one there is."""
    for binding in bindings:
        if str(binding.uri.bare()) == peer.target:
            return binding.flow
    near = [binding for binding in bindings if binding.source.remote.host == peer.host]
    if near:
        return near[0].flow
    return bindings[0].flow if len(bindings) == 1 else None
