"""Takes records from the call path and brings each into the database exactly once, whatever happens meanwhile.

`put` encodes a record and returns. Four times a second what came together is written to the spool and synced (group
commit); only then it goes to the database. So a database that is away costs nothing but disk, and a crash of the
process or the machine costs at most the records of the last interval. Where the disk fails, records go straight to the
database.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import asyncpg
import orjson
import structlog

from config.away import AWAY
from edge.cdr.record import CallRecord, Record, to_json
from edge.cdr.spool import Batch, Spool

MAX_PENDING = 100_000
"""Records held in memory while neither disk nor database take them."""
_SAMPLE = 100
_DATABASE_TIMEOUT = 20.0
_FIRST_RETRY, _LAST_RETRY = 0.5, 15.0
_SPOOL_RETRY = 1.0

_CALL, _REFUSED = b"C", b"R"
_REFUSED_BY_DATABASE = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""Errors that are the record's own fault; every other is the database's and passes."""


class RecordStore(Protocol):
    """Where records end: `edge.cdr.tables.PostgresRecords`."""

    async def insert(self, calls: Sequence[bytes], refused: Sequence[bytes]) -> None: ...


class RecordCounters(Protocol):
    """What is counted: `edge.observability.metrics.Metrics`."""

    def records_stored(self, table: str, count: int) -> None: ...

    def records_lost(self, table: str, count: int) -> None: ...

    def record_failure(self, where: str) -> None: ...


