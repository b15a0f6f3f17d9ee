"""`sip_edge.admit`, `release`, `reclaim`: exact under concurrency, all or nothing, given back once (domain 5)."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import asyncpg
from asyncpg import Record
from asyncpg.connection import Connection

Claim = tuple[str, str, str, int, int | None]
_USED = "SELECT level, key, direction, used FROM sip_edge.channel_usage WHERE used > 0"
_LEASED = "SELECT level, key, direction, sum(units)::int FROM sip_edge.channel_leases GROUP BY 1, 2, 3"


async def _enter(db: Connection[Record], name: str) -> UUID:
    instance = uuid4()
    await db.execute("SELECT sip_edge.enter($1, $2)", instance, name)
    return instance


async def _admit(db: Connection[Record], edge: UUID, calls: dict[str, list[Claim]]) -> dict[str, Record]:
    flat = [(call, *claim) for call, claims in calls.items() for claim in claims]
    columns = [list(column) for column in zip(*flat, strict=True)]
    rows = await db.fetch("SELECT * FROM sip_edge.admit($1, $2, $3, $4, $5, $6, $7)", edge, *columns)
    return {row["call_id"]: row for row in rows}


async def _consistent(db: Connection[Record]) -> set[tuple[object, ...]]:
    used = {tuple(r) for r in await db.fetch(_USED)}
    assert used == {tuple(r) for r in await db.fetch(_LEASED)}
    return used


async def test_all_levels_or_none(db: Connection[Record]) -> None:
    """The first exceeded claim refuses with its limit and use, and nothing of the call is counted."""
    edge = await _enter(db, "a")
    both: list[Claim] = [("number", "+49301", "in", 1, 2), ("account", "K1", "total", 1, 1)]
    result = await _admit(db, edge, {"c1": both, "c2": both})
    assert result["c1"]["admitted"]
    refused = result["c2"]
    assert tuple(refused) == ("c2", False, "account", "K1", "total", 1, 1)
    assert await _consistent(db) == {("number", "+49301", "in", 1), ("account", "K1", "total", 1)}


async def test_no_limit_counts(db: Connection[Record]) -> None:
    """A limit of NULL never refuses; a lowered limit refuses new calls and drops none."""
    edge = await _enter(db, "a")
    for n in range(3):
        assert (await _admit(db, edge, {f"c{n}": [("carrier", "t", "out", 1, None)]}))[f"c{n}"]["admitted"]
    refused = (await _admit(db, edge, {"c9": [("carrier", "t", "out", 1, 2)]}))["c9"]
    assert (refused["admitted"], refused["used"]) == (False, 3)


async def test_exact_over_edges(db: Connection[Record], url: str) -> None:
    """T5.4: of 200 simultaneous calls through two edges at a number with 2 channels exactly 2 are admitted; claims in
    opposite orders do not deadlock."""
    edges = [await _enter(db, "a"), await _enter(db, "b")]
    pool = await asyncpg.create_pool(url, min_size=8, max_size=8)
    claims: list[Claim] = [("number", "+49301", "in", 1, 2), ("account", "K1", "total", 1, 50)]

    async def call(n: int) -> bool:
        async with pool.acquire() as connection:
            mine = claims if n % 2 else claims[::-1]
            result = await _admit(connection, edges[n % 2], {f"c{n}": mine})  # type: ignore[arg-type]
            return bool(result[f"c{n}"]["admitted"])

    for _ in range(3):
        admitted = await asyncio.gather(*map(call, range(200)))
        assert sum(admitted) == 2
        assert await _consistent(db) == {("number", "+49301", "in", 2), ("account", "K1", "total", 2)}
        for edge in edges:
            await db.execute("SELECT sip_edge.release($1, $2)", edge, [f"c{n}" for n in range(200)])
        assert await _consistent(db) == set()
    await pool.close()


async def test_released_once(db: Connection[Record]) -> None:
    """Releasing twice, or one level and then all, gives back once; other calls keep theirs."""
    edge = await _enter(db, "a")
    claims: list[Claim] = [("account", "K1", "total", 2, 9), ("carrier", "t", "out", 1, 9)]
    await _admit(db, edge, {"c1": claims, "c2": claims})
    assert await db.fetchval("SELECT sip_edge.release($1, '{c1}', 'carrier')", edge) == 1
    assert await _consistent(db) == {("account", "K1", "total", 4), ("carrier", "t", "out", 1)}
    assert await db.fetchval("SELECT sip_edge.release($1, '{c1}')", edge) == 1
    assert await db.fetchval("SELECT sip_edge.release($1, '{c1}')", edge) == 0
    assert await _consistent(db) == {("account", "K1", "total", 2), ("carrier", "t", "out", 1)}


async def test_dead_edge_gives_back(db: Connection[Record]) -> None:
    """T5.5: channels of an edge without a heartbeat for 20 s come back; it learns of it and may enter again."""
    dead, living = await _enter(db, "dead"), await _enter(db, "living")
    claims: list[Claim] = [("number", "+49301", "in", 1, 2)]
    await _admit(db, dead, {"c1": claims})
    await _admit(db, living, {"c2": claims})
    await db.execute(
        "UPDATE sip_edge.edges SET heartbeat_at = now() - interval '19 s' WHERE instance = ANY ($1)", [dead, living]
    )
    assert await db.fetchval("SELECT sip_edge.reclaim()") == 0
    await db.execute("UPDATE sip_edge.edges SET heartbeat_at = now() - interval '21 s' WHERE instance = $1", dead)
    assert await db.fetchval("SELECT sip_edge.reclaim()") == 1
    assert await _consistent(db) == {("number", "+49301", "in", 1)}
    assert await db.fetchval("SELECT sip_edge.renew($1)", living) is True
    assert await db.fetchval("SELECT sip_edge.renew($1)", dead) is False
    await db.execute("SELECT sip_edge.enter($1, 'dead')", dead)
    assert (await _admit(db, dead, {"c1": [("number", "+49301", "in", 1, None)]}))["c1"]["admitted"]
    assert await _consistent(db) == {("number", "+49301", "in", 2)}


async def test_restarted_edge_gives_back_at_once(db: Connection[Record]) -> None:
    """A process that enters under the name of another has its place; leaving gives all back."""
    crashed = await _enter(db, "a")
    await _admit(db, crashed, {"c1": [("number", "+49301", "in", 1, 2)]})
    again = await _enter(db, "a")
    assert await _consistent(db) == set()
    await _admit(db, again, {"c1": [("number", "+49301", "in", 1, 2)]})
    await db.execute("SELECT sip_edge.leave($1)", again)
    assert await _consistent(db) == set()
    assert await db.fetchval("SELECT count(*) FROM sip_edge.edges") == 0


async def test_refused_calls_are_kept_seven_days_to_the_second(db: Connection[Record]) -> None:
    """T5.1: at 7 days less a second visible, at 7 days and a second gone; the purge does the same."""
    await db.execute(
        "INSERT INTO sip_edge.refused_calls (id, at, direction, reason) VALUES "
        "('young', now() - interval '7 days' + interval '1 s', 'inbound', 'number-limit'), "
        "('old', now() - interval '7 days' - interval '1 s', 'inbound', 'number-limit')"
    )
    assert [r["id"] for r in await db.fetch("SELECT id FROM sip_edge.refusals")] == ["young"]
    assert await db.fetchval("SELECT sip_edge.purge_refused_calls()") == 1
    assert await db.fetchval("SELECT id FROM sip_edge.refused_calls") == "young"
