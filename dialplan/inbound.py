"""Calls from a carrier to one of our numbers: the caller as the called side may know it, and the number's routes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from config.model import Account, AccountStatus, Carrier, NumberRow, Route, RouteKind
from config.snapshot import Snapshot
from dialplan import barring, ddi, number
from dialplan.cli.ask import Kind, Own, Shown
from dialplan.model import (
    CallAttempt,
    Caller,
    Decision,
    Direction,
    Identity,
    Outcome,
    Reason,
    Refusal,
    RoutePlan,
    Target,
    TargetKind,
    Trace,
)
from dialplan.numbering import may_be_shown
from dialplan.routing import account_leg, carrier_in, carrier_targets, number_in, trunk_in

_WITHHOLDING = frozenset({"id", "header", "user"})
_NEVER_DIALABLE = "+448979"
"""UK network numbers put in where the caller's own is missing: never shown (domain rule 1.5-28)."""
_EMERGENCY = frozenset({"110", "112", "911", "999"})
MAX_DIVERSIONS = 5
"""How often a call may have been forwarded before it reaches us (domain rule 7-4h)."""

DIVERSION_REASONS = {
    Outcome.BUSY: "user-busy",
    Outcome.NO_ANSWER: "no-answer",
    Outcome.UNREACHABLE: "unavailable",
    Outcome.LIMIT: "user-busy",
}


@dataclass(slots=True)
class Call:
    """What the routes of one inbound call need to know."""

    row: NumberRow
    ddi: str
    carrier: Carrier
    account: Account
    """The account that is served."""
    caller: Identity
    attempt: CallAttempt
    snapshot: Snapshot
    now: datetime
    trace: Trace


def decide(attempt: CallAttempt, snapshot: Snapshot, now: datetime, trace: Trace) -> Decision:
    """Route a call from a carrier."""
    call = _receive(attempt, snapshot, now, trace)
    if isinstance(call, Refusal):
        return call
    decided = _follow(call, call.row.route, (), "unconditional")
    return _named(decided, call.row.serving, call.ddi) if isinstance(decided, Refusal) else decided


def next_route(
    plan: RoutePlan, outcome: Outcome, attempt: CallAttempt, snapshot: Snapshot, now: datetime, trace: Trace
) -> RoutePlan | Refusal | None:
    """The number's route for this outcome, None where there is none that was not yet taken."""
    call = _receive(attempt, snapshot, now, Trace())  # what it says stands in the plan's trace already
    if isinstance(call, Refusal):
        trace.steps += call.trace.steps
        return replace(call, trace=trace)
    call.trace = trace
    route = _route_for(call.row, outcome)
    if route is None or route.kind is RouteKind.NONE:
        return None
    if str(route) in plan.visited:
        trace.add("R6", f"{outcome.value}: {route} was already tried")
        return None
    trace.add("R5", f"{outcome.value}: the number's next route is {route}")
    decided = _follow(call, route, plan.visited, DIVERSION_REASONS[outcome])
    if isinstance(decided, Refusal):
        return _named(decided, call.row.serving, call.ddi)
    if outcome is Outcome.LIMIT or all(c.level != "number" for c in plan.claims):
        # overflow: the number's channels are in use, so the call must not ask for one of them again
        return replace(decided, claims=tuple(c for c in decided.claims if c.level != "number"))
    return decided


def _route_for(row: NumberRow, outcome: Outcome) -> Route | None:
    if outcome is Outcome.BUSY:
        return row.on_busy
    if outcome is Outcome.NO_ANSWER:
        return row.on_no_answer
    if outcome is Outcome.UNREACHABLE:
        return row.on_unreachable
    return row.on_limit


def _named(refusal: Refusal, account: str, number: str) -> Refusal:
    """The refusal with the account and number that it is about."""
    return replace(refusal, account=account, number=number)


def _receive(attempt: CallAttempt, snapshot: Snapshot, now: datetime, trace: Trace) -> Call | Refusal:
    carrier = snapshot.carriers.get(attempt.source.name)
    if carrier is None:
        return Refusal(Reason.UNKNOWN_SOURCE, f"carrier {attempt.source.name} is not provisioned", trace=trace)
    found = ddi.find(attempt.called, carrier, snapshot, now, trace)
    if isinstance(found, Refusal):
        return found
    row, e164 = found
    refused = _serviceable(row, e164, snapshot, trace)
    if refused is not None:
        return _named(refused, row.serving, e164)
    caller = _caller(attempt.caller, carrier, trace)
    if isinstance(caller, Refusal):
        return _named(caller, row.serving, e164)
    if len(attempt.caller.diversion) > MAX_DIVERSIONS:
        text = f"the call was already forwarded {len(attempt.caller.diversion)} times"
        trace.add("R6", text)
        return Refusal(Reason.TOO_MANY_HOPS, text, trace=trace, account=row.serving, number=e164)
    return Call(row, e164, carrier, snapshot.accounts[row.serving], caller, attempt, snapshot, now, trace)


