"""Lets go of what lingers after calls, each second: else the last ones before a quiet night are held until morning."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

EVERY = 1.0
"""Seconds."""


class Forgetting:
    """Calls `rooms` in turn for as long as it runs; each lets go of what has lingered long enough."""

    def __init__(self, *rooms: Callable[[], None], every: float = EVERY) -> None:
        """`every`: seconds between two rounds."""
        self._rooms = rooms
        self._every = every
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Work until `stop`."""
        while not self._stopping.is_set():
            for forget in self._rooms:
                forget()
            try:
                async with asyncio.timeout(self._every):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()
