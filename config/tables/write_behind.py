"""Writes to the database that nobody waits for: the newest value of each key, in batches, retried until stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from config.away import AWAY

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.connection import Connection
    from asyncpg.pool import PoolConnectionProxy

    AnyConnection: TypeAlias = "Connection[Record] | PoolConnectionProxy[Record]"

K = TypeVar("K")
V = TypeVar("V")

Acquire: TypeAlias = "Callable[[], AbstractAsyncContextManager[AnyConnection]]"
"""Gives a connection for a while; a pool's `acquire`."""


_RETRY_FIRST = 1.0
_RETRY_MAX = 30.0
_SOON = 0.02
"""Seconds that changes are collected for where somebody waits until they are stored."""


class WriteBehind(Generic[K, V]):
    """Collects changes; `run` stores them through `save`. A key that changes twice before it is stored is stored once.

    `failed` hears each failed attempt. `save` has to store all of its mapping or nothing.
    """

    __slots__ = ("_away", "_failed", "_hurry", "_interval", "_pending", "_save", "_stopped", "_waiting", "_wake")

    def __init__(
        self,
        save: Callable[[Mapping[K, V]], Awaitable[None]],
        failed: Callable[[Exception], None],
        interval: float = 0.5,
    ) -> None:
        """`interval`: seconds that changes are collected for."""
        self._save = save
        self._failed = failed
        self._interval = interval
        self._pending: dict[K, V] = {}
        self._waiting: list[Callable[[], None]] = []
        self._away = False
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stopped = asyncio.Event()

    @property
    def pending(self) -> int:
        """Keys that are not stored yet."""
        return len(self._pending)

    def put(self, key: K, value: V) -> None:
        """Store this some time soon; never blocks."""
        self._pending[key] = value
        self._wake.set()

    def when_stored(self, then: Callable[[], None]) -> None:
        """Call `then` once all that is pending now is stored, within some hundredths of a second; at once where nothing
        is pending or the database is away, since nobody is to wait for it."""
        if self._away or not self._pending:
            then()
            return
        self._waiting.append(then)
        self._hurry.set()

    async def run(self) -> None:
        """Store what comes, until `stop`; then what is left, trying once."""
        retry = _RETRY_FIRST
        while not self._stopped.is_set():
            await self._wake.wait()
            await self._collect()
            if await self.flush():
                retry = _RETRY_FIRST
            elif not self._stopped.is_set():
                await self._pause(retry)
                retry = min(_RETRY_MAX, retry * 2)
                self._wake.set()
        await self.flush()

    async def flush(self) -> bool:
        """Store what is pending now. False where the database did not take it; it stays pending."""
        self._wake.clear()
        self._hurry.clear()
        batch, self._pending = self._pending, {}
        waiting, self._waiting = self._waiting, []
        try:
            if batch:
                await self._save(batch)
            self._away = False
        except AWAY as error:
            self._pending = {**batch, **self._pending}
            self._away = True
            self._failed(error)
            waiting, self._waiting = [*waiting, *self._waiting], []
            return False
        except BaseException:
            self._pending = {**batch, **self._pending}
            raise
        finally:
            for then in waiting:
                then()
        return True

    def stop(self) -> None:
        """Let `run` end after a last flush."""
        self._stopped.set()
        self._hurry.set()
        self._wake.set()

    async def _collect(self) -> None:
        try:
            async with asyncio.timeout(self._interval):
                await self._hurry.wait()
        except TimeoutError:
            return
        await self._pause(_SOON)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass
