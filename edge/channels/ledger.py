"""Channels in use by the calls of this edge, counted exactly (domain section 5). Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from dialplan.model import ChannelClaim, Reason

STARTS = "cps"
"""Direction of a claim that bounds calls begun per second. It is taken by beginning, and never given back."""
_WINDOW = 1.0

Row: TypeAlias = tuple[str, str, str]
"""What is counted: level, key, direction."""

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

    def __str__(self) -> str:
        what = "calls began within this second" if self.direction == STARTS else "channels are in use"
        return f"{self.level} {self.key}: {self.used} of {self.limit} {what}"


class Ledger:
    """Who holds how many channels of what. A claim is taken whole or not at all; a release gives back what is held.

    `now` is in seconds, monotonic.
    """

    __slots__ = ("_held", "_starts", "_used")

    def __init__(self) -> None:
        self._used: dict[Row, int] = {}
        self._held: dict[str, tuple[ChannelClaim, ...]] = {}
        self._starts: dict[Row, deque[float]] = {}

    def admit(self, call_id: str, claims: tuple[ChannelClaim, ...], now: float) -> LimitReached | None:
        """Take all `claims`, or none and name the first limit that stands against them (in the order of the claims)."""
        wanted: dict[Row, int] = {}
        for claim in claims:
            row = claim[:3]
            if claim.limit is not None:
                in_use = self._in_use(row, now) + wanted.get(row, 0)
                if in_use + claim.units > claim.limit:
                    return LimitReached(*row, claim.limit, in_use)
            wanted[row] = wanted.get(row, 0) + claim.units
        self.take(call_id, claims, now)
        return None

    def take(self, call_id: str, claims: tuple[ChannelClaim, ...], now: float) -> None:
        """Count `claims` whatever the limits say (a call that the shared counts admitted)."""
        for claim in claims:
            row = claim[:3]
            if claim.direction == STARTS:
                starts = self._starts.setdefault(row, deque())
                starts.extend([now] * claim.units)
                _forget(starts, now)
            else:
                self._used[row] = self._used.get(row, 0) + claim.units
        kept = tuple([claim for claim in claims if claim.direction != STARTS])
        if len(kept) == len(claims):
            kept = claims  # not a copy for each of ten thousand calls
        if kept:
            self._held[call_id] = self._held.get(call_id, ()) + kept

    def release(self, call_id: str) -> Iterable[Row]:
        """Give back all that a call holds; what that was, empty where it holds nothing."""
        held = _rows(self._held.pop(call_id, ()))
        for row, units in held.items():
            left = self._used[row] - units
            if left:
                self._used[row] = left
            else:
                del self._used[row]
        return held.keys()

    def _in_use(self, row: Row, now: float) -> int:
        if row[2] != STARTS:
            return self._used.get(row, 0)
        starts = self._starts.get(row)
        if starts is None:
            return 0
        _forget(starts, now)
        return len(starts)

    def holds(self, call_id: str, row: Row) -> int:
        """Units of `row` that a call holds."""
        return sum([claim.units for claim in self._held.get(call_id, ()) if claim[:3] == row])

    def held(self, call_id: str) -> list[tuple[str, str, str, int]]:
        """All that a call holds: level, key, direction, units."""
        return [(*row, units) for row, units in _rows(self._held.get(call_id, ())).items()]

    def holders(self) -> Iterable[str]:
        """Who holds something."""
        return self._held.keys()

    def leases(self) -> Iterator[tuple[str, str, str, str, int]]:
        """All that is held: call, level, key, direction, units."""
        for call_id, held in self._held.items():
            for row, units in _rows(held).items():
                yield call_id, *row, units

    def used(self, level: str, key: str, direction: str) -> int:
        """Channels in use of one row, by calls of this edge."""
        return self._used.get((level, key, direction), 0)

    def by_level(self) -> dict[str, int]:
        """Channels in use, summed by level, for the metric: a call in or out counts once at each level that counts it,
        though trunks and carriers count it by direction and in total."""
        out: dict[str, int] = {}
        for (level, _, direction), units in self._used.items():
            if direction != "total" or level == "account":
                out[level] = out.get(level, 0) + units
        return out

    @property
    def calls(self) -> int:
        """Calls that hold channels."""
        return len(self._held)


def _rows(claims: tuple[ChannelClaim, ...]) -> dict[Row, int]:
    """Units of each row that is claimed."""
    rows: dict[Row, int] = {}
    for claim in claims:
        row = claim[:3]
        rows[row] = rows.get(row, 0) + claim.units
    return rows


def _forget(starts: deque[float], now: float) -> None:
    while starts and starts[0] <= now - _WINDOW:
        starts.popleft()
