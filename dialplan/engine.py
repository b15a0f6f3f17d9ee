"""The dial plan's questions: where does this call go, where next, and where to when a phone sends it elsewhere. Pure
functions of what they are given."""

from __future__ import annotations

from datetime import datetime

from config.snapshot import Snapshot
from dialplan import inbound, outbound
from dialplan.forwarding import forward as forward
from dialplan.model import CallAttempt, Decision, Outcome, Refusal, RoutePlan, SourceKind, Trace


def decide(attempt: CallAttempt, snapshot: Snapshot, now: datetime) -> Decision:
    """Where `attempt` goes, or why not; with the trace of how that came to be. `now` is an aware UTC datetime.

    Total: every attempt from an authenticated source has an answer. Deterministic: `attempt.pick` is the only chance.
    """
    trace = Trace()
    if attempt.source.kind is SourceKind.CARRIER:
        return inbound.decide(attempt, snapshot, now, trace)
    return outbound.decide(attempt, snapshot, now, trace)


def next_route(
    plan: RoutePlan, outcome: Outcome, attempt: CallAttempt, snapshot: Snapshot, now: datetime
) -> RoutePlan | Refusal | None:
    """Where an inbound call goes after all targets of `plan` ended with `outcome`; None: nowhere, the failure stands.

    No route is taken twice, so there are at most four next routes. The new plan lists the call's own claims again;
    those
    held already need no second admission. From `LIMIT` on, the number's channel is not among them (overflow).
    Outbound, internal and emergency calls have no next route.
    """
    if plan.number is None:
        return None
    return inbound.next_route(plan, outcome, attempt, snapshot, now, Trace(list(plan.trace.steps)))
