"""All carriers of the edge: follows the snapshot, knows who may send to us, and how calls get out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from config.away import AWAY
from config.model import Carrier
from config.snapshot import EMPTY, Snapshot
from config.tables.carrier_states import CarrierStateRow
from config.tables.write_behind import WriteBehind
from edge.carriers.hosts import Avoided, Hosts
from edge.carriers.line import Ways, hop_of
from edge.carriers.login import Judgement
from edge.carriers.proxies import Proxies
from edge.carriers.senders import Senders
from edge.carriers.state import CarrierState, state_of
from edge.observability.logging import get_logger
from edge.sip.auth.digest import read_challenges
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.ids import IdSource
from edge.sip.message import Request, Response
from edge.sip.params import unquote
from edge.sip.uri import Uri
from edge.transport.clock import Clock
from edge.transport.driver import Driver
from edge.transport.errors import ConnectError
from edge.transport.exchange import Exchange
from edge.transport.resolver import Resolver

_log = get_logger("carriers")
HOST_PATIENCE = 2.5
"""Seconds: an INVITE was sent three times by then, and 100 is due within 0.2 s (RFC 3261 section 17.2.1)."""
_HANDOVER = 4.0
"""Seconds that a changed carrier's new registration waits for the old one to be taken back."""


class CarrierStateStore(Protocol):
    """What is needed of `config.tables.carrier_states`."""

    async def save(self, changes: Mapping[str, CarrierStateRow | None]) -> None:
        """Store states; None removes one."""
        ...

    async def clear(self) -> None:
        """Forget the states of this edge."""
        ...


@dataclass(frozen=True, slots=True)
class CarrierRoute:
    """How a call goes out to a carrier."""

    carrier: Carrier
    flow: Flow
    routes: list[str]
    """Route values: the Service-Route of the registration, else the outbound proxy."""
    contact: Uri | None
    """Our Contact as the carrier knows it (with what it learned of our address); None for carriers known by address."""
    proxy: str | None = None
    """The outbound proxy that it goes over."""
    hosts: Hosts | None = None
    """Where it goes on to where the host of `flow` does not take it."""