def _serviceable(row: NumberRow, e164: str, snapshot: Snapshot, trace: Trace) -> Refusal | None:
    """Accounts that have and use the number."""
    for account_id in {row.account, row.serving}:
        account = snapshot.accounts.get(account_id)
        if account is None:
            trace.add("A1", f"account {account_id} of the number does not exist")
            return Refusal(Reason.NO_ROUTE, f"account {account_id} of {e164} does not exist", trace=trace)
        if account.status is AccountStatus.SUSPENDED:
            trace.add("A1", f"account {account_id} is suspended")
            return Refusal(Reason.ACCOUNT_SUSPENDED, f"account {account_id} of {e164} is suspended", trace=trace)
    if row.serving != row.account:
        trace.add("A2", f"{e164} is a number of account {row.account}, used in the PBX of account {row.serving}")
    return None


def _caller(caller: Caller, carrier: Carrier, trace: Trace) -> Identity | Refusal:
    """Who calls, as seats and PBXs may know it (rules I1 to I3)."""
    country = carrier.home_country
    shown = number.caller_number(number.clean(caller.from_user, True), country)
    withheld = caller.from_anonymous or not _WITHHOLDING.isdisjoint(caller.privacy)
    asserted: str | None = None
    for user in caller.asserted:
        asserted = asserted or number.caller_number(number.clean(user, True), country)
    for user, e164 in ((caller.from_user, shown), *((u, asserted) for u in caller.asserted[:1])):
        if _never_a_caller(user, e164, country):
            what = "a number that is withheld and" if withheld else f"{e164 or user}, which"
            trace.add("I1", f"the caller presents {what} may never be shown as a caller")
            return Refusal(Reason.CALLER_NOT_ALLOWED, f"the caller presents {what} may never be shown", trace=trace)
    if withheld:
        trace.add("I2", "the caller withholds the number")
        return Identity(anonymous=True)
    presented = shown if shown is not None else asserted
    if presented is None or presented.startswith(_NEVER_DIALABLE):
        trace.add("I3", "the caller has no number that can be shown")
        return Identity()
    trace.add("I3", f"the caller is {presented}")
    forwarders = ((u, number.caller_number(number.clean(u, True), country)) for u in caller.diversion)
    private = caller.private_diversion
    diversion = tuple("" if u in private else e or "" for u, e in forwarders if e or u in private)
    display = "" if any(c.isdigit() for c in caller.display) else caller.display
    return Identity(presented, None, display, False, diversion, "unknown")


def _never_a_caller(user: str, e164: str | None, country: str) -> bool:
    if e164 is not None:
        return not may_be_shown(e164) and not e164.startswith(_NEVER_DIALABLE)
    dialled = number.clean(user, True)
    return dialled in _EMERGENCY or any(not may_be_shown(e) for e in number.readings(dialled, country))


def _follow(call: Call, route: Route, visited: tuple[str, ...], why: str) -> Decision:
    """Follow a route; one that cannot be followed now (a planned trunk, a lost seat) leads to `on_unreachable`."""
    result = _take(call, route, (*visited, str(route)), why)
    second = call.row.on_unreachable
    if isinstance(result, Refusal) and result.reason in (Reason.NO_ROUTE, Reason.TRUNK_PLANNED) and second is not None:
        if second.kind is RouteKind.NONE or str(second) in (*visited, str(route)):
            return result
        call.trace.add("R5", f"unreachable: the number's next route is {second}")
        return _take(call, second, (*visited, str(route), str(second)), DIVERSION_REASONS[Outcome.UNREACHABLE])
    return result


