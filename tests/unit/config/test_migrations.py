"""The schema moves forward and back one step, alone, and an edge refuses one that it does not know."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from asyncpg import Record
from asyncpg.connection import Connection

from config.migrations.runner import (
    LATEST,
    MIGRATIONS,
    SchemaError,
    check_schema,
    current_version,
    migrate_down,
    migrate_up,
)

_OBJECTS = """
    SELECT relname::text FROM pg_class WHERE relnamespace = 'sip_edge'::regnamespace
    UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'sip_edge'::regnamespace
    UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'sip_edge'::regnamespace
    UNION ALL SELECT attrelid::regclass || '.' || attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
        WHERE relnamespace = 'sip_edge'::regnamespace AND attnum > 0 AND NOT attisdropped
"""


async def _objects(db: Connection[Record]) -> set[str]:
    return {row[0] for row in await db.fetch(_OBJECTS)}


async def test_each_step_back_is_the_step_before(db: Connection[Record]) -> None:
    """Down undoes exactly what up did, and up can follow it again."""
    after: dict[int, set[str]] = {}
    while await migrate_down(db):
        pass
    assert await current_version(db) == 0
    after[0] = await _objects(db)
    for migration in MIGRATIONS:
        assert await migrate_up(db, migration.version) == [migration]
        after[migration.version] = await _objects(db)
    for migration in reversed(MIGRATIONS):
        assert await migrate_down(db) == migration
        assert await _objects(db) == after[migration.version - 1]
    await migrate_up(db)
    assert await _objects(db) == after[LATEST]


async def test_an_edge_refuses_an_old_schema_with_the_command(db: Connection[Record]) -> None:
    """One step behind: the error names both versions and the command."""
    await migrate_down(db)
    with pytest.raises(
        SchemaError, match=rf"version {LATEST - 1}, this edge needs {LATEST}: run `sip-edge migrate up`"
    ):
        await check_schema(db)
    await migrate_up(db)
    await check_schema(db)


async def test_an_edge_refuses_a_newer_schema(db: Connection[Record]) -> None:
    """One step ahead: neither started on nor migrated."""
    await db.execute("INSERT INTO sip_edge.schema_versions (version, name) VALUES ($1, 'future')", LATEST + 1)
    for move in (check_schema, migrate_up, migrate_down):
        with pytest.raises(SchemaError, match="migrate down"):
            await move(db)


async def test_two_that_migrate_take_turns(db: Connection[Record], url: str) -> None:
    """Of several processes that migrate at once, one does and the others find nothing to do."""
    while await migrate_down(db):
        pass

    async def migrate() -> int:
        connection = await asyncpg.connect(url)
        try:
            return len(await migrate_up(connection))
        finally:
            await connection.close()

    assert sorted(await asyncio.gather(migrate(), migrate(), migrate())) == [0, 0, len(MIGRATIONS)]
