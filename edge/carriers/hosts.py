"""The hosts behind one name, and what is remembered of them: requests go on to the next one (RFC 3263 section 4.3).

A host that did not answer is asked last for a while: 30 s, twice as long each time, 10 minutes at the most, or until it
answers. A host that said 503 with Retry-After is left alone for as long as it says (RFC 3261 section 21.5.4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.observability.logging import get_logger
from edge.sip.flow import Address, Flow, Transport
from edge.transport.errors import ConnectError
from edge.transport.resolver import ResolvedHop

_log = get_logger("carriers")
SILENT_FIRST = 30.0
SILENT_MOST = 600.0
RETRY_AFTER_MOST = 600.0
"""Seconds: a host that asks for more is asked again after that."""
_MOST = 1000


class Flows(Protocol):
    """What is needed of the driver."""

    async def flow_to(self, hop: ResolvedHop) -> Flow:
        """A flow to an address; raises ConnectError."""
        ...

    def now(self) -> float: ...


@dataclass(slots=True)
class _Known:
    until: float
    busy: bool
    times: int = 1
    asked: bool = False
    """It was only asked whether it is there (OPTIONS)."""


class Avoided:
    """Hosts that are left alone, or asked last. Times are seconds on the driver's clock."""

    __slots__ = ("_hosts",)

    def __init__(self) -> None:
        self._hosts: dict[tuple[Transport, Address], _Known] = {}

    def silent(self, transport: Transport, address: Address, now: float, *, asked: bool = False) -> None:
        """It did not answer, or takes no connection; `asked`: to OPTIONS."""
        known = self._hosts.get((transport, address))
        if known is None or known.busy:
            self._put(transport, address, _Known(now + SILENT_FIRST, False, asked=asked))
        elif known.until <= now:  # calls that were under way together found out the same
            known.times += 1
            known.asked = known.asked and asked
            known.until = now + min(SILENT_MOST, SILENT_FIRST * 2 ** min(known.times - 1, 10))

    def busy(self, transport: Transport, address: Address, seconds: float, now: float) -> None:
        """It asked to be left alone for so many seconds."""
        if seconds > 0:
            self._put(transport, address, _Known(now + min(seconds, RETRY_AFTER_MOST), True))

    def heard(self, transport: Transport, address: Address, *, asked: bool = False) -> None:
        """It answered. What it asked for holds on, and who answers OPTIONS may still take no calls."""
        known = self._hosts.get((transport, address))
        if known is not None and not known.busy and (known.asked or not asked):
            del self._hosts[(transport, address)]

    def rests(self, transport: Transport, address: Address, now: float) -> bool:
        """Whether it asked to be left alone."""
        known = self._hosts.get((transport, address))
        return known is not None and known.busy and known.until > now

    def is_silent(self, transport: Transport, address: Address, now: float) -> bool:
        """Whether it is to be asked last."""
        known = self._hosts.get((transport, address))
        return known is not None and not known.busy and known.until > now

    def why(self, transport: Transport, address: Address, now: float) -> str:
        """For operators; empty for hosts that are used as any other."""
        known = self._hosts.get((transport, address))
        if known is None or known.until <= now:
            return ""
        said = "503, left alone" if known.busy else "no answer, asked last"
        return f"{said} for {max(1, round(known.until - now))} s"

    def usable(self, hops: Sequence[ResolvedHop], now: float, *, anyway: bool = False) -> list[ResolvedHop]:
        """In the order to try them: those that are silent last, those that rest not at all unless `anyway`."""
        if not self._hosts:
            return list(hops)
        kept = [h for h in hops if anyway or not self.rests(h.transport, h.address, now)]
        silent = [h for h in kept if self.is_silent(h.transport, h.address, now)]
        return [*(h for h in kept if h not in silent), *silent]

    def _put(self, transport: Transport, address: Address, known: _Known) -> None:
        if len(self._hosts) >= _MOST:
            self._hosts.clear()
        self._hosts[(transport, address)] = known


class Hosts:
    """The walk of one request from host to host.

    `walked` says what came of which host, for the record.
    """

    __slots__ = ("_avoided", "_driver", "_fitting", "_left", "_more_than_one", "_spawn", "patience", "walked")

    def __init__(
        self,
        hops: Sequence[ResolvedHop],
        driver: Flows,
        avoided: Avoided,
        spawn: Callable[[Coroutine[None, None, None]], None],
        *,
        patience: float,
    ) -> None:
        """`hops` in the order to try them; `patience`: seconds for a host to answer, or to take a connection, while
        there is another. `spawn` runs a task and reports its faults."""
        self._left = list(hops)
        self._more_than_one = len(self._left) > 1
        self._driver = driver
        self._avoided = avoided
        self._spawn = spawn
        self.patience = patience
        self.walked: list[str] = []

    @property
    def several(self) -> bool:
        """Whether there was more than one from the beginning: else there is nothing to be impatient for."""
        return self._more_than_one

    @property
    def more(self) -> bool:
        """Whether there is another one to go on to."""
        return bool(self._left)

    @classmethod
    def only(cls, flow: Flow, driver: Flows, avoided: Avoided) -> Hosts:
        """A flow that is given, such as that of a registration; what its host says is remembered all the same."""
        made = cls((), driver, avoided, _never, patience=0.0)
        made.walked.append(_name(flow.transport, flow.remote))
        return made

    async def first(self) -> Flow:
        """A flow to the first host that can be had. Raises ConnectError of the last one."""
        failure: ConnectError | None = None
        while self._left:
            hop = self._left.pop(0)
            self.walked.append(_name(hop.transport, hop.address))
            try:
                return await self._flow_to(hop)
            except ConnectError as error:
                failure = error
                self._avoided.silent(hop.transport, hop.address, self._driver.now())
                self._note("no connection")
        raise failure or ConnectError("there is no host that may be asked")

    async def _flow_to(self, hop: ResolvedHop) -> Flow:
        if hop.transport == "udp" or not self._left:
            return await self._driver.flow_to(hop)
        try:
            async with asyncio.timeout(self.patience):
                return await self._driver.flow_to(hop)
        except TimeoutError as error:
            raise ConnectError(f"{hop.transport} {hop.address} did not answer within {self.patience:g} s") from error

    def next(self, then: Callable[[Flow | None], None]) -> None:
        """Go on to the next host that can be had; `then` gets a flow, or None where there is none left."""

        async def walk() -> None:
            try:
                flow: Flow | None = await self.first()
            except ConnectError:
                flow = None
            then(flow)

        self._spawn(walk())

    def silent(self, flow: Flow) -> None:
        """The host that was asked did not answer."""
        self._avoided.silent(flow.transport, flow.remote, self._driver.now())
        self._note("no answer")

    def refused(self, flow: Flow, retry_after: float | None) -> None:
        """The host that was asked said 503."""
        if retry_after is not None:
            self._avoided.busy(flow.transport, flow.remote, retry_after, self._driver.now())
        self._note("503")

    def heard(self, flow: Flow) -> None:
        """The host that was asked answered something."""
        self._avoided.heard(flow.transport, flow.remote)

    def _note(self, what: str) -> None:
        if self.walked and ": " not in self.walked[-1]:
            _log.info("host.left", host=self.walked[-1], detail=what)
            self.walked[-1] += f": {what}"


def _name(transport: Transport, address: Address) -> str:
    return f"{transport} {address}"


def _never(work: Coroutine[None, None, None]) -> None:
    work.close()