def _take(call: Call, route: Route, visited: tuple[str, ...], why: str) -> Decision:
    kind, account = route.kind, call.row.serving
    if kind is RouteKind.SEAT:
        return _to_seat(call, route.target, visited)
    if kind is RouteKind.EXTENSION:
        seat = call.snapshot.seat_by_extension(account, route.target)
        if seat is None:
            return _no_route(call, f"extension {route.target} does not exist in account {account}")
        call.trace.add("R2", f"extension {route.target} is seat {seat.username}")
        return _to_seat(call, seat.username, visited)
    if kind is RouteKind.TRUNK:
        return _to_trunk(call, route.target, visited)
    if kind is RouteKind.FAX:
        if (account, route.target) not in call.snapshot.fax_boxes:
            return _no_route(call, f"fax box {route.target} does not exist in account {account}")
        call.trace.add("R1", f"goes to fax box {route.target}")
        return _plan(call, (Target(TargetKind.FAX, route.target, account, call.ddi, call.caller),), visited)
    if kind is RouteKind.FORWARD:
        return _forward(call, route.target, visited, why)
    if kind is RouteKind.REJECT:
        status = int(route.target) if route.target.isdecimal() and 400 <= int(route.target) <= 699 else None
        call.trace.add("R4", f"the number's route rejects with {route.target or 'the usual answer'}")
        return Refusal(Reason.REJECTED_BY_ROUTE, f"{call.ddi} has the route {route}", status, trace=call.trace)
    return _no_route(call, f"{call.ddi} has no route")


def _to_seat(call: Call, username: str, visited: tuple[str, ...]) -> Decision:
    account = call.row.serving
    seat = call.snapshot.seats.get(username)
    if seat is None or seat.account != account:
        return _no_route(call, f"seat {username} does not exist in account {account}")
    if seat.reject_anonymous and call.caller.anonymous:
        call.trace.add("I4", f"seat {username} takes no calls without a number")
        return Refusal(Reason.ANONYMOUS_REJECTED, f"seat {username} refuses withheld callers", trace=call.trace)
    call.trace.add("R1", f"goes to seat {username}")
    return _plan(call, (Target(TargetKind.SEAT, username, account, "", call.caller),), visited)


def _to_trunk(call: Call, name: str, visited: tuple[str, ...]) -> Decision:
    account = call.row.serving
    trunk = call.snapshot.trunks.get((account, name))
    if trunk is None:
        return _no_route(call, f"trunk {name} does not exist in account {account}")
    if trunk.valid_from is not None and call.now < trunk.valid_from:
        text = f"trunk {name} is planned for {trunk.valid_from:%Y-%m-%d %H:%M} UTC"
        call.trace.add("A3", text)
        return Refusal(Reason.TRUNK_PLANNED, text, trace=call.trace)
    call.trace.add("R1", f"goes to trunk {name} with the full number {call.ddi}")
    return _plan(call, (Target(TargetKind.TRUNK, name, account, call.ddi, call.caller, trunk_in(trunk)),), visited)


def _forward(call: Call, destination: str, visited: tuple[str, ...], why: str) -> Decision:
    trace = call.trace
    flaw = number.flaw(destination)
    if flaw is not None:
        return _no_route(call, f"{destination} cannot be forwarded to: it {flaw}")
    country = call.carrier.home_country
    forwarders = (number.caller_number(number.clean(u, True), country) for u in call.attempt.caller.diversion)
    if destination == call.ddi or destination in forwarders:
        trace.add("R6", f"{call.ddi} forwards to {destination}, where the call came from")
        return Refusal(Reason.ROUTE_LOOP, f"{call.ddi} forwards to {destination} in a circle", trace=trace)
    barred = barring.check(call.account, destination, trace)
    if barred is not None:
        return barred
    diversion = (call.ddi, *call.caller.diversion)
    if call.caller.anonymous:
        shown = Shown(Kind.ANONYMOUS, None, diversion)
    elif call.caller.presented is not None:
        shown = Shown(Kind.DIVERTED, call.caller.presented, diversion)
    else:
        shown = Shown(Kind.OWN, call.ddi, diversion)
    trace.add("R3", f"{call.ddi} forwards to {destination} ({why})")
    targets = carrier_targets(
        call.snapshot,
        Own(call.ddi, call.row),
        shown,
        destination,
        call.account,
        call.now,
        call.attempt.pick,
        trace,
        why,
        (account_leg(call.account),),
    )
    if isinstance(targets, Refusal):
        return targets
    return _plan(call, targets, visited)


def _plan(call: Call, targets: tuple[Target, ...], visited: tuple[str, ...]) -> RoutePlan:
    row = call.row
    follows = row.on_no_answer
    waits = follows is not None and follows.kind is not RouteKind.NONE and str(follows) not in visited
    return RoutePlan(
        Direction.INBOUND,
        targets,
        call.ddi,
        row.serving,
        row.account,
        call.caller,
        (number_in(row, call.ddi), account_leg(call.account), *carrier_in(call.carrier)),
        row.no_answer_after if waits else None,
        row.prefix,
        visited,
        True,
        call.trace,
    )


def _no_route(call: Call, text: str) -> Refusal:
    call.trace.add("R1", text)
    return Refusal(Reason.NO_ROUTE, text, trace=call.trace)
