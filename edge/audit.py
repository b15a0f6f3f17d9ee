"""Whether the books balance: what rooms know of the same calls is compared every few seconds, beside the calls
(docs/metrics.md, "Books").

A check looks at two rooms that should agree and returns what does not. Rooms change between two looks (a record is in
a thread, a lease is on its way), so only what two checks in a row find is told: by the metric, and by a log line that
names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from uuid import UUID

from config.away import AWAY
from edge.b2bua.calls import Calls
from edge.cdr.writer import RecordWriter
from edge.channels.counts import Lease
from edge.observability.logging import get_logger

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.connection import Connection
    from asyncpg.pool import PoolConnectionProxy

    AnyConnection: TypeAlias = "Connection[Record] | PoolConnectionProxy[Record]"

Acquire: TypeAlias = "Callable[[], AbstractAsyncContextManager[AnyConnection]]"
"""Gives a connection for a while; a pool's `acquire`."""

INVARIANTS = (
    "attempts",
    "closing",
    "outcomes",
    "records",
    "spool",
    "channels",
    "relay",
    "leases",
    "live-list",
    "table",
)
EVERY = 5.0
DATABASE_EVERY = 30.0
_CLOSING_SECONDS = 10.0
"""A call that is over needs an answer of the relay, which takes at most two seconds, to be on record."""
_NAMED = 5

log = get_logger("books")


class Finding(NamedTuple):
    """What disagrees. `difference` is 0 where all is well. `culprits` name single calls where they are known, each with
    the way in which it disagrees after a space: a call that does in another way the next time has only ended."""

    difference: int = 0
    detail: str = ""
    culprits: frozenset[str] = frozenset()


Check = Callable[[], Finding]
DatabaseCheck = Callable[[], Awaitable[Finding]]


class Audit:
    """Runs checks and keeps what they found last."""

    def __init__(self, checks: Mapping[str, Check], database_checks: Mapping[str, DatabaseCheck] | None = None) -> None:
        """Both by the invariant's name (`INVARIANTS`). Database checks may raise what asyncpg raises."""
        self._checks = checks
        self._database_checks = database_checks or {}
        self.differences = dict.fromkeys((*checks, *self._database_checks), 0)
        """By invariant: how far apart the books are now; 0 where they balance."""
        self.disagreements = dict.fromkeys(self.differences, 0)
        """By invariant: how often they began to disagree."""
        self._before: dict[str, Finding] = {}
        self._stopping = asyncio.Event()

    def once(self) -> None:
        """Run the checks that need no database."""
        for name, check in self._checks.items():
            self._judge(name, check())

    async def once_database(self) -> None:
        """Run those that do."""
        for name, check in self._database_checks.items():
            self._judge(name, await check())

    async def run(self) -> None:
        """Work until `stop`."""
        until_database = DATABASE_EVERY
        while not await self._stopped_within(EVERY):
            self.once()
            until_database -= EVERY
            if until_database <= 0:
                until_database = DATABASE_EVERY
                try:
                    await self.once_database()
                except AWAY:
                    continue  # the rooms that need it say so

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    def _judge(self, name: str, found: Finding) -> None:
        before = self._before.get(name, Finding())
        self._before[name] = found
        difference = found.difference if before.difference else 0
        named: frozenset[str] = frozenset()
        if found.culprits:
            named = found.culprits & before.culprits
            difference = len(named)
        was, self.differences[name] = self.differences[name], difference
        if difference and not was:
            self.disagreements[name] += 1
            log.error(
                "books.disagree",
                invariant=name,
                difference=difference,
                detail=found.detail,
                calls=sorted({culprit.partition(" ")[0] for culprit in named})[:_NAMED] or None,
            )
        elif was and not difference:
            log.info("books.balanced", invariant=name)


# -- checks: one invariant each ----------------------------------------------------------------------------------------


def attempts(calls: Calls) -> Finding:
    """Begun = ended + up."""
    books = calls.books
    begun, ended, up = sum(books.begun.values()), sum(books.ended.values()), len(calls) + len(books.closing)
    return Finding(begun - ended - up, f"{begun} begun, {ended} ended, {up} up")


def closing(calls: Calls, now: float) -> Finding:
    """Each call that is over is soon on record."""
    late = frozenset(call for call, since in calls.books.closing.items() if now - since > _CLOSING_SECONDS)
    return Finding(len(late), "over for long, and not on record", late)


