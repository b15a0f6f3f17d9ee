"""Alarms: what somebody should look at, as a log line, a metric and a row that portals read and are notified of.

Nothing waits for them. The same alarm about the same thing is raised once in `QUIET` seconds.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from config.away import AWAY
from config.tables.storable import storable
from config.tables.write_behind import Acquire
from edge.observability.logging import get_logger

_log = get_logger("alarms")
QUIET = 600.0
_REMEMBERED = 10_000
_WAITING = 1_000
_EVERY = 1.0
_INSERT = (
    "INSERT INTO sip_edge.alarms (at, edge, kind, account, subject, detail)"
    " SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])"
)


class Alarm(NamedTuple):
    """`kind` from a fixed list (docs/security.md); `subject` is the source, user, number or budget it is about."""

    kind: str
    account: str | None
    subject: str
    detail: str


class Alarms:
    """Raises alarms, and writes them to the database when it is there. At most `_WAITING` wait; the oldest go."""

    def __init__(
        self,
        edge: str,
        now: Callable[[], float],
        utcnow: Callable[[], datetime],
        acquire: Acquire,
        counted: Callable[[str], None],
    ) -> None:
        """`counted` hears the kind of each (a metric)."""
        self._edge = edge
        self._now = now
        self._utcnow = utcnow
        self._acquire = acquire
        self._counted = counted
        self._raised: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._rows: deque[tuple[datetime, str, str, str | None, str, str]] = deque(maxlen=_WAITING)
        self._stopping = asyncio.Event()

    def raise_(self, alarm: Alarm) -> None:
        """Something looks like fraud or an attack."""
        key, now = (alarm.kind, alarm.subject), self._now()
        before = self._raised.get(key)
        if before is not None and now - before < QUIET:
            return
        self._raised[key] = now
        self._raised.move_to_end(key)
        if len(self._raised) > _REMEMBERED:
            self._raised.popitem(last=False)
        self._counted(alarm.kind)
        _log.warning("alarm.raised", kind=alarm.kind, account=alarm.account, subject=alarm.subject, detail=alarm.detail)
        row = (self._utcnow(), self._edge, *alarm)
        self._rows.append(tuple(map(storable, row)))  # type: ignore[arg-type]

    async def run(self) -> None:
        """Write what is raised, until `stop`."""
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(_EVERY):
                    await self._stopping.wait()
            except TimeoutError:
                pass
            with suppress(*AWAY):
                await self.write()

    async def write(self) -> None:
        """Write all that waits. Raises what asyncpg raises; then it still waits."""
        rows = list(self._rows)
        if rows:
            async with self._acquire() as connection:
                await connection.execute(_INSERT, *map(list, zip(*rows, strict=True)))
            for _ in rows:
                if self._rows:
                    self._rows.popleft()

    def stop(self) -> None:
        """Let `run` end after a last attempt."""
        self._stopping.set()
