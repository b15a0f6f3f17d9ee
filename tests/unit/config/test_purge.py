"""Refused calls in the database: visible for seven days, to the second (domain rule T5.1)."""

from __future__ import annotations

from contextlib import nullcontext

from asyncpg import Record
from asyncpg.connection import Connection

from edge.retention.kept import SIX_MONTHS
from edge.retention.purge import PostgresPurge


async def test_refused_calls_are_kept_seven_days_to_the_second(db: Connection[Record]) -> None:
    """T5.1: at 7 days less a second visible, at 7 days and a second gone; the purge does the same."""
    await db.execute(
        "INSERT INTO sip_edge.refused_calls (id, at, direction, reason) VALUES "
        "('young', now() - interval '7 days' + interval '1 s', 'inbound', 'number-limit'), "
        "('old', now() - interval '7 days' - interval '1 s', 'inbound', 'number-limit')"
    )
    assert [r["id"] for r in await db.fetch("SELECT id FROM sip_edge.refusals")] == ["young"]
    now = await db.fetchval("SELECT now()")
    purged = await PostgresPurge(lambda: nullcontext(db)).purge(now, SIX_MONTHS)
    assert purged.gone["refused-calls"] == 1
    assert await db.fetchval("SELECT id FROM sip_edge.refused_calls") == "young"
