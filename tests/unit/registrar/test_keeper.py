"""Bindings on disk: written behind, through outages, and read after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from config.embedded import EmbeddedPostgres
from config.migrations.runner import migrate_up
from config.tables.registrations import RegistrationsTable
from edge.registrar.keeper import Keeper, RegistrationStore

from .phones import TCP, UDP, register
from .rig import BULK, OTHER, PBX, SEAT, SNAPSHOT, MemoryStore, Office

OUTBOUND = '<sip:201@10.0.0.5:5070;transport=tcp>;q=0.5;+sip.instance="<urn:uuid:1>";reg-id=2'


def keep(office: Office, store: RegistrationStore) -> Keeper:
    return Keeper(office.registrar, store, office.clock, lambda: SNAPSHOT)


async def written(keeper: Keeper) -> None:
    """Run the writer until all is written."""
    keeper.stop()
    await keeper.run()


async def restarted(office: Office, store: RegistrationStore, seconds: float) -> Office:
    """Another process, so many seconds later, whose monotonic clock begins anew."""
    later = Office()
    later.clock.origin = office.clock.utcnow() + timedelta(seconds=seconds)
    await Keeper(later.registrar, store, later.clock, lambda: SNAPSHOT).load()
    return later


async def check_round_trip(store: RegistrationStore) -> None:
    office = Office()
    keeper = keep(office, store)
    office.send(SEAT, OUTBOUND, flow=TCP, expires=300, supported="outbound")
    office.send(PBX, "<sip:hq@10.0.0.7>", expires=300, path="<sip:p1;lr>, <sip:p2;lr>")
    office.send(BULK, "<sip:198.51.100.7:5060;bnc>", expires=300, require="gin", user_agent="PBX 1")
    await written(keeper)
    after = await restarted(office, store, 100)
    (seat,) = after.registrar.contacts("seat", "201", 1000.0)
    (pbx,) = after.registrar.contacts("trunk", "hq", 1000.0)
    (bulk,) = after.registrar.contacts("trunk", "bulk", 1000.0)
    assert str(seat.uri) == "sip:201@10.0.0.5:5070;transport=tcp"
    assert (seat.q, seat.instance, seat.reg_id, seat.call_id, seat.cseq) == (0.5, "<urn:uuid:1>", 2, "c1", 1)
    assert seat.expires_at == pytest.approx(1200.0) and seat.registered_at == pytest.approx(900.0)
    assert '+sip.instance="<urn:uuid:1>";reg-id=2' in seat.contact_value(1000.0)
    assert seat.flow is None and seat.source.remote == TCP.remote and not seat.reachable
    assert pbx.flow == UDP and pbx.path == ("<sip:p1;lr>", "<sip:p2;lr>")
    assert bulk.bulk and bulk.flow == UDP and bulk.user_agent == "PBX 1"


async def test_bindings_survive_a_restart() -> None:
    """Issue 2.4: UDP flows as they were, connections gone, times on the new clock."""
    await check_round_trip(MemoryStore())


async def test_only_the_last_state_is_written() -> None:
    """Changes of one AOR in one batch are one write; removal leaves no row."""
    office, store = Office(), MemoryStore()
    keeper = keep(office, store)
    for _ in range(5):
        office.send(SEAT, "<sip:201@10.0.0.5>")
    office.send(PBX, "<sip:hq@10.0.0.5>")
    office.send(SEAT, "*", expires=0)
    assert keeper.pending == 2
    await written(keeper)
    assert store.saves == 1 and store.rows[("seat", "201")] == [] and len(store.rows[("trunk", "hq")]) == 1


async def test_database_outage_costs_nothing() -> None:
    """Registrations go on, and are written when the database is back."""
    office, store = Office(), MemoryStore()
    store.away = True
    keeper = keep(office, store)
    assert await keeper.load() == 0
    assert office.send(SEAT, "<sip:201@10.0.0.5>").status == 200
    await written(keeper)
    assert keeper.pending == 1 and store.rows == {}
    store.away = False
    await written(keeper)
    assert keeper.pending == 0 and len(store.rows[("seat", "201")]) == 1


async def test_bindings_are_read_when_the_database_comes_back() -> None:
    """An edge that started without its database still gets its phones back."""
    before, store = Office(), MemoryStore()
    keeper = keep(before, store)
    before.send(PBX, "<sip:hq@10.0.0.5>")
    await written(keeper)
    store.away = True
    after = Office()
    keeper = keep(after, store)
    await keeper.load()
    assert after.uris("trunk", "hq") == []
    store.away = False
    after.send(SEAT, "<sip:201@10.0.0.5>")
    await written(keeper)
    assert after.uris("trunk", "hq") == ["sip:hq@10.0.0.5"]


async def test_writer_runs_until_stopped() -> None:
    """A change is written soon without anybody asking."""
    office, store = Office(), MemoryStore()
    keeper = keep(office, store)
    task = asyncio.ensure_future(keeper.run())
    office.send(SEAT, "<sip:201@10.0.0.5>")
    async with asyncio.timeout(5):
        await store.saved.wait()
    assert len(store.rows[("seat", "201")]) == 1
    keeper.stop()
    await task


@pytest.mark.looptime
async def test_what_runs_out_is_dropped() -> None:
    """Within seconds of its end, from memory and from the table."""
    office, store = Office(), MemoryStore()
    keeper = keep(office, store)
    task = asyncio.ensure_future(keeper.run())
    office.send(SEAT, "<sip:201@10.0.0.5>", expires=60)
    await asyncio.sleep(1)
    assert len(store.rows[("seat", "201")]) == 1 and office.registrar.counts()["seat"] == 1
    office.clock.seconds += 60
    await asyncio.sleep(3)
    assert store.rows[("seat", "201")] == [] and office.registrar.counts()["seat"] == 0
    keeper.stop()
    await task


@pytest.fixture
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[asyncpg.Pool]:
    """A real PostgreSQL with our schema."""
    folder: Path = tmp_path_factory.mktemp("postgres")
    for parent in (folder, *folder.parents):
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)
    async with EmbeddedPostgres(folder / "data") as server:
        connection = await asyncpg.connect(server.url)
        await migrate_up(connection)
        await connection.close()
        async with asyncpg.create_pool(server.url, min_size=0, max_size=2) as pool:
            yield pool


@pytest.mark.adapter
async def test_bindings_in_postgresql(postgres: asyncpg.Pool) -> None:
    """The same through the real table; rows of other edges are not touched and not read."""
    other = RegistrationsTable(postgres.acquire, "other edge")
    mine = RegistrationsTable(postgres.acquire, "edge one")
    await check_round_trip(mine)
    office = Office()
    assert await other.load(office.clock.utcnow()) == []
    keeper = keep(office, mine)
    office.send(SEAT, "*", expires=0)
    office.send(SEAT, "<sip:201@10.0.0.9>", call_id="c9")
    await written(keeper)
    rows = await mine.load(office.clock.utcnow())
    assert sorted(r.contact_uri for r in rows if r.aor == "201") == ["sip:201@10.0.0.9"]
    assert [r.account for r in rows if r.aor == "201"] == ["K1"]
    assert await postgres.fetchval("SELECT count(*) FROM sip_edge.registrations WHERE edge = 'edge one'") == 3


@pytest.mark.adapter
async def test_what_postgresql_cannot_store_holds_up_nobody(postgres: asyncpg.Pool) -> None:
    """One phone with NUL, bytes that are no UTF-8 and endless fields: the others' bindings are stored all the same."""
    mine = RegistrationsTable(postgres.acquire, "edge one")
    office = Office()
    keeper = keep(office, mine)
    agent = "evil\0\udcff\ud800" + "x" * 5000
    office.send(SEAT, '<sip:201@10.0.0.1>;+sip.instance="<urn:\0\udcff>"', user_agent=agent)
    office.send(SEAT, f"<sip:{'a' * 600}@10.0.0.1>")
    request = register("<sip:202@10.0.0.2>")
    request.headers.set("To", "<sip:202@edge.example>")
    assert office.registrar.handle(request, UDP, OTHER, office.clock.now())[0].status == 200
    await written(keeper)
    rows = {r.aor: r for r in await mine.load(office.clock.utcnow())}
    assert rows["202"].contact_uri == "sip:202@10.0.0.2"
    assert rows["201"].contact_uri == "sip:201@10.0.0.1"
    assert (rows["201"].user_agent or "").startswith("evil\\udcff\\ud800x")


