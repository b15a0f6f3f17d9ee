"""Move the schema forward and back, one version at a time, each in a transaction of its own.

All objects live in the schema `sip_edge`; `sip_edge.schema_versions` says what was applied. Only one process migrates
at a time (an advisory lock); the others wait and then find nothing to do.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from config.errors import ConfigError

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.up\.sql")
_LOCK = 0x5349_5045  # "SIPE"


class SchemaError(ConfigError):
    """The database's schema is not the one that this version of the edge works with; says which command mends it."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One version of the schema."""

    version: int
    name: str
    up: str
    down: str

    def __str__(self) -> str:
        return f"{self.version:04d}_{self.name}"


def _load() -> tuple[Migration, ...]:
    folder = files("config.migrations") / "versions"
    found = []
    for entry in folder.iterdir():
        match = _FILE.fullmatch(entry.name)
        if match:
            down = folder / entry.name.replace(".up.", ".down.")
            found.append(Migration(int(match[1]), match[2], entry.read_text("utf-8"), down.read_text("utf-8")))
    found.sort(key=lambda m: m.version)
    if [m.version for m in found] != list(range(1, len(found) + 1)):
        raise RuntimeError(f"migrations are not numbered one by one: {', '.join(map(str, found))}")
    return tuple(found)


MIGRATIONS = _load()
LATEST = MIGRATIONS[-1].version


async def current_version(connection: asyncpg.Connection) -> int:
    """The version that the database is at; 0: none."""
    if await connection.fetchval("SELECT to_regclass('sip_edge.schema_versions')") is None:
        return 0
    version = await connection.fetchval("SELECT coalesce(max(version), 0) FROM sip_edge.schema_versions")
    return int(version)


async def check_schema(connection: asyncpg.Connection) -> None:
    """Raise SchemaError unless the database is at the version that this code knows."""
    version = await current_version(connection)
    if version < LATEST:
        raise SchemaError(
            f"the database's schema is at version {version}, this edge needs {LATEST}: run `sip-edge migrate up`"
        )
    if version > LATEST:
        raise SchemaError(
            f"the database's schema is at version {version}, this edge knows {LATEST} at most: install a newer edge, "
            f"or run `sip-edge migrate down` of the newer edge until it is at {LATEST}"
        )


async def migrate_up(connection: asyncpg.Connection, target: int = LATEST) -> list[Migration]:
    """Apply what is missing up to `target`; returns what was applied. Raises SchemaError where the schema is newer."""
    applied = []
    async with _alone(connection):
        version = await current_version(connection)
        if version > LATEST:
            await check_schema(connection)
        for migration in MIGRATIONS:
            if version < migration.version <= target:
                async with connection.transaction():
                    await connection.execute(migration.up)
                    await connection.execute(
                        "INSERT INTO sip_edge.schema_versions (version, name) VALUES ($1, $2)",
                        migration.version,
                        migration.name,
                    )
                applied.append(migration)
    return applied


async def migrate_down(connection: asyncpg.Connection) -> Migration | None:
    """Take back the newest version; None where there is none. What only that version can hold is lost."""
    async with _alone(connection):
        version = await current_version(connection)
        if version == 0:
            return None
        if version > LATEST:
            await check_schema(connection)
        migration = next(m for m in MIGRATIONS if m.version == version)
        async with connection.transaction():
            await connection.execute(migration.down)
            await connection.execute("DELETE FROM sip_edge.schema_versions WHERE version = $1", version)
        return migration


@asynccontextmanager
async def _alone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        async with connection.transaction():
            await connection.execute("CREATE SCHEMA IF NOT EXISTS sip_edge")
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS sip_edge.schema_versions ("
                "version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
