"""The channel ledger of an edge that shares its numbers with no other."""

from __future__ import annotations

from dialplan.model import ChannelClaim
from edge.channels.ledger import Ledger, LimitReached


class LocalChannels:
    """Counts this edge's calls in memory."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    async def admit(self, call_id: str, claims: tuple[ChannelClaim, ...]) -> LimitReached | None:
        """Take all claims for this call, or none and say which limit stands against it."""
        return self.ledger.admit(call_id, claims)

    def release(self, call_id: str) -> None:
        """Give back all that this call took."""
        self.ledger.release(call_id)

    def by_level(self) -> dict[str, int]:
        """Channels in use by level, for the metric."""
        return self.ledger.by_level()