class Carriers:
    """The carriers of the newest snapshot, each at work over the lines to its outbound proxies."""

    def __init__(
        self,
        driver: Driver,
        exchange: Exchange,
        resolver: Resolver,
        clock: Clock,
        ids: IdSource,
        jitter: Callable[[], float],
        *,
        learn_address: bool = True,
        store: CarrierStateStore | None = None,
        internal_error: Callable[[str], None] = lambda where: None,
        moved: Callable[[str, Flow, Flow], None] = lambda name, old, new: None,
    ) -> None:
        """`jitter` gives numbers from 0 to 1. `learn_address`: take the address that carriers see us at into Contact,
        to be switched off where the operator named one. `internal_error` counts faults of ours. `moved` is told
        where a registration was lost with its connection and is held over another one."""
        self._driver = driver
        self._resolver = resolver
        self._clock = clock
        self._internal_error = internal_error
        self.avoided = Avoided()
        self._ways = Ways(driver, exchange, resolver, ids, jitter, self._spawn, moved, learn_address, self.avoided)
        self._lines: dict[str, Proxies] = {}
        self._leaving: set[Proxies] = set()
        self._successors: dict[str, Proxies] = {}
        """Names whose new line waits for the end of the old one."""
        self._snapshot = EMPTY
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._senders = Senders()
        self._suspects: set[Flow] = set()
        """Flows over which the last call got no answer."""
        self._stopped = False
        self._shown: dict[str, tuple[object, ...]] = {}
        self._store_of = store
        self._writer: WriteBehind[str, CarrierStateRow | None] | None = None
        if store is not None:
            self._writer = WriteBehind(store.save, self._not_stored)

    # life

    def apply(self, snapshot: Snapshot) -> None:
        """Follow provisioning: new carriers start, removed ones unregister, changed ones do both; others go on."""
        if self._stopped:
            return
        self._snapshot = snapshot
        for name, line in list(self._lines.items()):
            wanted = snapshot.carriers.get(name)
            if wanted == line.carrier:
                continue
            if wanted is not None and _same_line(wanted, line.carrier):
                line.carrier = wanted
                continue
            del self._lines[name]
            # The Contact of old and new is the same: the old one has to be taken back before the new one is registered.
            self._successors[name] = line
            self._leave(line)
            asyncio.get_running_loop().call_later(_HANDOVER, self._succeed, line)
            if wanted is None:
                self._shown.pop(name, None)
                self._store(name, None)
        for name, carrier in snapshot.carriers.items():
            if name not in self._lines and name not in self._successors:
                self._begin(carrier)
        self._senders = Senders(self._lines.values())

    async def run(self) -> None:
        """Write states behind until `stop`; what the last run of this edge said is forgotten first."""
        if self._store_of is None or self._writer is None:
            return
        try:
            await self._store_of.clear()
        except AWAY as error:
            self._not_stored(error)
        await self._writer.run()

    async def stop(self, seconds: float = 4.0) -> None:
        """Unregister everywhere (T1.27), within so many seconds."""
        self._stopped = True
        for name, line in self._lines.items():
            self._leave(line)
            self._store(name, None)
        self._lines.clear()
        self._senders = Senders(self._lines.values())
        try:
            async with asyncio.timeout(seconds):
                while self._leaving:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            _log.warning("carriers.not_unregistered", carriers=sorted(line.carrier.name for line in self._leaving))
        for task in list(self._tasks):
            task.cancel()
        if self._writer is not None:
            self._writer.stop()

    def flow_closed(self, flow: Flow) -> None:
        """A connection is gone."""
        if flow.reliable:
            for line in [*self._lines.values(), *self._leaving]:
                line.flow_closed(flow)

    # calls

    async def way(
        self, name: str, *, anyway: bool = False, avoid: Collection[str | None] = (), patience: float = HOST_PATIENCE
    ) -> CarrierRoute:
        """How a call gets to this carrier now. Raises ConnectError or ResolveError, in words for the record.

        `anyway`: also where we are not registered there, or it counts as down (an emergency call has nothing to lose).
        `avoid`: outbound proxies that this call was sent to before. `patience`: seconds for one host to answer while
        there is another.
        """
        found = self._lines.get(name)
        if found is None:
            raise ConnectError(f"carrier {name} is not in use")
        line = found.pick(avoid)
        if line is None:
            line = next((each for each in found.lines if each.carrier.outbound_proxy not in avoid), None)
            if line is None:
                raise ConnectError(f"{name} has no other outbound proxy")
            if not anyway:
                standing = f"not registered with {name}" if found.carrier.mode == "register" else f"{name} is down"
                raise ConnectError(f"{standing}: {line.detail or line.state}")
        flow = line.flow
        if flow is not None and found.carrier.mode == "register":
            # the flow is part of the registration: no other host takes our calls
            now = self._driver.now()
            if not anyway and self.avoided.rests(flow.transport, flow.remote, now):
                raise ConnectError(f"{name}: {self.avoided.why(flow.transport, flow.remote, now)}")
            hosts = Hosts.only(flow, self._driver, self.avoided)
        else:
            hosts = await self._hosts(line.carrier, patience, anyway)
            flow = await hosts.first()
        return CarrierRoute(found.carrier, flow, list(line.routes), line.contact, line.carrier.outbound_proxy, hosts)

    async def _hosts(self, carrier: Carrier, patience: float, anyway: bool) -> Hosts:
        """The hosts that the next hop's name leads to, as a call is to try them."""
        hops = await self._resolver.resolve(hop_of(carrier))
        usable = self.avoided.usable(hops, self._driver.now(), anyway=anyway)
        if not usable:
            why = self.avoided.why(hops[0].transport, hops[0].address, self._driver.now())
            raise ConnectError(f"{carrier.name}: {hops[0].address} said {why}")
        return Hosts(usable, self._driver, self.avoided, self._spawn, patience=patience)

    def ways(self, name: str) -> int:
        """Over how many outbound proxies a call may be sent to this carrier now."""
        found = self._lines.get(name)
        return sum(line.up for line in found.lines) if found is not None else 0

    def call_unanswered(self, name: str, flow: Flow) -> None:
        """A call to this carrier over this flow got nothing back at all, for as long as a call waits for it."""
        found = self._lines.get(name)
        line = found.over(flow) if found is not None else None
        if line is not None:
            line.call_unanswered()
            if line.ears.suspect:
                self._suspects.add(flow)

    def call_answered(self, name: str, flow: Flow) -> None:
        """A call to this carrier over this flow got an answer, whatever it says."""
        if flow in self._suspects:
            self._suspects.discard(flow)
            found = self._lines.get(name)
            line = found.over(flow) if found is not None else None
            if line is not None:
                line.ears.call_answered()

    def authorize(self, name: str) -> Callable[[Request, Response], Request | None]:
        """Answers 401 and 407 of this carrier: gives the request again, with credentials and the next CSeq, or None
        where the carrier refused them or there are none. The digest is made for the Request-URI (T1.29)."""

        def again(request: Request, response: Response) -> Request | None:
            line = self._lines.get(name)
            if line is None:
                return None
            if request.to.tag is not None and not _realms(response) <= line.realms | {line.carrier.domain}:
                # a called party behind the carrier may challenge too, and would try passwords on our answer
                _log.warning("carrier.foreign_challenge", carrier=name, realms=sorted(_realms(response))[:5])
                return None
            judgement = line.login.judge(request, response)
            if judgement is not Judgement.RETRY:
                _log.warning(
                    "carrier.call_not_authorized", carrier=name, status=response.status, detail=judgement.value
                )
                return None
            copy = Request(request.method, request.uri, request.headers.copy(), request.body)
            copy.headers.remove("via")
            copy.headers.set("CSeq", f"{request.cseq.number + 1} {request.method}")
            line.login.apply(copy)
            return copy

        return again

    def preauthorize(self, name: str, request: Request) -> None:
        """Add credentials for the nonces that this carrier's challenges gave us, so that it need not ask again."""
        line = self._lines.get(name)
        if line is not None:
            line.login.apply(request)

    # who sends to us

    def registered_over(self, request: Request, flow: Flow) -> Carrier | None:
        """The carrier that we are registered with over this very flow (T1.25)."""
        return self._senders.registered_over(request, flow)

    def identify(self, request: Request, flow: Flow) -> Carrier | None:
        """The carrier that may send this request from there, None for strangers (T1.25)."""
        return self._senders.identify(request, flow)

    def at(self, host: str) -> bool:
        """Whether a carrier is at this address, as far as its next hops were resolved."""
        return self._senders.at(host)

    # what operators see

    def state(self, name: str) -> CarrierState | None:
        """How this carrier stands."""
        line = self._lines.get(name)
        return state_of(line, self.avoided, self._driver.now()) if line is not None else None

    def states(self) -> list[CarrierState]:
        """All carriers by name."""
        now = self._driver.now()
        return [state_of(line, self.avoided, now) for _, line in sorted(self._lines.items())]

    def up(self) -> dict[str, bool]:
        """By carrier: may calls be sent to it? For the metric."""
        return {name: line.up for name, line in self._lines.items()}

    # inside

    def _begin(self, carrier: Carrier) -> None:
        try:
            line = Proxies(carrier, self._ways, self._changed)
        except RemoteProtocolError as error:
            _log.error("carrier.bad_address", carrier=carrier.name, detail=error.detail)
            return
        self._lines[carrier.name] = line
        line.start()

    def _leave(self, line: Proxies) -> None:
        self._leaving.add(line)

        def done() -> None:
            self._leaving.discard(line)
            self._idle.set()
            self._succeed(line)

        line.stop(done)

    def _succeed(self, old: Proxies) -> None:
        """The place of a line that ended, or took too long to end, is free for its carrier as it is now."""
        name = old.carrier.name
        if self._successors.get(name) is not old:
            return
        del self._successors[name]
        carrier = self._snapshot.carriers.get(name)
        if carrier is not None and not self._stopped:
            self._begin(carrier)
            self._senders = Senders(self._lines.values())

    def _changed(self, line: Proxies) -> None:
        name = line.carrier.name
        if self._lines.get(name) is not line:
            return
        self._senders = Senders(self._lines.values())
        state = state_of(line, self.avoided, self._driver.now())
        shown = (state.state, state.detail, tuple(p.state for p in state.proxies))
        if self._shown.get(name) != shown:
            self._shown[name] = shown
            log = _log.info if state.up or not state.detail else _log.warning
            if state.state == "fault":
                log = _log.error
            log("carrier.state", carrier=name, state=state.state, detail=state.detail, status=state.status,
                remote=str(state.flow) if state.flow else "",
                **({"proxies": {p.proxy: p.state for p in state.proxies}} if state.proxies[1:] else {}))  # fmt: skip
        now, utc = self._driver.now(), self._clock.utcnow()
        until = state.registered_until
        row = CarrierStateRow(
            carrier=name,
            state=state.state,
            since=utc - timedelta(seconds=now - state.since),
            detail=state.detail or None,
            registered_until=utc + timedelta(seconds=until - now) if until is not None else None,
            remote=str(state.flow) if state.flow is not None else None,
            last_status=state.status,
        )
        self._store(name, row)

    def _store(self, name: str, row: CarrierStateRow | None) -> None:
        if self._writer is not None:
            self._writer.put(name, row)

    def _not_stored(self, error: Exception) -> None:
        _log.warning("carrier_states.not_stored", detail=str(error))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("internal_error", where="carriers", exc_info=error)
            self._internal_error("carriers")


_LINE_FIELDS = (
    "mode",
    "domain",
    "outbound_proxy",
    "secondary_proxies",
    "register_with",
    "transport",
    "username",
    "auth_username",
    "password",
    "gin",
    "expires",
)


def _same_line(a: Carrier, b: Carrier) -> bool:
    """Whether a change touches calls only (limits, identity, codecs ...), so that the registration can go on."""
    same = {field: getattr(b, field) for field in _LINE_FIELDS}
    return replace(a, **same) == a


def _realms(response: Response) -> frozenset[str]:
    fields = (*response.headers.get_all("www-authenticate"), *response.headers.get_all("proxy-authenticate"))
    return frozenset(unquote(f'"{challenge.realm}"') for challenge in read_challenges(fields))
