"""Coroutines that begin at once, as Python 3.12 has them with eager tasks.

A task begins in the loop's next turn, and its end is told in one more. Most of what a call does beside its events need
not wait at all, or for one answer only, and each turn is a system call.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine
from typing import Any, cast


class Work:
    """A coroutine under way. It is the current task of what it runs, so that `asyncio.timeout` works in it."""

    __slots__ = ("__weakref__", "_cancels", "_coroutine", "_ended", "_loop", "_waits_for")

    def __init__(
        self, coroutine: Coroutine[Any, Any, None], ended: Callable[[Work, BaseException | None], None]
    ) -> None:
        """`ended` hears of its end, and of what was raised; before `begin` returns where nothing was to wait for."""
        self._coroutine = coroutine
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._waits_for: asyncio.Future[Any] | None = None
        self._cancels = 0

    def begin(self) -> None:
        """Run up to the first wait."""
        self._go_on()

    def _go_on(self, _: object = None) -> None:
        loop = self._loop
        outer = asyncio.current_task(loop)
        if outer is not None:
            _leave_task(loop, outer)
        _enter_task(loop, cast(Any, self))
        self._waits_for = None
        try:
            waits_for = self._coroutine.send(None)
        except StopIteration:
            error: BaseException | None = None
        except (Exception, asyncio.CancelledError) as raised:
            error = raised
        else:
            if waits_for is None:  # `asyncio.sleep(0)`
                loop.call_soon(self._go_on)
                return
            waits_for._asyncio_future_blocking = False  # as a task tells a future that somebody waits
            waits_for.add_done_callback(self._go_on)
            self._waits_for = waits_for
            return
        finally:
            _leave_task(loop, cast(Any, self))
            if outer is not None:
                _enter_task(loop, outer)
        self._ended(self, error)

    # what `asyncio.timeout` asks of a task

    def cancel(self, msg: object = None) -> bool:
        """Let what it waits for raise CancelledError."""
        self._cancels += 1
        return self._waits_for is not None and self._waits_for.cancel()

    def cancelling(self) -> int:
        """How often it was cancelled."""
        return self._cancels

    def uncancel(self) -> int:
        """A cancellation was dealt with."""
        self._cancels -= 1
        return self._cancels
