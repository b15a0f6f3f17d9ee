"""The shared counts in a real PostgreSQL: exact over processes, through outage, kill -9 and late statements."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from asyncpg import Connection, Record

from config.embedded import EmbeddedPostgres
from config.migrations.runner import migrate_up
from dialplan.model import ChannelClaim
from edge.channels.ledger import LimitReached
from edge.channels.postgres import PostgresCounts
from edge.channels.shared import WAIT, SharedChannels
from edge.channels.upkeep import LiveCall, Upkeep

pytestmark = pytest.mark.adapter

NUMBER = ChannelClaim("number", "+4922838697", "in", 2)
ACCOUNT = ChannelClaim("account", "acme", "total", None)
CARRIER = (ChannelClaim("carrier", "telekom", "in", None), ChannelClaim("carrier", "telekom", "total", 500))
INBOUND = (NUMBER, ACCOUNT, *CARRIER)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


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
async def url(folder: Path) -> AsyncIterator[str]:
    """A running server with our schema."""
    async with EmbeddedPostgres(folder) as server:
        yield server.url


@pytest.fixture
async def db(url: str) -> AsyncIterator[Connection[Record]]:
    """A connection to it; nothing is counted."""
    connection = await asyncpg.connect(url)
    await migrate_up(connection)
    await connection.execute(
        "TRUNCATE sip_edge.edges, sip_edge.channel_leases, sip_edge.channel_usage, sip_edge.live_calls"
    )
    yield connection
    await connection.close()


async def until(condition: str, db: Connection[Record]) -> None:
    """Wait until the query `condition` says true."""
    async with asyncio.timeout(20):
        while not await db.fetchval(condition):
            await db.execute("SELECT pg_sleep(0.01)")


async def counts_are_sums(db: Connection[Record]) -> bool:
    """No count differs from the sum of its leases."""
    wrong = await db.fetchval(
        "SELECT count(*) FROM sip_edge.channel_usage u FULL JOIN (SELECT level, key, direction, sum(units) AS units "
        "FROM sip_edge.channel_leases GROUP BY 1, 2, 3) s USING (level, key, direction) "
        "WHERE coalesce(u.used, 0) <> coalesce(s.units, 0)"
    )
    return bool(wrong == 0)


async def in_use(db: Connection[Record]) -> dict[str, int]:
    """Counts that are not zero, by key and direction."""
    rows = await db.fetch("SELECT key, direction, used FROM sip_edge.channel_usage WHERE used > 0")
    return {f"{row['key']} {row['direction']}": row["used"] for row in rows}


async def edge(url: str, name: str) -> SharedChannels:
    channels = SharedChannels(PostgresCounts(url, name, uuid4()))
    await channels.start()
    return channels


async def test_two_of_a_thousand(url: str, db: Connection[Record]) -> None:
    """T5.4 within two edges: 1,000 calls at once at a number with 2 channels, exactly 2 admitted, ten times."""
    edges = [await edge(url, "a"), await edge(url, "b")]
    for _ in range(10):
        calls = [(edges[n % 2], uuid4().hex) for n in range(1000)]
        answers = await asyncio.gather(*[channels.admit(call, INBOUND) for channels, call in calls])
        assert answers.count(None) == 2
        assert set(answers) == {None, LimitReached("number", NUMBER.key, "in", 2, 2)}
        assert await in_use(db) == {"+4922838697 in": 2, "acme total": 2, "telekom in": 2, "telekom total": 2}
        for channels, call in calls:
            channels.release(call)
        await until("SELECT NOT EXISTS (SELECT FROM sip_edge.channel_leases)", db)
        assert await in_use(db) == {}
    for channels in edges:
        await channels.stop()
    assert await db.fetchval("SELECT count(*) FROM sip_edge.edges") == 0


async def test_edges_join_one_that_decides_by_itself(url: str, db: Connection[Record]) -> None:
    """An edge takes and gives back two channels as fast as it can; others come, ask at once, and go: never are there
    three calls."""
    a = await edge(url, "a")
    edges = [a]
    admitted = dict.fromkeys("ab", 0)

    async def flood(channels: SharedChannels, name: str, until: asyncio.Event) -> None:
        calls: list[str] = []
        while not until.is_set():
            call = uuid4().hex
            if await channels.admit(call, INBOUND) is None:
                admitted[name] += 1
                calls.append(call)
                assert sum(one.used("number", NUMBER.key, "in") for one in edges) <= 2
            await turn()
            while len(calls) == 2 or (calls and len(edges) % 2):
                channels.release(calls.pop(0))
                await turn()
        for call in calls:
            channels.release(call)

    async def turn() -> None:
        """Others have their say, the thread of another loop too."""
        await asyncio.get_running_loop().run_in_executor(None, int)

    over = asyncio.Event()
    first = asyncio.create_task(flood(a, "a", over))
    for _ in range(5):
        b = SharedChannels(PostgresCounts(url, "b", uuid4()))
        edges.append(b)
        await b.start()
        done = asyncio.Event()
        second = asyncio.create_task(flood(b, "b", done))
        asyncio.get_running_loop().call_later(0.15, done.set)
        await second
        await b.stop()
    over.set()
    await first
    await a.stop()
    assert admitted["a"] > 100 and admitted["b"] > 5
    assert await counts_are_sums(db) and await in_use(db) == {}


_PROCESS = """
import asyncio, sys
from uuid import uuid4
import structlog
from dialplan.model import ChannelClaim
from edge.channels.postgres import PostgresCounts
from edge.channels.shared import SharedChannels

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
URL, NAME = sys.argv[1:]
CLAIMS = (ChannelClaim("number", "+4922838697", "in", 2), ChannelClaim("account", "acme", "total", None))

