"""Carrier states in a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from config.embedded import EmbeddedPostgres
from config.migrations.runner import migrate_up
from config.tables.carrier_states import CarrierStateRow, CarrierStatesTable

pytestmark = pytest.mark.adapter
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


async def test_states_are_stored_replaced_and_removed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One row per carrier and edge; each edge touches its own rows only."""
    folder: Path = tmp_path_factory.mktemp("postgres")
    for parent in (folder, *folder.parents):
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)
    up = CarrierStateRow("one", "registered", NOON, None, NOON + timedelta(seconds=600), "udp:203.0.113.1:5060", 200)
    fault = CarrierStateRow("two", "fault", NOON, "403 Forbidden", None, None, 403)
    async with EmbeddedPostgres(folder / "data") as server:
        connection = await asyncpg.connect(server.url)
        await migrate_up(connection)
        await connection.close()
        async with asyncpg.create_pool(server.url, min_size=0, max_size=2) as pool:
            mine, other = CarrierStatesTable(pool.acquire, "mine"), CarrierStatesTable(pool.acquire, "other")
            await other.save({"one": fault._replace(carrier="one")})
            await mine.save({"one": fault._replace(carrier="one"), "two": fault})
            await mine.save({"one": up, "two": None})
            columns = ", ".join(CarrierStateRow._fields)
            rows = await pool.fetch(f"SELECT {columns} FROM sip_edge.carrier_states WHERE edge = 'mine'")
            assert [CarrierStateRow(*row.values()) for row in rows] == [up]
            await mine.clear()
            assert await pool.fetchval("SELECT array_agg(edge) FROM sip_edge.carrier_states") == ["other"]
