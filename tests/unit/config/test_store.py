"""The snapshot follows the database, outlives it, and survives a restart without it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from asyncpg import Record
from asyncpg.connection import Connection

from config.cache import CacheError, load_rows_from, save_rows
from config.embedded import EmbeddedPostgres
from config.errors import ConfigError
from config.loader import load_rows
from config.migrations.runner import SchemaError, migrate_down, migrate_up
from config.model import Ha1, Route, RouteKind
from config.secrets import SecretBox, new_key
from config.snapshot import Snapshot
from config.store import Store

NOWHERE = "postgresql://postgres@/postgres?host=/nonexistent"


class Follower:
    """Waits until a swap makes a condition true."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.swaps = 0
        self._event = asyncio.Event()
        store.on_swap(self._swapped)

    def _swapped(self, old: Snapshot, new: Snapshot) -> None:
        assert new.version > old.version
        self.swaps += 1
        self._event.set()

    async def until(self, condition: Callable[[Snapshot], bool], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition(self.store.snapshot):
                self._event.clear()
                await self._event.wait()


async def test_rows_become_the_snapshot(world: Connection[Record], url: str, box: SecretBox) -> None:
    """Every table arrives; ranges have their block's values, cross-account numbers their serving account."""
    await world.execute("SELECT sip_edge.set_seat_password('anna1', 'long enough')")
    await world.execute(
        "UPDATE sip_edge.carriers SET sealed_password = $1, sources = '{10.0.0.1,10.1.0.0/16}'", box.seal("secret")
    )
    await world.execute("UPDATE sip_edge.blocks SET channels = 7, served_account = 'K2'; ")
    await world.execute(
        "UPDATE sip_edge.numbers SET on_busy_kind = 'reject', on_busy_target = '486' WHERE cli_prefix = '23'"
    )
    snapshot = Snapshot(await load_rows(world, box))
    carrier = snapshot.carriers["telekom"]
    assert (carrier.password, carrier.sources) == ("secret", ("10.0.0.1", "10.1.0.0/16"))
    assert snapshot.seats["anna1"].ha1 != Ha1() and snapshot.seats["bert1"].ha1 == Ha1()
    leaf = snapshot.number("+4922838605")
    assert leaf is not None
    assert (leaf.channels, leaf.account, leaf.serving, leaf.carrier, leaf.block) == (
        7,
        "K1",
        "K2",
        "telekom",
        "+49228386",
    )
    assert leaf.route == Route(RouteKind.TRUNK, "hq")
    assert snapshot.number("+4922838655") is None and snapshot.block("+4922838655") is not None
    single = snapshot.number("+493012345601")
    assert single is not None and single.on_busy == Route(RouteKind.REJECT, "486")
    assert snapshot.number_by_cli_prefix("K2", "23") is snapshot.number("+493012345603")
    assert snapshot.external_number("K1", "+4922129191999") is not None
    assert set(snapshot.fax_boxes) == {("K1", "office")} and set(snapshot.trunks) == {("K1", "hq"), ("K2", "hq")}


async def test_a_wrong_key_costs_one_password_only(world: Connection[Record], box: SecretBox) -> None:
    """A secret sealed with another key is reported by name, without the secret; everything else is loaded."""
    await world.execute("UPDATE sip_edge.carriers SET sealed_password = $1", SecretBox(new_key()).seal("hidden"))
    faults: list[str] = []
    rows = await load_rows(world, box, on_fault=faults.append)
    assert rows.carriers[0].password is None
    assert (
        len(faults) == 1 and "carrier telekom" in faults[0] and "secret_key" in faults[0] and "hidden" not in faults[0]
    )


async def test_a_change_is_followed_within_a_second(world: Connection[Record], url: str, box: SecretBox) -> None:
    """NOTIFY: insert, update and delete arrive; a transaction of many statements arrives whole and once."""
    store = Store(url, box, "sip-edge")
    await store.start()
    follower = Follower(store)
    try:
        await world.execute("INSERT INTO sip_edge.seats (username, account) VALUES ('emil1', 'K1')")
        await follower.until(lambda s: "emil1" in s.seats, 1.0)
        async with world.transaction():
            await world.execute("UPDATE sip_edge.accounts SET parallel_calls = 9 WHERE id = 'K1'")
            await world.execute("UPDATE sip_edge.numbers SET channels = 5")
            await world.execute("DELETE FROM sip_edge.seats WHERE username = 'emil1'")
        before = follower.swaps
        await follower.until(lambda s: "emil1" not in s.seats, 1.0)
        assert follower.swaps == before + 1
        assert store.snapshot.accounts["K1"].parallel_calls == 9
        assert {n.channels for n in store.snapshot._numbers.values() if n.block is None} == {5}
    finally:
        await store.stop()


async def test_changed_numbers_are_followed_one_by_one(world: Connection[Record], url: str, box: SecretBox) -> None:
    """A few changed numbers and ranges are read alone; the snapshot is the one that reading everything gives."""
    store = Store(url, box, "sip-edge")
    await store.start()
    follower = Follower(store)
    try:
        async with world.transaction():
            await world.execute("UPDATE sip_edge.numbers SET channels = 9, cli_prefix = '24' WHERE cli_prefix = '23'")
            await world.execute("DELETE FROM sip_edge.numbers WHERE number = '+493012345602'")
            await world.execute(
                "INSERT INTO sip_edge.numbers (number, account, carrier) VALUES ('+4940123456', 'K2', 'telekom')"
            )
            await world.execute("UPDATE sip_edge.ranges SET prefix = '+492283861' WHERE prefix = '+492283860'")
        await follower.until(lambda s: s.number("+4940123456") is not None, 1.0)
        fresh = Snapshot(await load_rows(world, box)).number_index
        kept = store.snapshot.number_index
        assert (kept.rows, kept.cli_prefixes, kept.at_carrier) == (fresh.rows, fresh.cli_prefixes, fresh.at_carrier)
        assert store.snapshot.number("+4922838605") is None and store.snapshot.number("+4922838615") is not None
        async with world.transaction():
            await world.execute("UPDATE sip_edge.blocks SET channels = 8")
            await world.execute(
                "INSERT INTO sip_edge.numbers (number, account, carrier) VALUES ('+4940123457', 'K2', 'telekom')"
            )
        await follower.until(lambda s: s.number("+4940123457") is not None, 1.0)
        fresh = Snapshot(await load_rows(world, box)).number_index
        assert store.snapshot.number_index.rows == fresh.rows, "with a block changed in the same breath"
        await world.execute(
            "INSERT INTO sip_edge.numbers (number, account, carrier) "
            "SELECT '+4940' || n, 'K1', 'telekom' FROM generate_series(1000000, 1000200) AS n"
        )
        await follower.until(lambda s: s.number("+49401000200") is not None, 1.0)
    finally:
        await store.stop()


async def test_a_cut_connection_is_mended(world: Connection[Record], url: str, box: SecretBox) -> None:
    """The server ends our connection: the snapshot stays, and what changed meanwhile is there after reconnecting."""
    store = Store(url, box, "sip-edge")
    await store.start()
    follower = Follower(store)
    try:
        await world.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await world.execute("INSERT INTO sip_edge.seats (username, account) VALUES ('emil1', 'K1')")
        assert "anna1" in store.snapshot.seats
        await follower.until(lambda s: "emil1" in s.seats)
        assert store.connected
        async with store.pool().acquire() as connection:
            assert await connection.fetchval("SELECT 1") == 1
    finally:
        await store.stop()


async def test_calls_go_on_while_the_database_restarts(folder: Path, box: SecretBox) -> None:
    """The server stops and starts again: last good snapshot meanwhile, new one after."""
    server = EmbeddedPostgres(folder / "pg")
    url = await server.start()
    connection = await asyncpg.connect(url)
    await migrate_up(connection)
    await connection.execute("INSERT INTO sip_edge.accounts (id) VALUES ('K1')")
    await connection.close()
    store = Store(url, box, "sip-edge", folder / "snapshot.cache")
    await store.start()
    follower = Follower(store)
    try:
        await server.stop()
        assert "K1" in store.snapshot.accounts
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            async with store.pool().acquire() as pooled:
                await pooled.fetchval("SELECT 1")
        await server.start()
        connection = await asyncpg.connect(url)
        await connection.execute("INSERT INTO sip_edge.accounts (id) VALUES ('K2')")
        await connection.close()
        await follower.until(lambda s: "K2" in s.accounts)
    finally:
        await store.stop()
        await server.stop()


async def test_started_without_the_database(
    world: Connection[Record], url: str, tmp_path: Path, box: SecretBox
) -> None:
    """The last good provisioning is used, its file is the owner's alone and holds nothing in clear."""
    await world.execute("UPDATE sip_edge.carriers SET sealed_password = $1", box.seal("open sesame"))
    cache = tmp_path / "snapshot.cache"
    rows = await load_rows(world, box)
    save_rows(cache, rows, box)
    assert cache.stat().st_mode & 0o777 == 0o600
    content = cache.read_bytes()
    assert not any(word in content for word in (b"open sesame", b"anna1", b"+49301234"))
    store = Store(NOWHERE, box, "sip-edge", cache)
    await store.start()
    assert not store.connected and store.snapshot.carriers["telekom"].password == "open sesame"
    assert set(store.snapshot.seats) == {"anna1", "bert1", "carl2", "dora3"}
    await store.stop()


def _appears(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


async def test_a_running_store_writes_the_cache(
    world: Connection[Record], url: str, tmp_path: Path, box: SecretBox
) -> None:
    """What is loaded is soon on disk."""
    cache = tmp_path / "snapshot.cache"
    store = Store(url, box, "sip-edge", cache)
    await store.start()
    async with asyncio.timeout(5):
        await asyncio.to_thread(_appears, cache)
    await store.stop()
    assert load_rows_from(cache, box) == await load_rows(world, box)


async def test_no_database_and_no_cache_is_said(tmp_path: Path, box: SecretBox) -> None:
    """Without anything to start from the edge does not start, and says what to do; a broken cache is no better."""
    cache = tmp_path / "snapshot.cache"
    with pytest.raises(ConfigError, match=r"does not answer.*DATABASE_URL"):
        await Store(NOWHERE, box, "sip-edge", cache).start()
    cache.write_bytes(os.urandom(100))
    with pytest.raises(ConfigError, match="cannot be used"):
        await Store(NOWHERE, box, "sip-edge", cache).start()


async def test_a_cut_off_cache_is_not_used(world: Connection[Record], tmp_path: Path, box: SecretBox) -> None:
    """Half a file is no provisioning."""
    cache = tmp_path / "snapshot.cache"
    save_rows(cache, await load_rows(world, box), box)
    lines = cache.read_bytes().splitlines(keepends=True)
    cache.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(CacheError, match="cut off"):
        load_rows_from(cache, box)


async def test_an_unknown_schema_is_refused(db: Connection[Record], url: str, tmp_path: Path, box: SecretBox) -> None:
    """A database that answers with another schema is no reason to start from the cache."""
    cache = tmp_path / "snapshot.cache"
    save_rows(cache, await load_rows(db, box), box)
    await migrate_down(db)
    with pytest.raises(SchemaError, match="sip-edge migrate up"):
        await Store(url, box, "sip-edge", cache).start()


async def test_another_realm(world: Connection[Record], url: str, box: SecretBox) -> None:
    """The realm may be chosen until the first password; then an edge with another one does not start."""
    store = Store(url, box, "voice.example")
    await store.start()
    await store.stop()
    await world.execute("SELECT sip_edge.set_seat_password('anna1', 'long enough')")
    with pytest.raises(ConfigError, match=r"set realm = 'voice\.example'"):
        await Store(url, box, "sip-edge").start()
