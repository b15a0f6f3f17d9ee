"""Calls that a phone or PBX sends elsewhere by a 3xx answer (rule R8): a forward by that seat or trunk. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from config.snapshot import Snapshot
from dialplan import outbound
from dialplan.inbound import MAX_DIVERSIONS
from dialplan.model import (
    CallAttempt,
    Called,
    Caller,
    Decision,
    Direction,
    PassedOn,
    Reason,
    Refusal,
    RoutePlan,
    SourceKind,
    Target,
    TargetKind,
    Trace,
)
from dialplan.model import Source as By

_MOVED = "moved "


def forward(
    plan: RoutePlan, by: Target, to: Called, why: str, attempt: CallAttempt, snapshot: Snapshot, now: datetime
) -> Decision:
    """`plan` with the targets that `by`, one of its targets, names instead of itself.

    The seat or trunk answers for the call: its dialling rules, barring and channels hold, its number is the diverting
    one. No seat or trunk forwards a call twice, and there are at most five forwards.
    """
    trace = Trace(list(plan.trace.steps))
    name = f"{by.kind.value} {by.name}"
    trace.add("R8", f"{name} sends the call elsewhere ({why})")
    hops = [v for v in plan.visited if v.startswith(_MOVED)]
    if len(hops) >= MAX_DIVERSIONS:
        trace.add("R8", f"the call was already sent elsewhere {len(hops)} times")
        return Refusal(Reason.TOO_MANY_HOPS, f"{name} forwards after {len(hops)} others", trace=trace)
    kind = SourceKind.SEAT if by.kind is TargetKind.SEAT else SourceKind.TRUNK
    again = CallAttempt(
        By(kind, by.name, by.account),
        (to._replace(place="request-uri"),),
        Caller(from_user=by.user),
        attempt.pick,
        PassedOn(plan.caller, True, why),
    )
    found = outbound.decide(again, snapshot, now, trace)
    if isinstance(found, Refusal):
        return found
    if found.direction is Direction.EMERGENCY:
        trace.add("R8", "nobody is forwarded to an emergency number")
        return Refusal(Reason.NO_ROUTE, f"{name} forwards to {found.called}", trace=trace, number=found.called)
    left = (*plan.visited, _MOVED + name)
    seat = snapshot.seats.get(by.name) if kind is SourceKind.SEAT else None
    own = seat.primary_number if seat is not None else None
    before = plan.caller.diversion
    target = found.targets[0]
    circle = f"{_MOVED}{target.kind.value} {target.name}" in left
    if circle or found.called in (*before, own, plan.caller.presented):
        trace.add("R8", f"{name} forwards to {found.called}, where the call came from")
        return Refusal(Reason.ROUTE_LOOP, f"{name} forwards to {found.called} in a circle", trace=trace)
    # what the seat's own call would hold is held for as long as this target is tried or answers
    targets = tuple(replace(t, claims=found.claims + t.claims) for t in found.targets)
    caller = plan.caller if own is None else replace(plan.caller, diversion=(own, *before))
    return replace(plan, targets=targets, caller=caller, visited=left, trace=trace)
