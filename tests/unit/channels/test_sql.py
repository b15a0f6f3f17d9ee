"""Migrations 0004 and 0013 do what the simulation does, statement by statement: what the state machine proves of the
one holds for the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from asyncpg import Connection, Record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.embedded import EmbeddedPostgres
from config.migrations.runner import migrate_up
from edge.channels.counts import Claim, Exchanged, Lease, Verdict
from tests.unit.channels.simulation import Database, Row
from tests.unit.channels.test_postgres import folder

pytestmark = pytest.mark.adapter
__all__ = ["folder"]

ROWS: tuple[Row, ...] = (("number", "1", "in"), ("account", "a", "total"), ("carrier", "c", "in"))
EDGES = tuple(str(UUID(int=n)) for n in (1, 2, 3))
CALLS = ("x", "y", "z")

_rows = st.sampled_from(ROWS)
_calls = st.sampled_from(CALLS)
_leases = st.dictionaries(st.tuples(_calls, _rows), st.integers(0, 2), max_size=4)
_claim = st.tuples(_rows, st.integers(1, 2), st.none() | st.integers(0, 4))
_asks = st.lists(st.tuples(_calls, st.lists(_claim, min_size=1, max_size=4)), max_size=4)
_statements = st.one_of(
    st.tuples(st.just("resume"), st.sampled_from(EDGES), st.integers(1, 3), st.booleans(), _leases),
    st.tuples(st.just("exchange"), st.sampled_from(EDGES), st.integers(1, 3), _leases, _asks, st.booleans()),
    st.tuples(st.just("join"), st.sampled_from(EDGES)),
    st.tuples(st.just("leave"), st.sampled_from(EDGES)),
    st.tuples(st.just("silent"), st.sampled_from(EDGES)),
)


class World:
    """A server, a connection and a loop that outlive the examples."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self.server = EmbeddedPostgres(folder)
        self.db: Connection[Record] = self.runner.run(self._connect())

    async def _connect(self) -> Connection[Record]:
        await self.server.start()
        db = await asyncpg.connect(self.server.url)
        await migrate_up(db)
        return db

    async def _close(self) -> None:
        await self.db.close()
        await self.server.stop()

    def close(self) -> None:
        self.runner.run(self._close())
        self.runner.close()


@pytest.fixture(scope="module")
def world(folder: Path) -> Iterator[World]:
    world = World(folder)
    yield world
    world.close()


def _flat(leases: dict[tuple[str, Row], int]) -> list[Lease]:
    return [(call, *row, units) for (call, row), units in leases.items()]


def _claims(asks: list[tuple[str, list[tuple[Row, int, int | None]]]]) -> list[Claim]:
    out: list[Claim] = []
    numbers: dict[Row, int] = {}
    for ask, (call, claims) in enumerate(asks, 1):
        for row, units, bound in claims:
            out.append((ask, numbers.setdefault(row, len(numbers) + 1), call, *row, units, bound))
    return out


async def _same(db: Connection[Record], model: Database, statement: tuple[object, ...]) -> None:
    match statement:
        case ("resume", str(edge), int(epoch), bool(fresh), dict(leases)):
            held = [lease for lease in _flat(leases) if lease[4]]
            done = await db.fetchval("SELECT sip_edge.resume($1, 'name', $2, $3, $4)", edge, epoch, fresh, held)
            assert done == model.resume(edge, "name", epoch, fresh, held)
        case ("exchange", str(edge), int(epoch), dict(leases), list(asks), bool(stay)):
            claims = _claims(asks)
            row = await db.fetchrow(
                "SELECT * FROM sip_edge.exchange_or_alone($1, $2, $3, $4, $5)", edge, epoch, _flat(leases), claims, stay
            )
            assert row is not None
            verdicts = [Verdict(*v) for v in zip(row["against"], row["in_use"], strict=True)] if row["known"] else None
            done = Exchanged(verdicts, row["alone"]) if verdicts is not None else None
            assert done == model.exchange(edge, epoch, _flat(leases), claims, stay)
        case ("join", str(edge)):
            alone = await db.fetchval("SELECT sip_edge.alone_elsewhere($1)", edge)
            assert alone == model.alone_elsewhere(edge)
        case ("leave", str(edge)):
            await db.execute("SELECT sip_edge.leave($1)", edge)
            model.leave(edge)
        case ("silent", str(edge)):
            await db.execute(
                "UPDATE sip_edge.edges SET heartbeat_at = now() - interval '21 s' WHERE instance = $1", edge
            )
            await db.execute("SELECT sip_edge.reclaim()")
            if edge in model.edges:
                model.edges[edge].heartbeat = -21
            model.reclaim(20)
    rows = await db.fetch("SELECT * FROM sip_edge.channel_leases")
    leases_now = {(str(r["instance"]), r["call_id"], (r["level"], r["key"], r["direction"])): r["units"] for r in rows}
    assert leases_now == model.leases
    rows = await db.fetch("SELECT * FROM sip_edge.channel_usage WHERE used <> 0")
    assert {(r["level"], r["key"], r["direction"]): r["used"] for r in rows} == model.in_use()
    rows = await db.fetch("SELECT * FROM sip_edge.edges")
    assert {str(r["instance"]): (r["epoch"], r["lost"]) for r in rows} == {
        instance: (edge.epoch, edge.lost) for instance, edge in model.edges.items()
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(statements=st.lists(_statements, max_size=25))
def test_the_functions_do_what_the_simulation_does(world: World, statements: list[tuple[object, ...]]) -> None:
    """Same statements, same answers, same tables."""

    async def run() -> None:
        await world.db.execute("TRUNCATE sip_edge.edges, sip_edge.channel_leases, sip_edge.channel_usage")
        model = Database()
        for statement in statements:
            await _same(world.db, model, statement)

    world.runner.run(run())
