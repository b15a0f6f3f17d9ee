"""The purge: the one job that deletes what has reached its age (`edge.retention.kept`), once a minute; refused calls to
the second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import structlog

from config.away import AWAY
from edge.retention.kept import FILES, REFUSED_AGE, ROWS, SIX_MONTHS, age_of

if TYPE_CHECKING:
    from asyncpg import Record as Row
    from asyncpg.connection import Connection
    from asyncpg.pool import PoolConnectionProxy

AnyConnection: TypeAlias = "Connection[Row] | PoolConnectionProxy[Row]"
Acquire: TypeAlias = Callable[[], AbstractAsyncContextManager[AnyConnection]]
"""Gives a connection for a while; a pool's `acquire`."""

Delete: TypeAlias = Callable[[timedelta], int]
"""Deletes what is at least so old; how much went. Does not raise."""

EVERY = 60.0


class Purged(NamedTuple):
    """What went, by the names of `edge.retention.kept.ROWS`, and when the next refused call will have reached its age
    (None: there is none)."""

    gone: Mapping[str, int]
    next_refused: datetime | None


class Purger(Protocol):
    """What forgets: `PostgresPurge`."""

    async def purge(self, now: datetime, keep_calls: timedelta) -> Purged: ...


class PostgresPurge:
    """Purges the tables through connections that `acquire` gives."""

    def __init__(self, acquire: Acquire) -> None:
        self._acquire = acquire

    async def purge(self, now: datetime, keep_calls: timedelta) -> Purged:
        """Delete what has reached its age as of `now`. Raises what asyncpg raises."""
        gone = {}
        async with self._acquire() as connection:
            for row in ROWS:
                status: str = await connection.execute(row.statement, now - age_of(row, keep_calls))
                gone[row.what] = int(status.rpartition(" ")[2])
            oldest: datetime | None = await connection.fetchval("SELECT min(at) FROM sip_edge.refused_calls")
        return Purged(gone, oldest + REFUSED_AGE if oldest is not None else None)


class PurgeJob:
    """Deletes from the database (`records`) and from memory and disk (`files`: by the name in `kept.FILES`).

    `utc` gives the wall clock (aware, UTC); `keep_calls`: how long call records are kept, at most six months;
    `purged` hears how much of what went. While `utc` is not `trusted` nothing is deleted.
    """

    def __init__(
        self,
        records: Purger,
        utc: Callable[[], datetime],
        keep_calls: timedelta = SIX_MONTHS,
        files: Mapping[str, Delete] | None = None,
        purged: Callable[[Mapping[str, int]], None] = lambda gone: None,
        trusted: Callable[[], bool] = lambda: True,
    ) -> None:
        if not timedelta(0) < keep_calls <= SIX_MONTHS:
            raise ValueError(f"call records may be kept for at most {SIX_MONTHS.days} days, not {keep_calls}")
        self._records = records
        self._utc = utc
        self.keep_calls = keep_calls
        """May be replaced at any time."""
        self._files = files or {}
        self._purged = purged
        self._trusted = trusted
        self._closing = asyncio.Event()
        self._log = structlog.get_logger(room="retention")

    async def once(self) -> float:
        """Purge now; seconds until it is worth doing again. A database that is away is tried again after a minute."""
        if not self._trusted():
            return EVERY
        now = self._utc()
        gone = {f.what: self._files[f.what](age_of(f, self.keep_calls)) for f in FILES if f.what in self._files}
        wait = EVERY
        try:
            purged = await self._records.purge(now, self.keep_calls)
            gone |= purged.gone
            if purged.next_refused is not None:
                wait = min(EVERY, max(0.05, (purged.next_refused - now).total_seconds()))
        except AWAY as e:
            self._log.warning("records.purge_failed", error=f"{type(e).__name__}: {e}")
        gone = {what: count for what, count in gone.items() if count}
        if gone:
            self._purged(gone)
            self._log.info("records.purged", **{what.replace("-", "_"): count for what, count in gone.items()})
        return wait

    async def run(self) -> None:
        """Work until `close`."""
        while not self._closing.is_set():
            wait = await self.once()
            try:
                async with asyncio.timeout(wait):
                    await self._closing.wait()
            except TimeoutError:
                pass

    def close(self) -> None:
        """Let `run` end."""
        self._closing.set()
