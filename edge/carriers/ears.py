"""What is known of a carrier hearing us, by OPTIONS and by calls, with the timer that ends its deafness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge.carriers.health import INTERVAL, INTERVAL_DOWN, Health


class Ears:
    """`Health` on the loop's clock; `changed` is called when its verdict on calls may have changed."""

    __slots__ = ("_changed", "_jitter", "_now", "health")

    def __init__(self, now: Callable[[], float], jitter: Callable[[], float], changed: Callable[[], None]) -> None:
        self._now = now
        self._jitter = jitter
        self._changed = changed
        self.health = Health(jitter, now())

    def renew(self) -> None:
        """Somebody else listens now (another address, another connection): nothing is held against it."""
        self.health = Health(self._jitter, self._now())
        self.health.deadline = self._now() + INTERVAL * (0.9 + 0.2 * self._jitter())

    @property
    def deaf(self) -> bool:
        """It has left OPTIONS or calls unanswered that it would have answered before."""
        return not self.health.up or self.health.deaf_until is not None

    @property
    def detail(self) -> str:
        """Why it counts as deaf, or what the last OPTIONS that failed said."""
        return self.health.detail or ("calls get no answer" if self.health.deaf_until is not None else "")

    @property
    def suspect(self) -> bool:
        """Whether the last call got no answer."""
        return self.health.suspect

    def call_unanswered(self) -> bool:
        """A call got nothing back at all. True where it counts as deaf from now on."""
        if not self.health.call_unanswered(self._now()):
            return False
        self.health.deadline = min(self.health.deadline, self._now() + INTERVAL_DOWN)
        assert self.health.deaf_until is not None
        wait = max(0.0, self.health.deaf_until - self._now()) + 0.01
        asyncio.get_running_loop().call_later(wait, self._listen_again, self.health)
        return True

    def call_answered(self) -> None:
        """A call got an answer, whatever it says."""
        if self.health.call_answered():
            self._changed()

    def _listen_again(self, health: Health) -> None:
        if health is self.health and health.listen_again(self._now()):
            self._changed()
