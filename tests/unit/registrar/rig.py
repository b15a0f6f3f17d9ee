"""A registrar with a virtual clock, and a store that can be away."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from config.model import Ha1, Rows, Seat, Trunk
from config.snapshot import Snapshot
from config.tables.registrations import AorKey, RegistrationRow
from edge.registrar.registrar import Registrar
from edge.sip.flow import Flow
from edge.sip.message import Response

from .phones import UDP, register

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SEAT = Seat("201", "K1", extension="31", primary_number="+4930123", max_contacts=2)
OTHER = Seat("202", "K1")
PBX = Trunk("K1", "hq", username="hq")
BULK = Trunk("K1", "gin", mode="gin", username="bulk")
SNAPSHOT = Snapshot(Rows(seats=(SEAT, OTHER), trunks=(PBX, BULK)), 1)


class FakeClock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.origin = NOON

    def now(self) -> float:
        return self.seconds

    def utcnow(self) -> datetime:
        return self.origin + timedelta(seconds=self.seconds - 1000)


class Office:
    """A registrar and its phones."""

    def __init__(self, snapshot: Snapshot = SNAPSHOT) -> None:
        self.clock = FakeClock()
        self.registrar = Registrar(self.clock.utcnow)
        self.registrar.apply(snapshot)
        self._cseq = 0

    def send(self, who: Seat | Trunk, *contacts: str, flow: Flow = UDP, **how: object) -> Response:
        return self.answer(who, *contacts, flow=flow, **how)[0]

    def answer(self, who: Seat | Trunk, *contacts: str, flow: Flow = UDP, **how: object) -> tuple[Response, bool]:
        """The response, and whether it has to wait for the disk."""
        self._cseq += 1
        request = register(*contacts, cseq=self._cseq, **how)  # type: ignore[arg-type]
        return self.registrar.handle(request, flow, who, self.clock.now())

    def uris(self, kind: str, username: str) -> list[str]:
        found = self.registrar.contacts(kind, username, self.clock.now())  # type: ignore[arg-type]
        return [str(b.uri) for b in found]


class MemoryStore:
    """A registrations table in memory."""

    def __init__(self) -> None:
        self.rows: dict[AorKey, list[RegistrationRow]] = {}
        self.away = False
        self.saves = 0
        self.saved = asyncio.Event()

    async def load(self, now: datetime) -> list[RegistrationRow]:
        if self.away:
            raise ConnectionRefusedError("database is away")
        return [row for rows in self.rows.values() for row in rows if row.expires_at > now]

    async def save(self, changes: Mapping[AorKey, list[RegistrationRow]]) -> None:
        if self.away:
            raise ConnectionRefusedError("database is away")
        self.saves += 1
        self.rows.update(changes)
        self.saved.set()


def with_password(seat: Seat, password: str) -> Seat:
    return Seat(seat.username, seat.account, ha1=Ha1(password, password))
