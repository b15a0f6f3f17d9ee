"""Takes a call to its targets, one after the other, and to the routes that follow them (docs/calls.md).

What the reducer asks here is answered by an event, sooner or later.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeGuard

from dialplan.engine import forward, next_route
from dialplan.model import Called, Direction, Outcome, Reason, Refusal, RoutePlan, Target, TargetKind, Trace
from edge.b2bua import actions as do
from edge.b2bua import events as ev
from edge.b2bua.hearing import over_all_proxies
from edge.b2bua.refused import answer_to
from edge.b2bua.targets import Prepared, prepare
from edge.b2bua.uac_leg import UacLeg
from edge.channels.ledger import LimitReached
from edge.defence.budgets import Spent
from edge.observability.logging import get_logger
from edge.sip.causes import REFUSALS

if TYPE_CHECKING:
    from edge.b2bua.runner import CallRunner

log = get_logger("call")


def start(call: CallRunner, action: do.StartTarget) -> None:
    """Send the call to a target of its plan."""
    last = call.tries.last
    if last is not None and last.kind == "carrier":
        call.engine.metrics.failed_over(last.name)
    call.task(_try(call, action, call.plan.targets[action.target]))


async def _try(call: CallRunner, action: do.StartTarget, target: Target) -> None:
    give_back(call)
    refused = await _admit(call, action, target)
    if refused is not None:
        _not_tried(call, action, target, refused)
        return
    if call.over:
        give_back(call)
        return
    if target.kind is TargetKind.FAX:
        refused = await call.engine.calls.on_fax(call, target)
        if refused is None:
            return
        prepared: Prepared | Refusal = refused
    else:
        prepared = await prepare(
            call.engine,
            target,
            call.a.request,
            lambda terms: call.media.dress(action.sdp, terms),
            anyway=call.plan.direction is Direction.EMERGENCY,
            avoid=call.hearing.tried(target),
        )
    if isinstance(prepared, Refusal):
        why = prepared.detail
        log.info("target.unreachable", call=call.id, kind=target.kind.value, target=target.name, detail=why)
        _not_tried(call, action, target, prepared)
        return
    call.refusal = None
    _send(call, action, target, prepared)


async def _admit(call: CallRunner, action: do.StartTarget, target: Target) -> Refusal | None:
    """What stands against this target: a budget that is spent, or a limit of channels; None: nothing."""
    engine = call.engine
    plan = call.plan
    if target.kind is TargetKind.CARRIER and plan.direction is not Direction.EMERGENCY:
        spent = engine.budgets.begin(call.id, plan.account, call.attempt.source)
        if spent is not None:
            return _out_of_budget(spent, plan.trace)
    if not target.claims:
        return None
    holder = f"{call.id}/{action.index}"
    reached = await engine.channels.admit(holder, target.claims)
    if reached is None:
        call.claim = holder
        return None
    plan.trace.add("L2", str(reached))
    log.info("target.limited", call=call.id, target=target.name, limit_level=reached.level, limit=reached.limit)
    return limited(reached, plan)


def _send(call: CallRunner, action: do.StartTarget, target: Target, prepared: Prepared) -> None:
    """An INVITE for each branch."""
    engine = call.engine
    carrier = target.kind is TargetKind.CARRIER
    legs: list[tuple[UacLeg, bytes | None, int | None]] = []
    for branch in prepared.branches:
        call.legs_made += 1
        leg = UacLeg(
            f"b{call.legs_made}",
            engine.port,
            branch.flow,
            call.post,
            engine.timers,
            branch.invite,
            branch.contact_user,
            branch.authorize,
            customer=not carrier,
        )
        if branch.contact is not None:
            leg.contact = branch.contact
        leg.hosts = branch.hosts
        if carrier:
            call.hearing.sent(leg.id, target, branch.proxy, branch.flow, engine.driver.now())
        call.legs[leg.id] = leg
        call.tries.begun(leg.id, target, branch.name, branch.invite, engine.clock.utcnow(), branch.hosts)
        call.media.offered(leg.id, branch.form)
        engine.calls.add_leg(leg)
        engine.tap.link(call.id, leg.call_id)
        legs.append((leg, branch.sdp, branch.session_expires))
    call.enqueue(ev.TargetStarted(action.index, tuple(leg.id for leg, _, _ in legs), prepared.failover_on))
    for leg, sdp, session_expires in legs:
        leg.call(sdp, session_expires)
    call.drain()


def _not_tried(call: CallRunner, action: do.StartTarget, target: Target, why: Refusal) -> None:
    """There is no way to the target, or no channel free."""
    status, q850 = answer_to(why)
    call.refusal = why
    call.tries.not_sent(target, call.engine.clock.utcnow(), status, q850)
    call.post("a", ev.TargetUnreachable(action.index, status, q850, limited=why.level is not None))


def give_back(call: CallRunner) -> None:
    """The channels of a target that is no longer tried."""
    holder, call.claim = call.claim, None
    if holder is not None:
        call.engine.channels.release(holder)


def ask_next_route(call: CallRunner, action: do.AskNextRoute) -> None:
    """No target took the call: find the route that its outcome leads to."""
    engine = call.engine
    if not call.plan.allow_failover:
        call.enqueue(ev.Rerouted(0))
        return
    outcome = Outcome(action.outcome)
    following = next_route(call.plan, outcome, call.attempt, engine.snapshot(), engine.clock.utcnow())
    if isinstance(following, RoutePlan):
        log.info("call.rerouted", call=call.id, outcome=action.outcome, to=names(following))
        call.task(_take_route(call, following))
        return
    demanded = None
    if following is not None:
        call.reason = following.reason
        call.plan = replace(call.plan, trace=following.trace)
        if demands_status(following):
            status, q850 = REFUSALS[following.reason.value]
            demanded = following.status or status, q850
    call.enqueue(ev.Rerouted(0, refusal=demanded))


def follow(call: CallRunner, action: do.Forward) -> None:
    """A phone sent the call on to somebody else (3xx)."""
    engine = call.engine
    by = call.tries.target[action.leg]
    why = "unconditional" if call.ringing_at is None else "no-answer"
    to = Called("contact", action.user, action.is_phone)
    found = forward(call.plan, by, to, why, call.attempt, engine.snapshot(), engine.clock.utcnow())
    if isinstance(found, RoutePlan):
        log.info("call.forwarded", call=call.id, by=by.name, to=names(found))
        call.task(_take_route(call, found))
        return
    log.info("call.not_forwarded", call=call.id, by=by.name, reason=found.reason.value, detail=found.detail)
    call.reason = found.reason
    call.plan = replace(call.plan, trace=found.trace)
    call.enqueue(ev.Rerouted(0))


async def _take_route(call: CallRunner, plan: RoutePlan) -> None:
    engine = call.engine
    claims = tuple(c for c in plan.claims if c not in call.plan.claims)
    if claims:
        reached = await engine.channels.admit(call.id, claims)
        if reached is not None:
            call.reason = reached.reason
            plan.trace.add("L2", str(reached))
            call.plan = replace(call.plan, trace=plan.trace)
            call.post("a", ev.Rerouted(0))
            return
        if call.over:
            engine.channels.release(call.id)
            return
    call.plan = over_all_proxies(plan, engine.carriers)
    call.post("a", ev.Rerouted(len(call.plan.targets), plan.no_answer_after))


def limited(reached: LimitReached, plan: RoutePlan) -> Refusal:
    """The refusal of a call for which no channel is free."""
    # towards a customer "busy" would speak of the called person (domain rule 5.9)
    status = 503 if plan.direction is Direction.OUTBOUND else None
    return Refusal(reached.reason, str(reached), status, reached.level, reached.limit, reached.used)


def demands_status(following: Refusal | None) -> TypeGuard[Refusal]:
    """Whether the next route is to refuse with a status of its own (rule R4); any other refusal of a next route leaves
    the caller with what happened first."""
    return following is not None and following.reason is Reason.REJECTED_BY_ROUTE


def names(plan: RoutePlan) -> list[str]:
    """Whom a plan leads to, for the log."""
    return [f"{t.kind.value} {t.name}" for t in plan.targets]


def _out_of_budget(spent: Spent, trace: Trace) -> Refusal:
    trace.add("L3", str(spent))
    return Refusal(Reason.BUDGET_EXHAUSTED, str(spent), None, spent.level, spent.limit, spent.used, trace)
