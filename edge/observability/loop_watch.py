"""Watches how late the event loop runs its timers: the first sign that this process has too much to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_EVERY = 0.25


class LoopWatch:
    """Gives `observe` the lateness (seconds) of a timer, four times a second, from `start` to `stop`."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; to be called in the loop that is watched."""
        loop = asyncio.get_running_loop()
        self._arm(loop)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + _EVERY
        self._timer = loop.call_at(due, self._tick, loop, due)

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._observe(max(0.0, loop.time() - due))
        self._arm(loop)
