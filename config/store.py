"""The edge's view of the shared database: a pool for those who write, the provisioning snapshot for those who read.

One connection listens for changes; what changed is loaded again and swapped in whole. While the database is away the
last good snapshot stays, across restarts too (`config.cache`). What the pool raises then is for its users to bear.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import asyncpg
import structlog
from asyncpg import Record
from asyncpg.connection import Connection
from asyncpg.pool import Pool, PoolConnectionProxy

from config.away import AWAY
from config.cache import CacheError, load_rows_from, save_rows
from config.errors import ConfigError
from config.loader import TABLES, load_numbers, load_rows
from config.migrations.runner import check_schema
from config.model import NumberRow, Rows
from config.secrets import SecretBox
from config.snapshot import EMPTY, NumberIndex, Snapshot

CHANNEL = "sip_edge_provisioning"

OnSwap = Callable[[Snapshot, Snapshot], None]

_CONNECT_TIMEOUT = 5.0
_FIRST_DELAY, _LAST_DELAY = 0.2, 10.0
_PROBE_EVERY = 10.0
_CACHE_EVERY = 5.0
_MOST_KEYS = 2000
"""With more changed numbers than these the tables are read again."""
_MANY = 50_000
_OF_NUMBERS = frozenset({"numbers", "ranges"})


class Store:
    """Keeps `snapshot` up to date from `start` to `stop`.

    `cache`: where the last good rows are kept; None: nowhere. `quiet`: seconds to wait for more changes before loading.
    """

    def __init__(self, url: str, box: SecretBox, realm: str, cache: Path | None = None, quiet: float = 0.05) -> None:
        self.snapshot: Snapshot = EMPTY
        self.connected = False
        """The database answers, and `snapshot` is as it has it."""
        self._url = url
        self._box = box
        self._realm = realm
        self._cache = cache
        self._quiet = quiet
        self._rows: Rows | None = None
        self._version = 0
        self._pool: Pool[Record] | None = None
        self._connection: Connection[Record] | None = None
        self._changed: set[str] = set()
        self._keys: set[str] = set()
        self._wake = asyncio.Event()
        self._followers: list[OnSwap] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._unsaved = asyncio.Event()
        self._current_at = time.monotonic()
        self._log = structlog.get_logger("config.store")

    def age(self) -> float:
        """Seconds since `snapshot` was last known to be what the database has (since the start, where it never was)."""
        return time.monotonic() - self._current_at

    def pool(self) -> Pool[Record]:
        """The pool, for tables that are written. Connects as needed: what is raised where the database is away is one
        of `AWAY`."""
        if self._pool is None:
            raise RuntimeError("the store is not started")
        return self._pool

    def on_swap(self, follower: OnSwap) -> None:
        """Call `follower(old, new)` after each swap."""
        self._followers.append(follower)

    async def start(self) -> None:
        """Load the snapshot, from the database or, where it is away, from the cache; then follow changes.

        Raises SchemaError for a schema that this edge does not know, and ConfigError where there is nothing to start
        from or the stored passwords are for another realm.
        """
        # connections are made when they are needed, so that a pool can be had while the database is away
        self._pool = await asyncpg.create_pool(self._url, min_size=0, max_size=10, command_timeout=30)
        try:
            self._connection = await self._connect()
        except AWAY as error:
            await self._start_without(error)
        except BaseException:
            await self.stop()
            raise
        self._tasks.append(asyncio.create_task(self._follow()))
        if self._cache is not None:
            self._tasks.append(asyncio.create_task(self._keep_cache(self._cache)))

    async def stop(self) -> None:
        """Close everything; the snapshot stays readable."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._disconnect()
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT):
                    await pool.close()
            except AWAY:
                pool.terminate()

    async def _start_without(self, error: BaseException) -> None:
        why = f"the database does not answer ({_text(error)})"
        if self._cache is None:
            await self.stop()
            raise ConfigError(f"{why}: start it, or correct DATABASE_URL") from None
        try:
            rows = await asyncio.to_thread(load_rows_from, self._cache, self._box)
        except CacheError as broken:
            await self.stop()
            raise ConfigError(f"{why}, and {broken}: start the database, or correct DATABASE_URL") from None
        self._log.error("store.started_from_cache", detail=f"{why}; the last good provisioning is used until it does")
        await self._swap(rows)
        self._unsaved.clear()

    def _disconnect(self) -> None:
        self.connected = False
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _follow(self) -> None:
        delay = _FIRST_DELAY
        while True:
            try:
                if self._connection is None:
                    await self._pause(delay)
                    self._connection = await self._connect()
                    self._log.info("store.connected", detail="the database answers again")
                delay = _FIRST_DELAY
                await self._serve(self._connection)
            except (*AWAY, ConfigError) as error:
                if self.connected:
                    self._log.error("store.lost", detail=f"{_text(error)}; the last good provisioning stays in use")
                elif isinstance(error, ConfigError):
                    self._log.error("store.unusable", detail=str(error))
                else:
                    self._log.warning("store.away", detail=_text(error))
            self._disconnect()
            delay = min(delay * 2, _LAST_DELAY)

    async def _connect(self) -> Connection[Record]:
        """Connect, listen and load. Listening comes first, so that no change is missed."""
        connection: Connection[Record] = await asyncpg.connect(self._url, timeout=_CONNECT_TIMEOUT, command_timeout=60)
        try:
            await check_schema(connection)
            await _agree_on_realm(connection, self._realm)
            self._changed.clear()
            self._keys.clear()
            await connection.add_listener(CHANNEL, self._notified)
            connection.add_termination_listener(self._terminated)
            await self._swap(await load_rows(connection, self._box, on_fault=self._report))
        except BaseException:
            connection.terminate()
            raise
        self.connected = True
        self._current_at = time.monotonic()
        return connection

    async def _serve(self, connection: Connection[Record]) -> None:
        while True:
            try:
                # not wait_for: it can lose a cancellation that comes together with the event
                async with asyncio.timeout(_PROBE_EVERY):
                    await self._wake.wait()
            except TimeoutError:
                await connection.execute("SELECT 1", timeout=_CONNECT_TIMEOUT)
                self._current_at = time.monotonic()
                continue
            if connection.is_closed():
                raise asyncpg.InterfaceError("the connection to the database broke")
            await self._pause(self._quiet)
            self._wake.clear()
            changed, self._changed = self._changed & TABLES, set()
            keys, self._keys = self._keys, set()
            if len(keys) > _MOST_KEYS:
                changed |= _OF_NUMBERS
            numbers: dict[str, NumberRow | None] = {}
            if changed or keys:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    rows = await load_rows(connection, self._box, self._rows, changed, self._report)
                    if keys and "numbers" not in changed:
                        # a change of blocks brings their ranges again, and leaves single numbers as they were
                        numbers = await load_numbers(connection, keys)
                await self._swap(rows, numbers)
            self._current_at = time.monotonic()

    async def _swap(self, rows: Rows, changes: Mapping[str, NumberRow | None] | None = None) -> None:
        self._version += 1
        index = None
        if self._rows is not None and rows.numbers is self._rows.numbers:
            index = self.snapshot.number_index
        # a million numbers take a second to index: calls go on meanwhile
        new, rows = await asyncio.to_thread(_index, rows, self._version, index, changes or {})
        old, self.snapshot, self._rows = self.snapshot, new, rows
        if index is None and len(rows.numbers) > _MANY:
            # the collector would look at millions of objects that stay, half a second without a call moving
            gc.freeze()
        self._unsaved.set()
        for follower in self._followers:
            follower(old, new)

    async def _keep_cache(self, file: Path) -> None:
        while True:
            await self._unsaved.wait()
            self._unsaved.clear()
            if self._rows is not None:
                try:
                    await asyncio.to_thread(save_rows, file, self._rows, self._box)
                except OSError as error:
                    self._log.error("store.cache_not_written", detail=f"{file}: {error}")
            await self._pause(_CACHE_EVERY)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().create_future()

    def _notified(
        self, connection: Connection[Record] | PoolConnectionProxy[Record], pid: int, channel: str, payload: object
    ) -> None:
        table, *keys = str(payload).split(" ")
        if keys:
            self._keys.update(keys)
        else:
            self._changed.add(table)
        self._wake.set()

    def _terminated(self, connection: Connection[Record] | PoolConnectionProxy[Record]) -> None:
        self._wake.set()

    def _report(self, fault: str) -> None:
        self._log.error("store.secret", detail=fault)


def _index(
    rows: Rows, version: int, index: NumberIndex | None, changes: Mapping[str, NumberRow | None]
) -> tuple[Snapshot, Rows]:
    if changes:
        index = (index or NumberIndex(rows.numbers)).changed(changes)
        rows = replace(rows, numbers=tuple(index.rows.values()))
    return Snapshot(rows, version, index), rows


async def _agree_on_realm(connection: Connection[Record], realm: str) -> None:
    stored = await connection.fetchval("SELECT value FROM sip_edge.settings WHERE name = 'realm'")
    if stored == realm:
        return
    try:
        await connection.execute(
            "INSERT INTO sip_edge.settings (name, value) VALUES ('realm', $1) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            realm,
        )
    except asyncpg.PostgresError as error:
        if error.sqlstate != "SE001":
            raise
        raise ConfigError(
            f"the passwords in the database are for realm {stored!r}, not {realm!r}: set realm = {stored!r}"
        ) from None


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