def outcomes(calls: Calls, counted: float) -> Finding:
    """The metric `sip_edge_calls_total` (`counted`, over all labels) counts each recorded call once."""
    return Finding(int(counted) - calls.books.records, f"metric {int(counted)}, books {calls.books.records}")


def records(calls: Calls, writer: RecordWriter) -> Finding:
    """One record per recorded call."""
    taken = writer.calls_taken
    return Finding(taken - calls.books.records, f"{taken} records, books {calls.books.records}")


def spool(writer: RecordWriter) -> Finding:
    """Each record is stored, waits, or is known to be lost."""
    came, gone, waiting = writer.recovered + writer.taken, writer.stored + writer.lost, writer.waiting
    return Finding(came - gone - waiting, f"{came} came, {gone} stored or lost, {waiting} wait")


def channels(calls: Calls, holders: Iterable[str]) -> Finding:
    """Only calls that are up hold channels."""
    up = {call.id for call in calls.live()}
    orphans = frozenset(holder for holder in holders if holder not in up and holder.partition("/")[0] not in up)
    return Finding(len(orphans), "channels are held by no live call", orphans)


def relay(calls: Calls, sessions: int) -> Finding:
    """No more relay sessions than calls."""
    up = len(calls) + len(calls.books.closing)
    return Finding(max(0, sessions - up), f"{sessions} relay sessions, {up} calls")


def _ways(too_many: Iterable[str], missing: Iterable[str]) -> frozenset[str]:
    return frozenset((*(f"{call} over" for call in too_many), *(f"{call} missing" for call in missing)))


async def leases(acquire: Acquire, instance: UUID, held: Callable[[], Collection[Lease]], *, shared: bool) -> Finding:
    """The shared counts hold of this edge what this edge holds."""
    if not shared:
        return Finding()  # told anew when it connects
    before = frozenset(held())
    async with acquire() as connection:
        rows = await connection.fetch(
            "SELECT call_id, level, key, direction, units FROM sip_edge.channel_leases WHERE instance = $1", instance
        )
    after, there = frozenset(held()), frozenset(tuple(row) for row in rows)
    calls = _ways((lease[0] for lease in there - before - after), (lease[0] for lease in (before & after) - there))
    return Finding(len(calls), "leases in the database are not what these calls hold", calls)


async def live_list(acquire: Acquire, instance: UUID, calls: Calls, current: Callable[[], bool]) -> Finding:
    """The table `live_calls` shows the calls of this edge. `current`: whether it can: not while the database is slow
    or counts this edge as lost, whose calls it then does not show (`channels.upkeep_failed`, `channels.counting_alone`
    say so)."""
    if not current():
        return Finding()
    before = {call.id for call in calls.live()}
    async with acquire() as connection:
        rows = await connection.fetch("SELECT id FROM sip_edge.live_calls WHERE instance = $1", instance)
    after, there = {call.id for call in calls.live()}, {str(row[0]) for row in rows}
    if not current():
        return Finding()
    wrong = _ways(there - before - after, (before & after) - there)
    return Finding(len(wrong), "the table live_calls differs from the calls that are up", wrong)


class Table:
    """Records that were stored are in the table: a sample of the newest, each looked for once when it is some time old.
    What is missing is looked for some minutes longer, so that somebody hears of it."""

    def __init__(self, acquire: Acquire, writer: RecordWriter) -> None:
        self._acquire = acquire
        self._writer = writer
        self._looks: dict[str, int] = {}

    async def __call__(self) -> Finding:
        """See the class."""
        writer, looks = self._writer, self._looks
        if writer.away or writer.waiting > _BACKLOG:
            return Finding()
        async with self._acquire() as connection:
            missing = frozenset(row[0] for row in await connection.fetch(_MISSING, list(looks))) - {*writer.set_aside}
        self._looks = {call: looks[call] + 1 for call in missing if looks[call] < _LOOKS}
        self._looks |= dict.fromkeys(writer.latest, 0)
        writer.latest.clear()
        return Finding(len(missing), "records that were stored are not in the table call_records", missing)


_MISSING = """SELECT x.id FROM unnest($1::text[]) AS x (id)
    WHERE NOT EXISTS (SELECT FROM sip_edge.call_records r WHERE r.id = x.id)
    AND NOT EXISTS (SELECT FROM sip_edge.erasures e WHERE x.id = ANY (e.calls))"""
_BACKLOG = 5000
"""Records that wait: some of the newest are among them."""
_LOOKS = 10
