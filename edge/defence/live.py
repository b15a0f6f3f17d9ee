"""Live calls as this room sees them: `edge.b2bua.calls.Calls`, which stands above it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dialplan.model import RoutePlan


class LiveCall(Protocol):
    """A call that is being set up or is up."""

    @property
    def plan(self) -> RoutePlan: ...

    @property
    def answered_at(self) -> float | None:
        """On the driver's clock."""
        ...

    def end(self, q850: int, detail: str) -> None: ...


class LiveCalls(Protocol):
    """All of them."""

    def get(self, call_id: str) -> LiveCall | None: ...

    def live(self) -> Sequence[LiveCall]: ...