async def main():
    channels = SharedChannels(PostgresCounts(URL, NAME, uuid4()))
    await channels.start()
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("ready", flush=True)
    async for line in lines:
        word, *rest = line.decode().split()
        if word == "offer":
            calls = [f"{NAME}-{rest[1]}-{n}" for n in range(int(rest[0]))]
            answers = await asyncio.gather(*[channels.admit(c, CLAIMS) for c in calls])
            print(*["admitted", *[c for c, a in zip(calls, answers) if a is None]], flush=True)
        elif word == "release":
            channels.release(rest[0])
        elif word == "flood":
            print("flooding", flush=True)
            n = 0
            while True:
                n += 1
                answers = await asyncio.gather(*[channels.admit(f"{NAME}-flood{n}-{i}", CLAIMS) for i in range(20)])
                for i in range(20):
                    channels.release(f"{NAME}-flood{n}-{i}")
asyncio.run(main())
"""


class Process:
    """An edge's channel ledger in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        assert process.stdin is not None and process.stdout is not None
        self._in, self._out = process.stdin, process.stdout

    @classmethod
    async def start(cls, url: str, name: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _PROCESS, url, name,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )  # fmt: skip
        started = cls(process)
        assert await started.hears() == ["ready"]
        return started

    def say(self, text: str) -> None:
        self._in.write(text.encode() + b"\n")

    async def hears(self) -> list[str]:
        async with asyncio.timeout(20):
            return (await self._out.readline()).decode().split()

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        self._in.close()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)


async def test_two_of_a_thousand_from_two_processes(url: str, db: Connection[Record]) -> None:
    """T5.4: 1,000 simultaneous admissions from two processes, exactly 2 admitted, repeatedly."""
    processes = [await Process.start(url, name) for name in ("a", "b")]
    try:
        for turn in range(10):
            for process in processes:
                process.say(f"offer 500 {turn}")
            answers = [await process.hears() for process in processes]
            admitted = [(p, call) for p, answer in zip(processes, answers, strict=True) for call in answer[1:]]
            assert len(admitted) == 2
            assert (await in_use(db))["+4922838697 in"] == 2
            for process, call in admitted:
                process.say(f"release {call}")
            await until("SELECT NOT EXISTS (SELECT FROM sip_edge.channel_leases)", db)
    finally:
        for process in processes:
            await process.kill()


