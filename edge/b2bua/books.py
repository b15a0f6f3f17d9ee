"""The books of call attempts: each is begun once and ended once (docs/metrics.md, "Books").

An attempt is an INVITE outside a dialog (its retransmissions are the same attempt), a call that a transfer makes, a
fax that is sent, or a call that an earlier process of this edge left behind. So at any moment: begun = ended + up. What
is up is not worked out from these counts but counted where calls live, or the books could not disagree with anything.
Pure.
"""

from __future__ import annotations

from typing import Literal, get_args

By = Literal["invite", "transfer", "fax", "restart"]
Fate = Literal["answered", "refused", "cancelled", "failed", "challenged", "ignored", "stranger", "replaces"]

RECORDED: tuple[Fate, ...] = ("answered", "refused", "cancelled", "failed")
"""Fates that leave one call record each. `challenged` (401, 407), `ignored` (no answer at all), `stranger` (refused:
no valid password, no known address, or not to be read) and `replaces` (became a leg of another call) leave none."""
_OUTCOMES: dict[str, Fate] = {"answered": "answered", "refused": "refused", "cancelled": "cancelled"}


class Books:
    """Counts since the start."""

    __slots__ = ("begun", "closing", "ended")

    def __init__(self) -> None:
        self.begun: dict[str, int] = dict.fromkeys(get_args(By), 0)
        self.ended: dict[str, int] = dict.fromkeys(get_args(Fate), 0)
        self.closing: dict[str, float] = {}
        """Calls that are over and not on record yet, and since when (the driver's clock)."""

    def begin(self, by: By) -> None:
        """An attempt begins."""
        self.begun[by] += 1

    def end(self, fate: Fate) -> None:
        """An attempt that never was a call is over."""
        self.ended[fate] += 1

    def over(self, call_id: str, now: float) -> None:
        """A call has its outcome, and its record is to be written."""
        self.closing[call_id] = now

    def recorded(self, call_id: str, outcome: str) -> None:
        """The record of a call is written; `outcome` as in the record. Also for one that was refused before it was a
        call."""
        self.closing.pop(call_id, None)
        self.ended[_OUTCOMES.get(outcome, "failed")] += 1

    @property
    def records(self) -> int:
        """Call records that must have been written."""
        return sum(self.ended[fate] for fate in RECORDED)
