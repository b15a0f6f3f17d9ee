"""Records in a real PostgreSQL: as written, once through outage, restart and kill -9, purged to the second."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from config.embedded import EmbeddedPostgres
from config.migrations.runner import migrate_up
from edge.cdr.record import CALL_COLUMNS, to_json
from edge.cdr.spool import Spool
from edge.cdr.tables import PostgresRecords
from edge.cdr.writer import RecordWriter
from edge.retention.purge import PostgresPurge
from tests.unit.cdr.records import NOON, Counts, call, refused
from tests.unit.cdr.test_writer import until

pytestmark = pytest.mark.adapter
SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server of this module lives. Its user must be able to go there, also when the tests run as root."""
    folder = tmp_path_factory.mktemp("postgres")
    for parent in (folder, *folder.parents):
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)
    return folder / "data"


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A running server with our schema and no records."""
    async with EmbeddedPostgres(folder) as server:
        connection = await asyncpg.connect(server.url)
        await migrate_up(connection)
        await connection.execute("TRUNCATE sip_edge.call_records, sip_edge.refused_calls")
        await connection.close()
        yield server


@pytest.fixture
async def pool(server: EmbeddedPostgres) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    """Connections to it."""
    async with asyncpg.create_pool(server.url, min_size=0, max_size=3) as pool:
        yield pool


async def test_a_record_is_stored_as_it_was_and_once(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Every column has the record's value; storing it again changes nothing."""
    records = PostgresRecords(pool.acquire)
    for _ in range(2):
        await records.insert([to_json(call("c1"))], [to_json(refused("r1"))])
    row = await records.find("c1@far")
    assert row is not None
    expected = call("c1")
    for column in CALL_COLUMNS:
        if column not in ("trace", "media", "attempts"):
            assert row[column] == getattr(expected, column), column
    assert row["trace"] == [{"rule": "1.2", "text": "a rule"}]
    assert row["media"] == expected.media._asdict()
    refusal = await records.find("r1")
    assert refusal is not None and refusal["table"] == "refused_calls"
    assert (refusal["limit_value"], refusal["used"], str(refusal["source_ip"])) == (2, 2, "203.0.113.5")
    assert await records.find("nobody") is None
    assert await pool.fetchval("SELECT count(*) FROM sip_edge.call_records") == 1
    assert await pool.fetchval("SELECT count(*) FROM sip_edge.refused_calls") == 1


async def test_a_record_the_database_refuses_is_set_aside(pool: "asyncpg.Pool[asyncpg.Record]", tmp_path: Path) -> None:
    """A source address that is none (a bug of ours) costs that record, not those around it."""
    counts = Counts()
    writer = RecordWriter(Spool(tmp_path), PostgresRecords(pool.acquire), counts, 0.01)
    work = asyncio.create_task(writer.run())
    writer.put(refused("r1"))
    writer.put(replace(refused("r2"), source_ip="no address"))
    writer.put(call("c1"))
    await until(lambda: writer.waiting == 0 and counts.stored == 2)
    writer.close()
    await work
    assert counts.lost == 1
    assert [r["id"] for r in await pool.fetch("SELECT id FROM sip_edge.refused_calls")] == ["r1"]
    assert b'"r2"' in (tmp_path / "rejected.records").read_bytes()