class RecordWriter:
    """Writes records through `spool` into `store`; `interval` (seconds, at most 1) is what a crash may cost."""

    def __init__(self, spool: Spool, store: RecordStore, counters: RecordCounters, interval: float = 0.25) -> None:
        if not 0 < interval <= 1:
            raise ValueError(f"the interval of the record writer is {interval} s: it must be over 0 and at most 1")
        self._spool = spool
        self._store = store
        self._counters = counters
        self._interval = interval
        self.on_call: Callable[[str, bytes, int], None] = lambda call_id, line, number: None
        """Hears of every record of a call, as it is stored, with its number (see `synced`)."""
        self.on_refused: Callable[[str, bytes, int], None] = lambda record_id, line, number: None
        """The same for refused calls."""
        self._pending: list[bytes] = []
        self.taken = 0
        """Records that `put` was given."""
        self.calls_taken = 0
        """Those of them that are call records."""
        self.latest: deque[str] = deque(maxlen=_SAMPLE)
        """Ids of the newest call records that `put` was given, for whoever looks whether they come to be there."""
        self.set_aside: deque[str] = deque(maxlen=_SAMPLE)
        """Ids of the newest that the database refused."""
        self.stored = 0
        self.lost = 0
        """Not kept, or set aside."""
        self._on_the_way = 0
        # What is in the spool, counted here: the spool counts in a thread, which is ahead of us while the loop is busy.
        self._kept = spool.waiting
        self._broken = spool.recovered
        self._numbered = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due = asyncio.Event()
        self._spooled = asyncio.Event()
        self._advanced = asyncio.Event()
        self._closing = asyncio.Event()
        self._all_spooled = False
        self._away = False
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="record-spool")
        self._log = structlog.get_logger(room="cdr")

    @property
    def waiting(self) -> int:
        """Records not yet in the database."""
        unreadable = self._broken - self._spool.recovered
        return self._kept - unreadable + len(self._pending) + self._on_the_way

    @property
    def recovered(self) -> int:
        """Records that an earlier run left in the spool."""
        return self._spool.recovered

    @property
    def away(self) -> bool:
        """Whether the database did not take records at the last attempt."""
        return self._away

    def put(self, record: Record) -> None:
        """Take a record; costs the encoding and never waits. To be called in the event loop."""
        self.taken += 1
        mark = _REFUSED
        if isinstance(record, CallRecord):
            self.calls_taken += 1
            mark = _CALL
        if len(self._pending) >= MAX_PENDING:
            self._lost(_table(record), 1)
            return
        line = mark + to_json(record)
        self._pending.append(line)
        self._numbered += 1
        if mark is _CALL:
            self.latest.append(record.id)
            # a copy: what orjson returns takes up to ten times its length for as long as it lives
            self.on_call(record.id, line[1:], self._numbered)
        else:
            self.on_refused(record.id, line[1:], self._numbered)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._due.set)

    @property
    def unsynced(self) -> bool:
        """Whether there are records that a crash would cost."""
        return bool(self._pending or self._on_the_way)

    @property
    def synced(self) -> int:
        """Number of the last record that no crash would cost, nor any before it."""
        return self._numbered - len(self._pending) - self._on_the_way

    async def settled(self, seconds: float) -> None:
        """Wait until nothing is on its way into the database, for so many seconds at the most."""
        self._due.set()
        try:
            async with asyncio.timeout(seconds):
                while self.waiting:
                    self._advanced.clear()
                    await self._advanced.wait()
        except TimeoutError:
            pass

    def put_again(self, line: bytes, *, refused: bool = False) -> None:
        """Take the record of a call, or of a refused one (`to_json`), that an earlier process wrote, and may have
        stored."""
        self.taken += 1
        self._numbered += 1
        self._pending.append((_REFUSED if refused else _CALL) + line)
        self._due.set()

    async def run(self) -> None:
        """Work until `close`; when cancelled, what is pending is still written to the spool."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._fill_spool())
                tasks.create_task(self._drain_spool())
        finally:
            self._disk.shutdown(wait=True)
            self._spool_the_rest()
            self._spool.close()

    def close(self) -> None:
        """Let `run` end: what is pending is spooled, and stored where the database answers at the first try."""
        self._closing.set()
        self._due.set()
        self._spooled.set()

    async def _fill_spool(self) -> None:
        loop = asyncio.get_running_loop()
        while not (self._closing.is_set() and not self._pending):
            await self._due.wait()
            self._due.clear()
            self._timer = None
            lines, self._pending = self._pending, []
            if not lines:
                continue
            self._on_the_way = len(lines)
            try:
                await asyncio.shield(loop.run_in_executor(self._disk, self._spool.append, lines))
            except OSError as e:
                self._pending[:0], self._on_the_way = lines, 0
                self._counters.record_failure("spool")
                self._disk_failed(len(lines), e)
                if await self._into_database(lines):
                    del self._pending[: len(lines)]
                elif self._closing.is_set():
                    break
                else:
                    self._timer = loop.call_later(_SPOOL_RETRY, self._due.set)
            else:
                self._kept += len(lines)
                self._spooled.set()
            finally:
                self._on_the_way = 0
        self._all_spooled = True
        self._spooled.set()

    def _spool_the_rest(self) -> None:
        lines, self._pending = self._pending, []
        if not lines:
            return
        try:
            self._spool.append(lines)
            self._kept += len(lines)
        except OSError as e:
            for table, mark in (("call_records", _CALL), ("refused_calls", _REFUSED)):
                self._lost(table, sum(line[:1] == mark for line in lines))
            self._log.error("records.lost", records=len(lines), error=str(e))

    def _lost(self, table: str, count: int) -> None:
        self.lost += count
        self._counters.records_lost(table, count)

    async def _drain_spool(self) -> None:
        loop = asyncio.get_running_loop()
        batch: Batch | None = None
        retry = _FIRST_RETRY
        while True:
            self._spooled.clear()
            try:
                batch = await loop.run_in_executor(self._disk, self._spool.advance, batch)
            except OSError as e:
                self._counters.record_failure("spool")
                self._log.error("records.spool_unreadable", error=str(e))
                batch = None
                if await self._closed_within(_LAST_RETRY):
                    return
                continue
            self._advanced.set()
            if batch is None:
                if self._all_spooled:
                    return
                await self._spooled.wait()
                continue
            while not await self._into_database(batch.lines):
                if await self._closed_within(retry):
                    return
                retry = min(retry * 2, _LAST_RETRY)
            self._kept -= len(batch.lines)
            retry = _FIRST_RETRY

    async def _closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return False
        return True

    async def _into_database(self, lines: list[bytes]) -> bool:
        calls = [line[1:] for line in lines if line[:1] == _CALL]
        refused = [line[1:] for line in lines if line[:1] == _REFUSED]
        try:
            async with asyncio.timeout(_DATABASE_TIMEOUT):
                await self._store.insert(calls, refused)
        except _REFUSED_BY_DATABASE as e:
            return await self._without_bad_one(lines, e)
        except AWAY as e:
            self._counters.record_failure("database")
            if not self._away:
                self._away = True
                self._log.warning("records.database_away", waiting=self.waiting, error=f"{type(e).__name__}: {e}")
            return False
        if self._away:
            self._away = False
            self._log.info("records.database_back", waiting=self.waiting)
        self.stored += len(lines)
        if calls:
            self._counters.records_stored("call_records", len(calls))
        if refused:
            self._counters.records_stored("refused_calls", len(refused))
        return True

    def _disk_failed(self, records: int, error: OSError) -> None:
        self._log.error(
            "records.spool_failed",
            records=records,
            error=str(error),
            folder=str(self._spool.folder),
            remedy="make room on its disk, or mend its rights; until then records go straight to the database",
        )

    async def _without_bad_one(self, lines: list[bytes], error: Exception) -> bool:
        if len(lines) > 1:
            half = len(lines) // 2
            return await self._into_database(lines[:half]) and await self._into_database(lines[half:])
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._disk, self._spool.set_aside, lines[0], str(error))
        except OSError as e:
            self._counters.record_failure("spool")
            self._disk_failed(1, e)
            return False
        self._lost("call_records" if lines[0][:1] == _CALL else "refused_calls", 1)
        self.set_aside.append(str(orjson.loads(lines[0][1:])["id"]))
        self._log.error("records.refused_by_database", error=str(error), kept_in="rejected.records")
        return True


def _table(record: Record) -> str:
    return "call_records" if isinstance(record, CallRecord) else "refused_calls"
