"""The record writer: exactly once, in order, whatever fails."""

import asyncio
import os
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from edge.cdr.spool import Spool
from edge.cdr.writer import RecordWriter
from tests.unit.cdr.records import Counts, FakeStore, call, refused

AWAY = ConnectionRefusedError("no database")


@asynccontextmanager
async def running(folder: Path, store: FakeStore, counts: Counts) -> AsyncIterator[RecordWriter]:
    """A writer at work; closed in the end as the daemon does it."""
    writer = RecordWriter(Spool(folder), store, counts, interval=0.01)
    work = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        writer.close()
        await work


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds; the test's time limit ends it."""
    while not condition():
        await _turn()


async def _turn() -> None:
    waiting = asyncio.Event()
    asyncio.get_running_loop().call_later(0.005, waiting.set)
    await waiting.wait()


async def test_records_of_both_kinds_reach_the_database_once_and_in_order(tmp_path: Path) -> None:
    """The normal day."""
    store, counts = FakeStore(), Counts()
    async with running(tmp_path, store, counts) as writer:
        for n in range(20):
            writer.put(call(f"c{n}"))
        writer.put(refused("r0"))
        await until(lambda: len(store.ids) == 21)
        writer.put(call("late"))
    assert store.ids == [*(f"c{n}" for n in range(20)), "r0", "late"]
    assert (counts.stored, counts.lost, counts.failures) == (22, 0, [])
    assert not any(name.endswith(".records") for name in os.listdir(tmp_path))


async def test_it_says_which_records_are_safe_while_others_wait(tmp_path: Path) -> None:
    """Whoever keeps records until they are on disk lets go of the first ones, though there is always another."""
    store, counts = FakeStore(), Counts()
    numbers: list[int] = []
    async with running(tmp_path, store, counts) as writer:
        writer.on_call = lambda call_id, line, number: numbers.append(number)
        writer.put(call("c1"))
        writer.put(refused("r1"))
        writer.put(call("c2"))
        assert numbers == [1, 3] and writer.synced == 0
        await until(lambda: writer.synced == 3)
        writer.put(call("c3"))
        assert numbers[-1] == 4 and writer.synced == 3 and writer.unsynced


async def test_who_asks_for_records_gets_the_newest(tmp_path: Path) -> None:
    """Those on the way into the database are waited for; not for ever where it is away."""
    store, counts = FakeStore(), Counts()
    async with running(tmp_path, store, counts) as writer:
        writer.put(call("c1"))
        assert store.ids == []
        await writer.settled(5.0)
        assert store.ids == ["c1"]
        store.away = AWAY
        writer.put(call("c2"))
        await writer.settled(0.05)
        assert store.ids == ["c1"] and writer.waiting == 1


async def test_records_that_are_kept_take_no_more_room_than_their_text(tmp_path: Path) -> None:
    """The journal keeps them until they are on disk, which may be long; orjson gives bytes of ten times the room."""
    writer = RecordWriter(Spool(tmp_path), FakeStore(), Counts())
    kept: list[bytes] = []
    writer.on_call = lambda call_id, line, number: kept.append(line)
    tracemalloc.start()
    try:
        for n in range(100):
            writer.put(call(f"c{n}"))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    length = sum(map(len, kept))
    assert taken < 3 * length  # once here, once on the way to the disk


async def test_whatever_an_outage_is_called_the_writer_goes_on(tmp_path: Path) -> None:
    """A server that closes the connection just as a statement is sent: asyncpg calls that a fault of its own."""
    store, counts = FakeStore(), Counts()
    store.away = asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")
    async with running(tmp_path, store, counts) as writer:
        writer.put(call("c1"))
        await until(lambda: store.tried >= 1)
        store.away = None
        await until(lambda: store.ids == ["c1"])
    assert counts.failures == ["database"]


async def test_an_outage_costs_nothing_and_the_backlog_comes_in_order(tmp_path: Path) -> None:
    """Database away: records wait on disk, calls go on; back: the oldest first, each once."""
    store, counts = FakeStore(), Counts()
    store.away = AWAY
    async with running(tmp_path, store, counts) as writer:
        for n in range(10):
            writer.put(call(f"c{n}"))
        await until(lambda: store.tried >= 1)
        for n in range(10, 20):
            writer.put(call(f"c{n}"))
        await until(lambda: writer._spool.waiting == 20 and not writer.unsynced)
        assert store.ids == [] and writer.waiting == 20
        store.away = None
        await until(lambda: writer.waiting == 0)
    assert store.ids == [f"c{n}" for n in range(20)]
    assert set(counts.failures) == {"database"} and counts.lost == 0