async def test_refusals_are_listed_and_gone_to_the_second(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """T5.1: at 7 days less a second visible, at 7 days and a second gone, its call record with it; calls go after their
    own time."""
    records, purge = PostgresRecords(pool.acquire), PostgresPurge(pool.acquire)
    await records.insert(
        [to_json(call("c1")), to_json(replace(call("old"), outcome="refused", answered_at=None, ended_at=NOON))],
        [to_json(refused("old", NOON)), to_json(refused("new", NOON + 10 * SECOND))],
    )
    week = timedelta(days=7)
    purged = await purge.purge(NOON + week - SECOND, timedelta(days=180))
    assert (purged.gone["refused-calls"], purged.gone["calls"], purged.next_refused) == (0, 0, NOON + week)
    listed = await records.refusals(NOON - SECOND, number="+4922838600")
    assert [r["id"] for r in listed] == ["new", "old"]
    assert (await records.find("old") or {})["table"] == "call_records"
    assert await records.refusals(NOON - SECOND, account="other") == []
    await records.insert([], [to_json(replace(refused("other", NOON + SECOND), level=None, reason="no-route"))])
    assert [r["id"] for r in await records.refusals(NOON - SECOND, limits_only=True)] == ["new", "old"]
    await pool.execute("DELETE FROM sip_edge.refused_calls WHERE id = 'other'")
    purged = await purge.purge(NOON + week + SECOND, timedelta(days=180))
    assert (purged.gone["refused-calls"], purged.next_refused) == (1, NOON + 10 * SECOND + week)
    assert [r["id"] for r in await records.refusals(NOON - SECOND)] == ["new"]
    assert await records.find("old") is None
    ended = call("c1").ended_at
    assert (await purge.purge(ended + timedelta(days=180) - SECOND, timedelta(days=180))).gone["calls"] == 0
    assert (await purge.purge(ended + timedelta(days=180), timedelta(days=180))).gone["calls"] == 1


async def test_a_stopped_server_costs_no_record(folder: Path, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """The server goes away and comes back: everything is there once."""
    counts = Counts()
    async with asyncpg.create_pool(server.url, min_size=0, max_size=2) as pool:
        writer = RecordWriter(Spool(tmp_path), PostgresRecords(pool.acquire), counts, 0.01)
        work = asyncio.create_task(writer.run())
        for n in range(50):
            writer.put(call(f"before{n}"))
        await until(lambda: writer.waiting == 0)
        await server.stop()
        for n in range(50):
            writer.put(call(f"during{n}"))
        await until(lambda: "database" in counts.failures)
        await until(lambda: writer.waiting == 50)
        await server.start()
        for n in range(50):
            writer.put(call(f"after{n}"))
        await until(lambda: writer.waiting == 0)
        writer.close()
        await work
        ids = {r["id"] for r in await pool.fetch("SELECT id FROM sip_edge.call_records")}
    assert ids == {f"{when}{n}" for when in ("before", "during", "after") for n in range(50)}
    assert counts.lost == 0


_VICTIM = """
import asyncio, sys
from pathlib import Path
import asyncpg
from edge.cdr.spool import Spool
from edge.cdr.tables import PostgresRecords
from edge.cdr.writer import RecordWriter
from edge.retention.purge import PostgresPurge
from tests.unit.cdr.records import Counts, call

async def main(url, folder, name):
    async with asyncpg.create_pool(url, min_size=0, max_size=2) as pool:
        writer = RecordWriter(Spool(Path(folder)), PostgresRecords(pool.acquire), Counts(), 0.02)
        work = asyncio.create_task(writer.run())
        for n in range(100000):
            writer.put(call(f"{name}-{n}"))
            kept = n + 1 - len(writer._pending)
            if n % 5 == 0:
                print(n, kept, flush=True)
            turn = asyncio.Event()
            asyncio.get_running_loop().call_later(0.001, turn.set)
            await turn.wait()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("after", [20, 137, 400])
async def test_kill_9_loses_at_most_the_last_interval_and_stores_nothing_twice(
    server: EmbeddedPostgres, tmp_path: Path, after: int
) -> None:
    """Killed without warning while it writes, twice: the next start stores every record that was put an interval
    before the kill, and none twice."""
    least = {}
    for name in ("first", "second"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _VICTIM, server.url, str(tmp_path), name, stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[3],
        )  # fmt: skip
        assert process.stdout is not None
        put = 0
        while put < after:
            line = await process.stdout.readline()
            assert line, "the writer died by itself"
            put = int(line.split()[0])
        os.kill(process.pid, signal.SIGKILL)
        for line in (await process.stdout.read()).splitlines():
            if len(line.split()) == 2:
                put = int(line.split()[0])
        await process.wait()
        least[name] = put
    counts = Counts()
    async with asyncpg.create_pool(server.url, min_size=0, max_size=2) as pool:
        writer = RecordWriter(Spool(tmp_path), PostgresRecords(pool.acquire), counts, 0.01)
        work = asyncio.create_task(writer.run())
        writer.put(call("third-0"))
        await until(lambda: writer.waiting == 0)
        writer.close()
        await work
        rows = await pool.fetch("SELECT id FROM sip_edge.call_records")
    ids = [r["id"] for r in rows]
    assert counts.lost == 0 and len(ids) == len(set(ids))
    assert "third-0" in ids
    for name, put in least.items():
        stored = sorted(int(i.partition("-")[2]) for i in ids if i.startswith(name))
        assert stored == list(range(len(stored))), "a hole: an earlier record is missing though a later one is there"
        # 20 ms of group commit, a sync, and 1 ms between records: some dozens at most.
        assert len(stored) >= put - 100