@pytest.mark.looptime
@pytest.mark.parametrize(("trouble", "least", "most"), [("", 0.02, 0.1), ("away", 0.0, 0.1), ("slow", 0.3, 0.45)])
async def test_answer_waits_for_the_disk_and_not_for_ever(trouble: str, least: float, most: float) -> None:
    """Who hears 200 is bound for good: stored first, within hundredths of a second; a database that is away or slow
    holds nobody up for longer than a REGISTER waits before it is sent again."""
    office, store = Office(), MemoryStore()
    keeper = keep(office, store)
    task = asyncio.ensure_future(keeper.run())
    save, loop = store.save, asyncio.get_running_loop()
    if trouble == "away":
        store.away = True
        office.send(PBX, "<sip:hq@10.0.0.5>")
        await asyncio.sleep(0.7)  # the first failure is noticed by the writer itself
    elif trouble == "slow":

        async def slow(changes: object) -> None:
            await asyncio.sleep(30)
            await save(changes)  # type: ignore[arg-type]

        store.save = slow  # type: ignore[method-assign]
    office.send(SEAT, "<sip:201@10.0.0.5>")
    asked, answered = loop.time(), asyncio.Event()
    rows: list[int] = []

    def then() -> None:
        rows.append(len(store.rows.get(("seat", "201"), [])))
        answered.set()

    keeper.when_stored(then)
    await answered.wait()
    assert least <= loop.time() - asked <= most
    assert rows == [0 if trouble else 1]
    await asyncio.sleep(60)
    assert rows == [0 if trouble else 1], "answered once"
    keeper.stop()
    await task


async def test_refresh_waits_for_nothing() -> None:
    """Only contacts that come or go do: the end of a binding that was refreshed may be lost, the phone not."""
    office = Office()
    new = office.answer(SEAT, "<sip:201@10.0.0.5>")
    again = office.answer(SEAT, "<sip:201@10.0.0.5>")
    gone = office.answer(SEAT, "*", expires=0)
    assert [lasting for _, lasting in (new, again, gone)] == [True, False, True]
