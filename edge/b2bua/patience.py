"""Waiting until a call can be changed: offers that cross put each other off (RFC 3261 section 14.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.b2bua.runner import CallRunner

AGAIN = 0.5
"""Seconds until something is tried again."""
TRIES = 16


class Patience:
    """Tries again for some seconds, one thing at a time."""

    __slots__ = ("_timer", "_tries")

    def __init__(self) -> None:
        self._tries = 0
        self._timer: asyncio.TimerHandle | None = None

    def renew(self) -> None:
        """Something new is waited for; what was waited for is forgotten."""
        if self._timer is not None:
            self._timer.cancel()
        self._tries = 0

    def again(self, then: Callable[[], None]) -> bool:
        """Do `then` in a moment; False where it was tried often enough."""
        self._tries += 1
        if self._tries > TRIES:
            return False
        self._timer = asyncio.get_running_loop().call_later(AGAIN, then)
        return True

    def when_settled(self, call: CallRunner, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
        """Do `then` when no offer is on its way in `call`; `otherwise` where that takes too long; nothing where the
        call ends."""
        if call.over:
            return
        if call.settled:
            then()
        elif not self.again(lambda: self.when_settled(call, then, otherwise)):
            otherwise()
