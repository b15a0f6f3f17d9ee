"""What every call needs of the rest of the edge: built once by `edge.app`, shared by all calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from config.snapshot import Snapshot
from dialplan.model import ChannelClaim
from edge.b2bua.call import CallTimers
from edge.b2bua.calls import Calls
from edge.b2bua.port import LegPort
from edge.carriers.runner import Carriers
from edge.cdr.record import Record
from edge.channels.ledger import LimitReached
from edge.defence.budgets import Budgets
from edge.observability.metrics import Metrics
from edge.observability.trace import Tap
from edge.registrar.registrar import Registrar
from edge.sip.flow import Flow
from edge.sip.timers import TimerConfig
from edge.sip.uri import Uri
from edge.transport.clock import Clock
from edge.transport.driver import Driver
from media.relay.port import MediaRelay


class Channels(Protocol):
    """The channel ledger (domain section 5)."""

    async def admit(self, call_id: str, claims: tuple[ChannelClaim, ...]) -> LimitReached | None:
        """Take all claims for this call, or none and say which limit stands against it. Never fails."""
        ...

    def release(self, call_id: str) -> None:
        """Give back all that this call took; twice is as good as once."""
        ...


class Records(Protocol):
    """Where records go; never blocks."""

    def put(self, record: Record) -> None: ...


@dataclass(slots=True)
class Engine:
    """The rooms that a call walks through. Only `call_timers` may be replaced; it holds for calls from then on."""

    name: str
    """This edge's name."""
    driver: Driver
    port: LegPort
    relay: MediaRelay
    registrar: Registrar
    carriers: Carriers
    channels: Channels
    records: Records
    metrics: Metrics
    tap: Tap
    calls: Calls
    clock: Clock
    snapshot: Callable[[], Snapshot]
    timers: TimerConfig
    call_timers: CallTimers
    domain: str
    """Host in From and To of calls towards seats and trunks."""
    reach: Reach
    fitting: Callable[[Flow, int], Awaitable[Flow]]
    """The flow for a request of so many bytes that would take this one; never fails."""
    draw: Callable[[], float]
    """A random number, 0 <= x < 1."""
    internal_error: InternalError
    budgets: Budgets
    srtp_without_tls: bool = False
    """SRTP keys may stand in signalling that is not encrypted."""

    def new_call_id(self) -> str:
        """An id for a call: what logs, records and commands call it by."""
        return self.port.ids.token()[:16]

    def wall(self, at: float | None) -> datetime | None:
        """Wall-clock time of a moment on the driver's clock."""
        if at is None:
            return None
        return self.clock.utcnow() - timedelta(seconds=self.driver.now() - at)


class Reach(Protocol):
    """A flow to a SIP URI."""

    def __call__(self, uri: Uri, certificate: str | None = None) -> Awaitable[Flow]:
        """`certificate`: over TLS, and what the server's certificate has to name, where that is not the URI's host.
        Raises ResolveError or ConnectError."""
        ...


class InternalError(Protocol):
    """Logs and counts a fault of ours."""

    def __call__(self, where: str, error: BaseException, **context: str) -> None: ...
