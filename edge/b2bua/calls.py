"""The calls that are up or being set up, found by our dialogs' tags."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.b2bua.leg import Leg
from edge.sip.message import Request

if TYPE_CHECKING:
    from edge.b2bua.runner import CallRunner

LINGER = 32.0
"""Seconds for which the dialogs of a finished call still answer (a BYE that crossed ours)."""


class Calls:
    """An index of live calls; the only place that knows which leg an in-dialog request belongs to."""

    def __init__(self) -> None:
        self._calls: dict[str, CallRunner] = {}
        self._legs: dict[str, Leg] = {}
        self._finished: deque[tuple[float, tuple[str, ...]]] = deque()
        self.on_empty: Callable[[], None] = lambda: None
        """Called whenever the last live call has ended."""

    def add(self, runner: CallRunner) -> None:
        """A call begins."""
        self._calls[runner.id] = runner

    def add_leg(self, leg: Leg) -> None:
        """A leg of a live call; its local tag is unguessable and unique."""
        self._legs[leg.local_tag] = leg

    def finished(self, runner: CallRunner, now: float) -> None:
        """A call is over."""
        self._calls.pop(runner.id, None)
        self._finished.append((now + LINGER, tuple(leg.local_tag for leg in runner.legs.values())))
        while self._finished[0][0] <= now:
            for tag in self._finished.popleft()[1]:
                self._legs.pop(tag, None)
        if not self._calls:
            self.on_empty()

    def leg(self, request: Request) -> Leg | None:
        """The leg of an in-dialog request: by our tag, and the Call-ID must fit."""
        tag = request.to.tag
        leg = self._legs.get(tag) if tag is not None else None
        return leg if leg is not None and leg.call_id == request.call_id else None

    def get(self, call_id: str) -> CallRunner | None:
        """A live call by our id."""
        return self._calls.get(call_id)

    def live(self) -> list[CallRunner]:
        """All live calls, oldest first."""
        return list(self._calls.values())

    def __len__(self) -> int:
        return len(self._calls)
