"""Timers that calls start, many at a time, for minutes and hours, and mostly stop: all over one timer of the loop.

Each timer of the loop would hold some 600 bytes (its handle, a context, what libuv keeps), these 200.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush


class RunningTimer:
    """A timer that runs, or has fired or was stopped."""

    __slots__ = ("_arguments", "_at", "_callback", "_timers")

    def __init__(self, timers: Timers, at: float, callback: Callable[..., None], arguments: tuple[object, ...]) -> None:
        self._timers = timers
        self._at = at
        self._callback: Callable[..., None] | None = callback
        self._arguments = arguments

    def __lt__(self, other: RunningTimer) -> bool:
        return self._at < other._at

    def when(self) -> float:
        """When it is due, on the loop's clock."""
        return self._at

    def cancel(self) -> None:
        """Stop it; one that has fired, or was stopped before, is left alone."""
        if self._callback is not None:
            self._callback = None
            self._timers._stopped()


class Timers:
    """Timers by deadline. To be used in the event loop."""

    __slots__ = ("_armed", "_dead", "_handle", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, RunningTimer]] = []
        self._dead = 0
        self._armed = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def later(self, delay: float, callback: Callable[..., None], *arguments: object) -> RunningTimer:
        """Call `callback` with `arguments` after `delay` seconds."""
        loop = asyncio.get_running_loop()
        at = loop.time() + delay
        timer = RunningTimer(self, at, callback, arguments)
        heappush(self._heap, (at, timer))
        if self._handle is None or at < self._armed:
            self._arm(loop, at)
        return timer

    def __len__(self) -> int:
        """Those that run."""
        return len(self._heap) - self._dead

    def _arm(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed = at
        # never early: the loop counts in milliseconds and would come back again and again in the last one
        self._handle = loop.call_at(at + 0.001, self._due)

    def _due(self) -> None:
        self._handle = None
        loop = asyncio.get_running_loop()
        heap = self._heap
        try:
            while heap:
                at, timer = heap[0]
                callback = timer._callback
                if callback is not None and at > loop.time():
                    break
                heappop(heap)
                if callback is None:
                    self._dead -= 1
                else:
                    timer._callback = None
                    callback(*timer._arguments)
        finally:  # one that fails must not keep the others from being called
            if heap and self._handle is None:
                self._arm(loop, heap[0][0])

    def _stopped(self) -> None:
        self._dead += 1
        if self._dead > 256 and self._dead * 2 > len(self._heap):
            # in its place: `_due` may be going through it
            self._heap[:] = [entry for entry in self._heap if entry[1]._callback is not None]
            heapify(self._heap)
            self._dead = 0