async def test_a_process_is_killed_meanwhile(url: str, db: Connection[Record]) -> None:
    """T5.4, T5.5: never more than 2 while one process is killed -9 in the midst of it; a restart under its name frees
    what it held at once, and what a dead edge held comes back by itself."""
    survivor = await Process.start(url, "a")
    try:
        for turn in range(4):
            victim = await Process.start(url, "b")
            victim.say("flood")
            assert await victim.hears() == ["flooding"]
            survivor.say(f"offer 500 {turn}")
            await victim.kill()
            admitted = (await survivor.hears())[1:]
            held = await db.fetchval("SELECT count(*) FROM sip_edge.channel_leases WHERE level = 'number'")
            assert len(admitted) <= held <= 2
            if turn % 2:
                await (await Process.start(url, "b")).kill()
            else:
                await until("SELECT sip_edge.reclaim('0.3 s') >= 0 AND (SELECT bool_or(lost) FROM sip_edge.edges)", db)
                await db.execute("UPDATE sip_edge.edges SET lost = false, heartbeat_at = now() WHERE name = 'a'")
            for call in admitted:
                survivor.say(f"release {call}")
            await until("SELECT NOT EXISTS (SELECT FROM sip_edge.channel_leases)", db)
            survivor.say(f"offer 10 again{turn}")
            again = (await survivor.hears())[1:]
            assert len(again) == 2
            for call in again:
                survivor.say(f"release {call}")
            await until("SELECT NOT EXISTS (SELECT FROM sip_edge.channel_leases)", db)
            assert await counts_are_sums(db)
    finally:
        await survivor.kill()


async def test_an_edge_that_was_believed_dead_comes_back(url: str, db: Connection[Record]) -> None:
    """A stopped process's channels are given away; when it goes on its calls are counted again, over the limit."""
    frozen, other = await Process.start(url, "a"), await edge(url, "b")
    try:
        frozen.say("offer 2 first")
        assert len(await frozen.hears()) == 3
        assert await other.admit("x1", INBOUND) is not None
        frozen.signal(signal.SIGSTOP)
        await db.execute("UPDATE sip_edge.edges SET heartbeat_at = now() - interval '21 s' WHERE name = 'a'")
        assert await db.fetchval("SELECT sip_edge.reclaim()") == 4
        assert await other.admit("x2", INBOUND) is None
        frozen.signal(signal.SIGCONT)
        await until("SELECT used = 3 FROM sip_edge.channel_usage WHERE level = 'number'", db)
        assert await other.admit("x3", INBOUND) == LimitReached("number", NUMBER.key, "in", 2, 3)
    finally:
        await frozen.kill()
        await other.stop()


async def test_the_database_is_cut_off(url: str, db: Connection[Record]) -> None:
    """Without the database an edge counts its own calls and refuses for them alone; when it is back, calls that ended
    meanwhile are given back and the others are counted."""
    a, b = await edge(url, "a"), await edge(url, "b")
    assert await a.admit("a1", INBOUND) is None
    assert await b.admit("b1", INBOUND) is None
    outside = await asyncpg.connect(url.replace("/postgres?", "/template1?"))
    await outside.execute("ALTER DATABASE postgres ALLOW_CONNECTIONS false")
    await outside.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ 'channels'")
    assert await a.admit("a2", INBOUND) is None, "b's call cannot be known, and no call is refused for that"
    assert not a.shared
    assert await a.admit("a3", INBOUND) == LimitReached("number", NUMBER.key, "in", 2, 2)
    b.release("b1")
    await outside.execute("ALTER DATABASE postgres ALLOW_CONNECTIONS true")
    await outside.close()
    calls = "SELECT array_agg(DISTINCT call_id ORDER BY call_id) FROM sip_edge.channel_leases"
    await until(f"SELECT ({calls}) = '{{a1,a2}}'", db)
    assert await counts_are_sums(db)
    await a.stop()
    await b.stop()


