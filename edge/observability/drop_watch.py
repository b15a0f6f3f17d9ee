"""Tells of datagrams that the kernel threw away before the edge could read them: nothing else has a trace of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from edge.observability.logging import get_logger

_EVERY = 5.0
_QUIET = 60.0
"""Seconds between two lines about the same listener."""

log = get_logger("transport")


class DropWatch:
    """Asks `dropped` (datagrams so far, by listener) every few seconds, from `start` to `stop`."""

    def __init__(self, dropped: Callable[[], Mapping[str, int]], now: Callable[[], float]) -> None:
        self._dropped = dropped
        self._now = now
        self._told: dict[str, tuple[int, float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Tell now of what was dropped since the last line."""
        now = self._now()
        for listener, count in self._dropped().items():
            before, at = self._told.get(listener, (0, -_QUIET))
            if count > before and now - at >= _QUIET:
                self._told[listener] = (count, now)
                log.warning("listener.dropped", listener=listener, dropped=count - before)

    def start(self) -> None:
        """Begin, in the running loop. An upgrade inherits the sockets with their counts: those are no news."""
        self._told = {listener: (count, -_QUIET) for listener, count in self._dropped().items()}
        self._arm()

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_EVERY, self._tick)

    def _tick(self) -> None:
        self.look()
        self._arm()
