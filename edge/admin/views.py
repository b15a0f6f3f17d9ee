"""What the admin HTTP shows, as values: the composition root makes them from the live rooms when somebody asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from dialplan.explain import Question


@dataclass(frozen=True, slots=True)
class CallView:
    """A call that is up. Times are aware UTC."""

    id: str
    state: str
    """routing, ringing, up, ending."""
    direction: str
    source: str
    """`seat a.mueller`, `trunk hq`, `carrier telekom`."""
    target: str
    account: str | None
    caller: str
    """`anonymous` where withheld."""
    called: str
    started_at: datetime
    answered_at: datetime | None
    a_call_id: str
    b_call_id: str | None


@dataclass(frozen=True, slots=True)
class RegistrationView:
    """One contact of a seat or trunk."""

    kind: str
    """seat or trunk."""
    name: str
    account: str
    contact: str
    flow: str
    """Transport and address that it registered from."""
    user_agent: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ProxyView:
    """One outbound proxy of a carrier."""

    proxy: str
    state: str
    usable: bool
    since: datetime | None
    detail: str
    avoided: tuple[str, ...] = ()
    """Hosts behind its name that are asked last or left alone now, each with why."""


@dataclass(frozen=True, slots=True)
class CarrierView:
    """A carrier and what is known of it."""

    name: str
    mode: str
    """register or static."""
    state: str
    """stopped, registering, registered, deaf, retrying, fault, unregistering; static: up, down."""
    usable: bool
    """May calls be sent to it?"""
    since: datetime | None
    next_attempt_at: datetime | None
    last_answer: str
    """The last answer to REGISTER or OPTIONS in words: `200 OK`, `no answer from 203.0.113.5:5060`."""
    calls: int
    max_calls: int | None
    proxies: tuple[ProxyView, ...] = ()
    """Its outbound proxies in their order."""


@dataclass(frozen=True, slots=True)
class LimitView:
    """A channel limit that calls of this edge count against."""

    level: str
    """number, trunk, account or carrier."""
    key: str
    direction: str
    used: int
    """By calls of this edge; the table `channel_usage` has those of all edges."""
    limit: int


class Records(Protocol):
    """Reads what was written: `edge.cdr.tables.PostgresRecords`. Methods raise what asyncpg raises."""

    async def refusals(
        self,
        since: datetime,
        number: str | None = None,
        account: str | None = None,
        limit: int = 200,
        *,
        limits_only: bool = False,
    ) -> list[dict[str, object]]: ...

    async def find(self, key: str) -> dict[str, object] | None: ...


class Faxes(Protocol):
    """What is asked of faxes: `edge.fax.desk.FaxDesk`. Methods raise what asyncpg raises."""

    async def listed(self, account: str | None, since: datetime, limit: int) -> list[dict[str, object]]: ...

    async def shown(self, fax: str) -> dict[str, object] | None: ...

    async def resend(self, fax: str) -> bool: ...

    async def send(self, account: str, number: str, to: str, pdf: bytes, resolution: str) -> str:
        """Begin to send a PDF; the fax's id. Raises ValueError with the reason."""
        ...


class BanView(Protocol):
    """A source, or a user from it, that is not heard: `edge.inbound.bans.Ban`."""

    @property
    def source(self) -> str: ...
    @property
    def user(self) -> str | None: ...
    @property
    def until(self) -> datetime: ...
    @property
    def reason(self) -> str: ...


class Bans(Protocol):
    """What is asked of bans: `edge.inbound.bans.Bans`. `add` and `lift` raise ValueError in words."""

    def listed(self) -> Sequence[BanView]: ...

    def add(self, source: str, how_long: timedelta) -> str: ...

    def lift(self, source: str, user: str | None) -> bool: ...


class AdminViews(Protocol):
    """What the composition root gives to the admin HTTP. All but `records` and `faxes` answer at once from memory."""

    @property
    def records(self) -> Records: ...

    @property
    def faxes(self) -> Faxes: ...

    @property
    def bans(self) -> Bans: ...

    def calls(self) -> Sequence[CallView]: ...

    def registrations(self) -> Sequence[RegistrationView]: ...

    def carriers(self) -> Sequence[CarrierView]: ...

    def limits(self) -> Sequence[LimitView]: ...

    def so_far(self, call: str) -> Mapping[str, object] | None:
        """The record that a call that is up would leave if it ended now (`table` is `live`, `outcome` its state).

        By our id or a SIP Call-ID; None where there is no such call.
        """
        ...

    def explain(self, question: Question) -> str:
        """What would become of a call. Raises ValueError where its source is not provisioned."""
        ...

    def missing(self) -> Sequence[str]:
        """What keeps this edge from taking calls, in words (`provisioning not loaded`, `relay away`, `draining`)."""
        ...

    def ladder(self, key: str, messages: bool) -> str | None:
        """The ladder of a call (`last`: the newest), with its messages; None where nothing is kept of it."""
        ...

    def pcap(self, key: str) -> bytes | None:
        """The same as a capture file."""
        ...

    def metrics(self) -> bytes:
        """Prometheus text."""
        ...

    def utc(self) -> datetime:
        """Wall clock."""
        ...

    async def reload(self) -> tuple[Sequence[str], Sequence[str]]:
        """Read settings and certificates again: names of what changed, and of what changed and wants a restart. Raises
        ConfigError; then nothing changed."""
        ...

    async def erase(self) -> int:
        """Carry out now what `privacy erase` asked for; how many messages and files went. Raises what asyncpg
        raises."""
        ...

    def budgets(self) -> Sequence[Mapping[str, object]]:
        """Each budget: level, key, limits and what is used of them."""
        ...

    async def reset_budget(self, level: str, key: str) -> bool:
        """Count a budget anew; False where there is none. Raises what asyncpg raises."""
        ...

    def upgrade(self) -> int:
        """Let the program that is installed now take the place of this one; how many calls go on."""
        ...

    def drain(self) -> int:
        """Take no new calls from now on and end when the last is over; how many are up."""
        ...