async def test_a_slow_database_holds_no_call_up(url: str, db: Connection[Record]) -> None:
    """Somebody locks a count: calls wait 0.3 s at most, then this edge counts alone. The statement that was given up
    changes nothing when its turn comes (an earlier epoch)."""
    a = await edge(url, "a")
    assert await a.admit("a1", INBOUND) is None
    other = await asyncpg.connect(url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT FROM sip_edge.channel_usage WHERE level = 'number' FOR UPDATE")
    begun = asyncio.get_running_loop().time()
    assert await a.admit("a2", INBOUND) is None
    assert asyncio.get_running_loop().time() - begun < WAIT + 0.1
    a.release("a2")
    assert await a.admit("a3", INBOUND) is None
    await transaction.rollback()
    await other.close()
    calls = "SELECT array_agg(DISTINCT call_id ORDER BY call_id) FROM sip_edge.channel_leases"
    await until(f"SELECT ({calls}) = '{{a1,a3}}'", db)
    await until("SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name ~ 'channels'", db)
    assert await db.fetchval(calls) == ["a1", "a3"]
    assert await counts_are_sums(db)
    await a.stop()


async def test_a_lower_limit_drops_no_call(url: str, db: Connection[Record]) -> None:
    """Domain rule 5.10: calls over the new limit stay; new ones are refused until there is room."""
    a = await edge(url, "a")
    wide, narrow = (ACCOUNT._replace(limit=4),), (ACCOUNT._replace(limit=2),)
    for n in range(4):
        assert await a.admit(f"c{n}", wide) is None
    assert await a.admit("new", narrow) == LimitReached("account", "acme", "total", 2, 4)
    await until("SELECT EXISTS (SELECT FROM sip_edge.channel_usage WHERE used = 4)", db)
    assert await in_use(db) == {"acme total": 4}
    a.release("c0")
    a.release("c1")
    assert await a.admit("new", narrow) == LimitReached("account", "acme", "total", 2, 2)
    a.release("c2")
    assert await a.admit("new", narrow) is None
    await a.stop()


async def test_a_limit_that_comes_later_counts_calls_that_had_none(url: str, db: Connection[Record]) -> None:
    """Claims without a limit are told afterwards, so a limit set meanwhile finds the calls that are up."""
    a, b = await edge(url, "a"), await edge(url, "b")
    assert await a.admit("c1", (ACCOUNT,)) is None
    await until("SELECT EXISTS (SELECT FROM sip_edge.channel_leases)", db)
    assert await b.admit("c2", (ACCOUNT._replace(limit=1),)) == LimitReached("account", "acme", "total", 1, 1)
    await a.stop()
    await b.stop()


async def test_calls_per_second_of_a_carrier(url: str, db: Connection[Record]) -> None:
    """`max_cps` bounds calls begun within any second, over all edges; a refused call begins nothing."""
    a, b = await edge(url, "a"), await edge(url, "b")
    full = ChannelClaim("carrier", "telekom", "total", 0)
    claim = ChannelClaim("carrier", "telekom", "cps", 5)
    assert await a.admit("none", (claim, full)) is not None
    answers = await asyncio.gather(*[(a, b)[n % 2].admit(f"c{n}", (claim,)) for n in range(40)])
    assert answers.count(None) == 5
    assert LimitReached("carrier", "telekom", "cps", 5, 5) in answers
    assert await in_use(db) == {}
    await db.execute("UPDATE sip_edge.channel_usage SET starts = ARRAY(SELECT unnest(starts) - interval '1 s')")
    assert await a.admit("later", (claim,)) is None
    assert await db.fetchval("SELECT cardinality(starts) FROM sip_edge.channel_usage WHERE direction = 'cps'") == 1
    await a.stop()
    await b.stop()


async def test_tables_changed_by_hand_are_put_right(url: str, db: Connection[Record]) -> None:
    """A count that is not the sum of its leases would hold channels for ever, or break every statement."""
    a = await edge(url, "a")
    assert await a.admit("c1", INBOUND) is None
    await db.execute("UPDATE sip_edge.channel_usage SET used = 7 WHERE level = 'account'")
    await db.execute("UPDATE sip_edge.channel_usage SET used = 0 WHERE level = 'number'")
    assert await db.fetchval("SELECT sip_edge.recount()") == 2
    assert await db.fetchval("SELECT sip_edge.recount()") == 0
    assert (await in_use(db)) == {"+4922838697 in": 1, "acme total": 1, "telekom in": 1, "telekom total": 1}
    await db.execute("UPDATE sip_edge.channel_usage SET used = 0")
    a.release("c1")
    await until("SELECT NOT EXISTS (SELECT FROM sip_edge.channel_leases)", db)
    assert await in_use(db) == {}
    await until("SELECT EXISTS (SELECT FROM sip_edge.edges)", db)
    assert await a.admit("c2", INBOUND) is None
    await a.stop()


async def test_one_edge_gives_up_another_of_its_name(url: str, db: Connection[Record]) -> None:
    """Two processes of one name (a mistake): the first is told anew instead of being lost, and both are counted."""
    first = await edge(url, "a")
    assert await first.admit("c1", INBOUND) is None
    second = await edge(url, "a")
    assert await second.admit("c2", INBOUND) is None
    await first.admit("c3", INBOUND)
    await until("SELECT used >= 2 FROM sip_edge.channel_usage WHERE level = 'number'", db)
    assert await db.fetchval("SELECT count(*) FROM sip_edge.edges") == 2
    await first.stop()
    await second.stop()


async def test_upkeep_gives_dead_edges_channels_back(url: str, db: Connection[Record]) -> None:
    """T5.5: an edge that is silent for 20 s is dead; right after an outage nobody is declared dead."""
    dead = await edge(url, "dead")
    assert await dead.admit("c1", INBOUND) is None
    await db.execute("UPDATE sip_edge.edges SET heartbeat_at = now() - interval '21 s'")
    now = 100.0
    async with asyncpg.create_pool(url, min_size=0, max_size=1) as pool:
        upkeep = Upkeep(pool.acquire, "b", uuid4(), lambda: [], lambda: now)
        await upkeep.once()
        assert await in_use(db) != {}
        now = 106.0
        await upkeep.once()
    assert await in_use(db) == {}
    await dead.stop()


def live(call_id: str, state: str = "ringing", answered_at: datetime | None = None) -> LiveCall:
    return LiveCall(
        call_id, state, NOON, answered_at, "inbound", "carrier", "telekom", "acme", None, "+4922838697", "seat", "desk"
    )  # fmt: skip


async def test_live_calls_are_shown(url: str, db: Connection[Record]) -> None:
    """`live_calls` follows the calls that are up, and is written anew where it was lost."""
    instance: UUID = uuid4()
    channels = SharedChannels(PostgresCounts(url, "a", instance))
    await channels.start()
    calls = [live("c1"), live("c2")]

    async def shown() -> list[tuple[str, str]]:
        rows = await db.fetch("SELECT id, state FROM sip_edge.live_calls WHERE edge = 'a' ORDER BY id")
        return [(row["id"], row["state"]) for row in rows]

    async with asyncpg.create_pool(url, min_size=0, max_size=1) as pool:
        upkeep = Upkeep(pool.acquire, "a", instance, lambda: calls, lambda: 0.0)
        await upkeep.once()
        assert await shown() == [("c1", "ringing"), ("c2", "ringing")]
        calls = [live("c2", "answered", NOON + timedelta(seconds=3)), live("c3")]
        await upkeep.once()
        assert await shown() == [("c2", "answered"), ("c3", "ringing")]
        version = await db.fetchval("SELECT array_agg(xmin::text) FROM sip_edge.live_calls")
        calls = [live("c2", "answered", NOON + timedelta(seconds=3, microseconds=2)), live("c3")]
        await upkeep.once()
        assert await db.fetchval("SELECT array_agg(xmin::text) FROM sip_edge.live_calls") == version, (
            "written for nothing"
        )
        await db.execute("DELETE FROM sip_edge.live_calls")
        await upkeep.once()
        assert await shown() == [("c2", "answered"), ("c3", "ringing")]
    await channels.stop()
    assert await shown() == []


async def test_a_call_that_moved_is_shown_where_it_is(url: str, db: Connection[Record]) -> None:
    """An edge of another name goes on with the calls of one that died: they stay shown when that is given up."""
    dead, heir = uuid4(), uuid4()
    one, other = SharedChannels(PostgresCounts(url, "a", dead)), SharedChannels(PostgresCounts(url, "b", heir))
    await one.start()
    await other.start()

    async def shown() -> list[tuple[str, UUID]]:
        return [tuple(row) for row in await db.fetch("SELECT edge, instance FROM sip_edge.live_calls WHERE id = 'm1'")]

    async with asyncpg.create_pool(url, min_size=0, max_size=1) as pool:
        for name, instance in (("a", dead), ("b", heir)):
            await Upkeep(pool.acquire, name, instance, lambda: [live("m1")], lambda: 0.0).once()
            assert await shown() == [(name, instance)]
        silent = "UPDATE sip_edge.edges SET heartbeat_at = now() - interval '1 minute' WHERE instance = $1"
        await db.execute(silent, dead)
        await db.fetchval("SELECT sip_edge.reclaim()")
        assert await shown() == [("b", heir)]
    await other.stop()
    await one.stop()
