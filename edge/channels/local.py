"""The channel ledger of an edge that shares its numbers with no other."""

from __future__ import annotations

import time
from collections.abc import Callable

from dialplan.model import ChannelClaim
from edge.channels.ledger import Ledger, LimitReached


class LocalChannels:
    """Counts this edge's calls in memory. `now` gives seconds, monotonic."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.ledger = Ledger()
        self._now = now

    async def admit(self, call_id: str, claims: tuple[ChannelClaim, ...]) -> LimitReached | None:
        """Take all claims for this call, or none and say which limit stands against it."""
        return self.ledger.admit(call_id, claims, self._now())

    def release(self, call_id: str) -> None:
        """Give back all that this call took."""
        self.ledger.release(call_id)
