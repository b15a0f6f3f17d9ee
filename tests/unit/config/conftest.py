"""A real PostgreSQL for the session; each test gets a database of its own, copied from a migrated one."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest
from asyncpg import Record
from asyncpg.connection import Connection

from config.embedded import EmbeddedPostgres
from config.migrations.runner import migrate_up
from config.secrets import SecretBox, new_key

_numbers = count()


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    """The embedded server, with a template of the newest schema."""
    folder = Path(tempfile.mkdtemp(prefix="sip-edge-test-"))
    postgres = EmbeddedPostgres(folder / "pg")

    async def prepare() -> None:
        url = await postgres.start()
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE DATABASE newest")
        await connection.close()
        connection = await asyncpg.connect(url, database="newest")
        await migrate_up(connection)
        await connection.close()
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE DATABASE settled TEMPLATE newest")
        await connection.close()
        connection = await asyncpg.connect(url, database="settled")
        await connection.execute(WORLD)
        await connection.close()

    try:
        asyncio.run(prepare())
        yield postgres
    finally:
        asyncio.run(postgres.stop())
        shutil.rmtree(folder)


@pytest.fixture
async def url(server: EmbeddedPostgres) -> AsyncIterator[str]:
    """The URL of a fresh database with the newest schema."""
    name = f"test_{next(_numbers)}"
    admin: Connection[Record] = await asyncpg.connect(server.url)
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE newest")
    yield server.url.replace("/postgres?", f"/{name}?")
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def db(url: str) -> AsyncIterator[Connection[Record]]:
    """A connection to the fresh database."""
    connection: Connection[Record] = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.fixture
async def world(db: Connection[Record]) -> Connection[Record]:
    """The same, with two customers, a carrier, and something of everything."""
    await db.execute(WORLD)
    return db


@pytest.fixture
async def settled(server: EmbeddedPostgres) -> AsyncIterator[Connection[Record]]:
    """A connection to one database with the same content, for tests that leave nothing behind."""
    connection: Connection[Record] = await asyncpg.connect(server.url, database="settled")
    yield connection
    await connection.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user can be let into: pytest closes the one above its own to others, again and again."""
    path = Path(tempfile.mkdtemp(prefix="sip-edge-test-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def box() -> SecretBox:
    return SecretBox(new_key())


WORLD = """
BEGIN;
INSERT INTO sip_edge.carriers (name, domain, username) VALUES ('telekom', 'tel.example', '+4919929');
INSERT INTO sip_edge.accounts (id, country) VALUES ('K1', 'DE'), ('K2', 'DE'), ('UK', 'GB');
INSERT INTO sip_edge.accounts (id, status) VALUES ('TRIAL', 'trial');
INSERT INTO sip_edge.trunks (account, name, username) VALUES ('K1', 'hq', 'hq-k1'), ('K2', 'hq', 'hq-k2');
INSERT INTO sip_edge.external_numbers (account, number, status, method, verified_at)
    VALUES ('K1', '+4922129191999', 'verified', 'call', now()), ('K1', '+4922129191998', 'unverified', NULL, NULL),
           ('K2', '+4922129191997', 'verified', 'call', now());
INSERT INTO sip_edge.seats (username, account, extension) VALUES
    ('anna1', 'K1', '201'), ('bert1', 'K1', '202'), ('carl2', 'K2', '201'), ('dora3', 'UK', '201');
INSERT INTO sip_edge.blocks (prefix, digits, account, carrier) VALUES ('+49228386', 2, 'K1', 'telekom');
INSERT INTO sip_edge.ranges (prefix, block, route_kind, route_target) VALUES ('+492283860', '+49228386', 'trunk', 'hq');
INSERT INTO sip_edge.numbers (number, account, carrier, cli_prefix, route_kind, route_target) VALUES
    ('+493012345601', 'K1', 'telekom', '23', 'seat', 'anna1'),
    ('+493012345602', 'K1', 'telekom', NULL, 'none', NULL),
    ('+493012345603', 'K2', 'telekom', '23', 'seat', 'carl2');
INSERT INTO sip_edge.fax_boxes (account, name, email) VALUES ('K1', 'office', 'fax@k1.example');
COMMIT;
"""