async def test_a_restart_during_an_outage_loses_nothing(tmp_path: Path) -> None:
    """Stopped while the database is away, the next start stores what waited, before its own."""
    store, counts = FakeStore(), Counts()
    store.away = AWAY
    async with running(tmp_path, store, counts) as writer:
        writer.put(call("c1"))
        writer.put(refused("r1"))
    assert store.ids == []
    store.away = None
    async with running(tmp_path, store, counts) as writer:
        assert writer.waiting == 2
        writer.put(call("c2"))
    assert store.ids == ["c1", "r1", "c2"]


async def test_a_cancelled_writer_still_spools(tmp_path: Path) -> None:
    """Cancelled from outside, what was put is on disk."""
    store = FakeStore()
    writer = RecordWriter(Spool(tmp_path), store, Counts(), interval=1.0)
    work = asyncio.create_task(writer.run())
    await _turn()
    writer.put(call("c1"))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    async with running(tmp_path, store, Counts()):
        pass
    assert store.ids == ["c1"]


async def test_an_answer_that_was_lost_stores_nothing_twice(tmp_path: Path) -> None:
    """The database committed and the connection broke before it could say so: the same records go again, and the
    store's keys make it once."""
    store, counts = FakeStore(), Counts()
    honest = store.insert

    async def commit_and_break(calls: list[bytes], refused: list[bytes]) -> None:
        await honest(calls, refused)
        if store.tried == 1:
            raise ConnectionResetError("gone")

    store.insert = commit_and_break  # type: ignore[method-assign, assignment]
    async with running(tmp_path, store, counts) as writer:
        writer.put(call("c1"))
        await until(lambda: store.tried == 2)
    assert store.ids == ["c1"]


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InvalidTextRepresentationError("bad inet"),
        asyncpg.NotNullViolationError("x"),
        asyncpg.ProgramLimitExceededError("row"),
    ],
)
async def test_one_bad_record_does_not_hold_up_the_others(tmp_path: Path, error: Exception) -> None:
    """A record that the database refuses is set aside, counted and kept for a person; all others are stored."""
    store, counts = FakeStore(), Counts()
    store.refuses["c7"] = error
    async with running(tmp_path, store, counts) as writer:
        for n in range(20):
            writer.put(call(f"c{n}"))
        await until(lambda: counts.lost == 1 and writer.waiting == 0)
    assert store.ids == [f"c{n}" for n in range(20) if n != 7]
    kept = (tmp_path / "rejected.records").read_bytes()
    assert kept.count(b'"id":"c7"') == 1 and str(error).encode() in kept


async def test_a_schema_fault_is_an_outage_and_no_fault_of_the_records(tmp_path: Path) -> None:
    """A missing table or privilege is mended by an operator: nothing is set aside."""
    store, counts = FakeStore(), Counts()
    store.away = asyncpg.UndefinedTableError("no table")
    async with running(tmp_path, store, counts) as writer:
        writer.put(call("c1"))
        await until(lambda: store.tried >= 1)
        store.away = None
        await until(lambda: store.ids == ["c1"])
    assert counts.lost == 0 and not (tmp_path / "rejected.records").exists()


async def test_a_full_disk_sends_records_straight_to_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disk and database seldom fail together: while one of them takes records none is lost."""
    store, counts = FakeStore(), Counts()
    full = True
    append = Spool.append

    def maybe(self: Spool, lines: list[bytes]) -> None:
        if full:
            raise OSError(28, "No space left on device")
        append(self, lines)

    monkeypatch.setattr(Spool, "append", maybe)
    async with running(tmp_path, store, counts) as writer:
        writer.put(call("c1"))
        await until(lambda: store.ids == ["c1"])
        store.away = AWAY
        writer.put(call("c2"))
        await until(lambda: counts.failures.count("database") >= 1)
        assert writer.waiting == 1
        full, store.away = False, None
        await until(lambda: writer.waiting == 0)
    assert store.ids == ["c1", "c2"]
    assert counts.lost == 0 and "spool" in counts.failures


async def test_putting_does_not_wait(tmp_path: Path) -> None:
    """`put` does no I/O: nothing is on disk or in the database before the loop turned."""
    store = FakeStore()
    async with running(tmp_path, store, Counts()) as writer:
        writer.put(call("c1"))
        assert store.tried == 0 and writer._spool.waiting == 0 and writer.waiting == 1


@pytest.mark.parametrize("interval", [0, -1, 1.5])
def test_an_interval_over_a_second_is_refused(tmp_path: Path, interval: float) -> None:
    """A crash may cost at most a second of records."""
    spool = Spool(tmp_path)
    with pytest.raises(ValueError, match="at most 1"):
        RecordWriter(spool, FakeStore(), Counts(), interval)
    spool.close()
