"""Notices steps of the wall clock: calls do not depend on it, but records carry its times and purging goes by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge.observability.logging import get_logger

STEP = 1.0
"""Seconds by which the wall clock moves against the monotonic one that are no slewing any more."""
LARGE = 600.0
_EVERY = 2.0
_MISTRUST = 3600.0
"""Seconds after a large step for which nothing is deleted because of its age: the step may be the mistake."""

log = get_logger("clock")


class ClockWatch:
    """Compares `wall` with `monotonic` (both seconds) every two seconds, from `start` to `stop`."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.steps = 0
        """Steps since the start."""
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()
        self._mistrusted_until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def trusted(self) -> bool:
        """Whether ages may be judged by the wall clock. False for an hour after a step of more than ten minutes."""
        self.look()
        return self._monotonic() >= self._mistrusted_until

    def look(self) -> None:
        """Compare now."""
        now = self._monotonic()
        offset = self._wall() - now
        moved, self._offset = offset - self._offset, offset
        if abs(moved) < STEP:
            return
        self.steps += 1
        if abs(moved) > LARGE:
            self._mistrusted_until = now + _MISTRUST
        log.warning(
            "clock.stepped", seconds=round(moved, 3), purging="waits an hour" if abs(moved) > LARGE else "goes on"
        )

    def start(self) -> None:
        """Begin, in the running loop."""
        self._timer = asyncio.get_running_loop().call_later(_EVERY, self._tick)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self.look()
        self.start()
