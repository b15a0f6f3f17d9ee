"""Channels in use on this edge, counted exactly (domain section 5). Pure."""

from __future__ import annotations

from typing import NamedTuple

from dialplan.model import ChannelClaim, Reason

_REASONS = {
    "number": Reason.NUMBER_LIMIT,
    "trunk": Reason.TRUNK_LIMIT,
    "account": Reason.ACCOUNT_LIMIT,
    "carrier": Reason.CARRIER_LIMIT,
}


class LimitReached(NamedTuple):
    """A channel limit stands against a claim."""

    level: str
    key: str
    direction: str
    limit: int
    used: int

    @property
    def reason(self) -> Reason:
        """The refusal that this is."""
        return _REASONS[self.level]


class Ledger:
    """Who holds how many channels of what. A claim is taken whole or not at all; a release gives back what is held."""

    __slots__ = ("_held", "_used")

    def __init__(self) -> None:
        self._used: dict[tuple[str, str, str], int] = {}
        self._held: dict[str, list[ChannelClaim]] = {}

    def admit(self, call_id: str, claims: tuple[ChannelClaim, ...]) -> LimitReached | None:
        """Take all `claims`, or none and name the first limit that stands against them (in the order of the claims)."""
        used = self._used
        for claim in claims:
            in_use = used.get(claim[:3], 0)
            if claim.limit is not None and in_use + claim.units > claim.limit:
                return LimitReached(claim.level, claim.key, claim.direction, claim.limit, in_use)
        self.take(call_id, claims)
        return None

    def take(self, call_id: str, claims: tuple[ChannelClaim, ...]) -> None:
        """Count `claims` whatever the limits say (a call that the shared ledger admitted)."""
        for claim in claims:
            key = claim[:3]
            self._used[key] = self._used.get(key, 0) + claim.units
        self._held.setdefault(call_id, []).extend(claims)

    def release(self, call_id: str) -> bool:
        """Give back all that a call holds; False where it holds nothing."""
        claims = self._held.pop(call_id, None)
        if claims is None:
            return False
        for claim in claims:
            key = claim[:3]
            left = self._used[key] - claim.units
            if left:
                self._used[key] = left
            else:
                del self._used[key]
        return True

    def used(self, level: str, key: str, direction: str) -> int:
        """Channels in use of one row."""
        return self._used.get((level, key, direction), 0)

    def by_level(self) -> dict[str, int]:
        """Channels in use, summed by level, for the metric; a call counts once per level."""
        out: dict[str, int] = {}
        for (level, _, direction), units in self._used.items():
            if direction != "total":
                out[level] = out.get(level, 0) + units
        return out

    @property
    def calls(self) -> int:
        """Calls that hold channels."""
        return len(self._held)
