"""Whether the carriers that a call was sent to answer at all, for `edge.carriers` to know which are deaf."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from dialplan.model import RoutePlan, Target, TargetKind
from edge.b2bua.events import CallEvent, LegId, Rejected
from edge.sip.flow import Flow

_NOWHERE: frozenset[str | None] = frozenset()
PATIENCE = 4.0
"""Seconds without any answer after which a call that is given up was not heard: 100 is due within 0.2 s
(RFC 3261 section 17.2.1), and the INVITE was sent four times."""


class CarrierWays(Protocol):
    """What is needed of `edge.carriers`."""

    def call_answered(self, name: str, flow: Flow) -> None: ...

    def call_unanswered(self, name: str, flow: Flow) -> None: ...

    def ways(self, name: str) -> int: ...


class Hearing:
    """INVITEs to carriers that nothing came back to yet, and the outbound proxies that one target was tried over."""

    __slots__ = ("_carriers", "_target", "_tried", "awaited")

    def __init__(self, carriers: CarrierWays) -> None:
        self._carriers = carriers
        self.awaited: dict[LegId, tuple[str, Flow, float]] = {}
        self._target: Target | None = None
        self._tried = _NOWHERE

    def tried(self, target: Target) -> frozenset[str | None]:
        """Outbound proxies over which this target was tried just before."""
        return self._tried if target is self._target else frozenset()

    def sent(self, leg: LegId, target: Target, proxy: str | None, flow: Flow, now: float) -> None:
        """An INVITE went to a carrier."""
        self._tried = self.tried(target) | {proxy}
        self._target = target
        self.awaited[leg] = (target.name, flow, now)

    def heard(self, leg: LegId, event: CallEvent) -> None:
        """Something came of it; to be asked only while `awaited` is not empty."""
        found = self.awaited.pop(leg, None)
        if found is None:
            return
        name, flow, _ = found
        if isinstance(event, Rejected) and event.no_response:
            self._carriers.call_unanswered(name, flow)
        else:
            self._carriers.call_answered(name, flow)

    def given_up(self, leg: LegId, now: float) -> None:
        """We cancel it."""
        found = self.awaited.pop(leg, None)
        if found is not None and now - found[2] >= PATIENCE:
            self._carriers.call_unanswered(found[0], found[1])


def over_all_proxies(plan: RoutePlan, carriers: CarrierWays) -> RoutePlan:
    """The plan with each carrier as often as there are outbound proxies to it now: a call that one of them does not
    take goes on over the next one before it goes to another carrier (domain rule T1.23)."""
    counts = [carriers.ways(t.name) if t.kind is TargetKind.CARRIER else 1 for t in plan.targets]
    if all(count < 2 for count in counts):
        return plan
    targets = (t for t, count in zip(plan.targets, counts, strict=True) for _ in range(max(1, count)))
    return replace(plan, targets=tuple(targets))
