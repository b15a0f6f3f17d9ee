"""Calls from carriers: who may call, what the called side learns, and where the number's routes lead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from config.model import Account, AccountStatus, NumberRow, Route, RouteKind
from config.snapshot import Snapshot
from dialplan.engine import decide, next_route
from dialplan.model import CallAttempt, Caller, Decision, Identity, Outcome, Reason, RoutePlan, TargetKind
from tests.unit.dialplan.world import (
    ACCOUNTS,
    DE,
    NOW,
    NUMBERS,
    SEAT_DE,
    TOMORROW,
    WORLD,
    changed,
    incoming,
    plan,
    refusal,
    suspended,
    to,
    with_row,
)

DDI = "+4922838650"
CALLER = "+4915112345678"
WITHHELD = [
    Caller("anonymous", from_anonymous=True),
    Caller("anonymous", from_anonymous=True, asserted=(CALLER,), privacy=frozenset({"id"})),
    Caller(CALLER, asserted=(CALLER,), privacy=frozenset({"id"})),
    Caller(CALLER, display="Erika", privacy=frozenset({"user", "critical"})),
    Caller(CALLER, privacy=frozenset({"header"}), diversion=("+4930111111",)),
]


def routed(*rows: NumberRow) -> Snapshot:
    return changed(numbers=(*NUMBERS, *rows))


def number(route: Route, **more: object) -> Snapshot:
    return Snapshot(with_row("numbers", DDI, route=route, **more))


def go(world: Snapshot, caller: Caller | None = None) -> Decision:
    return decide(incoming(DDI, caller=caller), world, NOW)


def after(world: Snapshot, first: RoutePlan, *outcomes: Outcome, caller: Caller | None = None) -> Decision | None:
    decided: Decision | None = first
    for outcome in outcomes:
        decided = next_route(plan(decided), outcome, incoming(DDI, caller=caller), world, NOW)
    return decided


# -- the caller ----------


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("+4915112345678", "+4915112345678"),
        ("004915112345678", "+4915112345678"),
        ("4915112345678", "+4915112345678"),
        ("015112345678", "+4915112345678"),
        ("442079460000", "+442079460000"),
        ("alice", None),
        ("", None),
        ("123", None),
    ],
)
def test_caller_is_normalised(user: str, shown: str | None) -> None:
    """Domain 1.4-24: formats are mixed inside one message; each header is normalised on its own."""
    identity = plan(go(WORLD, Caller(user))).targets[0].identity
    assert (identity.presented, identity.network, identity.anonymous) == (shown, None, False)


def test_presented_number_before_network_number() -> None:
    """Domain 1.5-28: From is the presentation number, P-Asserted-Identity only stands in."""
    both = Caller("+4930123456", asserted=("+4989123456",))
    assert plan(go(WORLD, both)).caller.presented == "+4930123456"
    assert plan(go(WORLD, Caller("pbx", asserted=("+4989123456",)))).caller.presented == "+4989123456"


@pytest.mark.parametrize("caller", WITHHELD)
def test_withheld_stays_withheld(caller: Caller) -> None:
    """Domain 2.5: no digit, name or forwarding number of a withheld caller is in the plan, nor in its trace."""
    decided = plan(go(WORLD, caller))
    assert decided.caller == Identity(anonymous=True)
    assert decided.targets[0].identity == Identity(anonymous=True)
    assert "15112345678" not in str(decided)
    assert "Erika" not in str(decided)


def test_reject_anonymous() -> None:
    """Domain 2.5-16: the seat refuses withheld callers, and only those."""
    world = Snapshot(with_row("seats", SEAT_DE, reject_anonymous=True))
    for caller in WITHHELD:
        refused = refusal(go(world, caller))
        assert (refused.reason, refused.number, refused.account) == (Reason.ANONYMOUS_REJECTED, DDI, DE)
        assert "15112345678" not in str(refused)
    assert plan(go(world))
    assert plan(go(world, Caller("")))


@pytest.mark.parametrize(
    "caller",
    [
        Caller("110"),
        Caller("112"),
        Caller("+49110"),
        Caller("+491371234567"),
        Caller("01371234567"),
        Caller("+499001234567"),
        Caller("09001234567"),
        Caller("11833"),
        Caller("+4911833"),
        Caller("+449012345678"),
        Caller("anonymous", from_anonymous=True, asserted=("+499001234567",)),
        Caller("+4930123456", asserted=("+499001234567",)),
    ],
    ids=lambda c: f"{c.from_user} {c.asserted}",
)
def test_numbers_that_may_never_be_shown_are_refused(caller: Caller) -> None:
    """T2.3: emergency numbers, 0137, 0900, 118 and UK 09 as caller: the call is cut, with its reason."""
    refused = refusal(go(WORLD, caller))
    assert refused.reason is Reason.CALLER_NOT_ALLOWED
    if caller.from_anonymous:
        assert "9001234567" not in str(refused)


def test_uk_filler_number_is_not_shown() -> None:
    """Domain 1.5-28: 08979 stands where the network number was missing; the call comes in without a number."""
    assert plan(go(WORLD, Caller("x", asserted=("+448979012345",)))).caller == Identity()


def test_display_name_of_the_caller() -> None:
    """A name passes, a number in its place does not: it was not screened."""
    assert plan(go(WORLD, Caller(CALLER, "Erika Muster"))).caller.display == "Erika Muster"
    assert plan(go(WORLD, Caller(CALLER, "+49 900 1"))).caller.display == ""


# -- routes ----------


@pytest.mark.parametrize(
    ("route", "kind", "name", "user"),
    [
        (to(RouteKind.SEAT, SEAT_DE), TargetKind.SEAT, SEAT_DE, ""),
        (to(RouteKind.EXTENSION, "202"), TargetKind.SEAT, "b.schmidt", ""),
        (to(RouteKind.TRUNK, "hq"), TargetKind.TRUNK, "hq", DDI),
        (to(RouteKind.FAX, "office"), TargetKind.FAX, "office", DDI),
        (to(RouteKind.FORWARD, "+436601234567"), TargetKind.CARRIER, "telekom", "+436601234567"),
    ],
)
def test_routes(route: Route, kind: TargetKind, name: str, user: str) -> None:
    """Where a number may lead, and what the Request-URI carries there."""
    target = plan(go(number(route))).targets[0]
    assert (target.kind, target.name, target.user) == (kind, name, user)


@pytest.mark.parametrize(
    ("route", "reason", "status"),
    [
        (to(RouteKind.NONE), Reason.NO_ROUTE, None),
        (to(RouteKind.REJECT, "404"), Reason.REJECTED_BY_ROUTE, 404),
        (to(RouteKind.REJECT, "603"), Reason.REJECTED_BY_ROUTE, 603),
        (to(RouteKind.REJECT, "200"), Reason.REJECTED_BY_ROUTE, None),
        (to(RouteKind.REJECT, ""), Reason.REJECTED_BY_ROUTE, None),
        (to(RouteKind.SEAT, "gone"), Reason.NO_ROUTE, None),
        (to(RouteKind.SEAT, "j.smith"), Reason.NO_ROUTE, None),  # another account's seat
        (to(RouteKind.TRUNK, "gone"), Reason.NO_ROUTE, None),
        (to(RouteKind.TRUNK, "new"), Reason.TRUNK_PLANNED, None),
        (to(RouteKind.FAX, "gone"), Reason.NO_ROUTE, None),
        (to(RouteKind.EXTENSION, "999"), Reason.NO_ROUTE, None),
        (to(RouteKind.FORWARD, "112"), Reason.NO_ROUTE, None),
        (to(RouteKind.FORWARD, "+1"), Reason.NO_ROUTE, None),
        (to(RouteKind.FORWARD, DDI), Reason.ROUTE_LOOP, None),
        (to(RouteKind.FORWARD, "+12125550123"), Reason.DESTINATION_NOT_ALLOWED, None),
        (to(RouteKind.FORWARD, "+499001234567"), Reason.DESTINATION_NOT_ALLOWED, None),
    ],
    ids=lambda v: str(v),
)
def test_routes_that_refuse(route: Route, reason: Reason, status: int | None) -> None:
    """A route that leads nowhere is refused in words; a forward obeys the account's destinations (forward fraud)."""
    refused = refusal(go(number(route)))
    assert (refused.reason, refused.status, refused.number, refused.account) == (reason, status, DDI, DE)


def test_planned_trunk_works_at_its_date() -> None:
    """B10: at the date the planned trunk takes calls, with no reconfiguration."""
    world = number(to(RouteKind.TRUNK, "new"))
    assert plan(decide(incoming(DDI), world, TOMORROW)).targets[0].name == "new"


def test_suspended_account_takes_no_calls() -> None:
    """The kill switch of an account (domain 7-4i)."""
    assert refusal(go(suspended(DE))).reason is Reason.ACCOUNT_SUSPENDED


def test_trial_account_takes_calls() -> None:
    """Trial restricts what may be shown, not being called."""
    assert plan(go(Snapshot(with_row("accounts", DE, status=AccountStatus.TRIAL))))


def test_too_many_forwards() -> None:
    """Domain 7-4h: a call that was forwarded more than five times is not taken."""
    hops = tuple(f"+4930111111{i}" for i in range(6))
    assert plan(go(WORLD, Caller(CALLER, diversion=hops[:5]))).caller.diversion == hops[:5]
    assert refusal(go(WORLD, Caller(CALLER, diversion=hops))).reason is Reason.TOO_MANY_HOPS


# -- forward ----------

MOBILE = "+436601234567"


def test_forward_shows_the_caller_where_the_carrier_lets_it() -> None:
    """Domain 2.1, 2.3-4: the caller's transmitted number may be shown, the forwarding number is the network number."""
    identity = plan(go(number(to(RouteKind.FORWARD, MOBILE)))).targets[0].identity
    assert identity == Identity(CALLER, DDI, "", False, (DDI,), "unconditional")


def test_forward_shows_the_number_where_the_carrier_does_not() -> None:
    """Domain 2.1: without CLIP no screening the forwarding number is shown; Diversion says the same."""
    world = Snapshot(
        replace(
            with_row("carriers", "telekom", clip_no_screening=False),
            numbers=with_row("numbers", DDI, route=to(RouteKind.FORWARD, MOBILE)).numbers,
        )
    )
    telekom = next(t for t in plan(go(world)).targets if t.name == "telekom")
    assert telekom.identity == Identity(DDI, DDI, "", False, (DDI,), "unconditional")


@pytest.mark.parametrize("caller", WITHHELD)
def test_forward_copies_privacy(caller: Caller) -> None:
    """Domain 2.1: a withheld caller stays withheld behind a forward, and its own forwarders with it."""
    decided = plan(go(number(to(RouteKind.FORWARD, MOBILE)), caller))
    assert decided.targets[0].identity == Identity(None, DDI, "", True, (DDI,), "unconditional")
    assert "15112345678" not in str(decided)


def test_forward_back_to_where_it_came_from() -> None:
    """A number that already forwarded this call is not forwarded to again."""
    world = number(to(RouteKind.FORWARD, MOBILE))
    assert refusal(go(world, Caller(CALLER, diversion=(MOBILE,)))).reason is Reason.ROUTE_LOOP
    withheld = Caller(CALLER, diversion=(MOBILE,), from_anonymous=True)
    assert refusal(go(world, withheld)).reason is Reason.ROUTE_LOOP
    private = Caller(CALLER, diversion=(MOBILE,), private_diversion=frozenset({MOBILE}))
    assert refusal(go(world, private)).reason is Reason.ROUTE_LOOP


def test_forward_keeps_older_forwarders() -> None:
    """Diversion names the newest first."""
    world = number(to(RouteKind.FORWARD, MOBILE))
    some = Caller(CALLER, diversion=("030222222", "030111111"), private_diversion=frozenset({"030222222"}))
    assert plan(go(world, some)).targets[0].identity.diversion == (DDI, "", "+4930111111")
    assert plan(go(world, Caller(CALLER, diversion=("030111111",)))).targets[0].identity.diversion == (
        DDI,
        "+4930111111",
    )


# -- next routes ----------

NEXT = {
    "on_busy": to(RouteKind.SEAT, "b.schmidt"),
    "on_no_answer": to(RouteKind.FORWARD, MOBILE),
    "on_unreachable": to(RouteKind.FAX, "office"),
    "on_limit": to(RouteKind.EXTENSION, "202"),
}


@pytest.mark.parametrize(
    ("outcome", "kind", "name", "reason"),
    [
        (Outcome.BUSY, TargetKind.SEAT, "b.schmidt", ""),
        (Outcome.NO_ANSWER, TargetKind.CARRIER, "telekom", "no-answer"),
        (Outcome.UNREACHABLE, TargetKind.FAX, "office", ""),
        (Outcome.LIMIT, TargetKind.SEAT, "b.schmidt", ""),
    ],
)
def test_next_route(outcome: Outcome, kind: TargetKind, name: str, reason: str) -> None:
    """Each outcome has its own next route; a forward says why."""
    world = number(to(RouteKind.SEAT, SEAT_DE), **NEXT)
    following = plan(after(world, plan(go(world)), outcome))
    assert (following.targets[0].kind, following.targets[0].name) == (kind, name)
    if reason:
        assert following.targets[0].identity.diversion_reason == reason


@pytest.mark.parametrize("outcome", list(Outcome))
def test_no_next_route(outcome: Outcome) -> None:
    """Without a next route the failure stands."""
    assert after(WORLD, plan(go(WORLD)), outcome) is None


def test_next_routes_never_loop() -> None:
    """However the outcomes follow, no route is taken twice, and the chain ends."""
    world = number(to(RouteKind.SEAT, SEAT_DE), **{k: to(RouteKind.SEAT, SEAT_DE) for k in NEXT})
    for outcome in Outcome:
        assert after(world, plan(go(world)), outcome) is None
    world = number(to(RouteKind.SEAT, SEAT_DE), **NEXT)
    decided = plan(go(world))
    taken = [decided.visited[-1]]
    for outcome in [Outcome.BUSY, Outcome.NO_ANSWER, Outcome.UNREACHABLE, Outcome.LIMIT]:
        decided = plan(after(world, decided, outcome))
        taken.append(decided.visited[-1])
    assert len(set(taken)) == len(taken) == 5
    for outcome in Outcome:
        assert after(world, decided, outcome) is None


def test_no_answer_time_only_while_it_leads_somewhere() -> None:
    """no_answer_after counts while on_no_answer is still to be taken; else the edge's own timer holds."""
    world = number(to(RouteKind.SEAT, SEAT_DE), on_no_answer=to(RouteKind.SEAT, "b.schmidt"), no_answer_after=15)
    first = plan(go(world))
    assert first.no_answer_after == 15
    assert plan(after(world, first, Outcome.NO_ANSWER)).no_answer_after is None
    assert plan(go(WORLD)).no_answer_after is None


def test_unusable_route_falls_to_on_unreachable() -> None:
    """A planned trunk or a lost seat is unreachable: the number's route for it is taken at once."""
    for broken in (to(RouteKind.TRUNK, "new"), to(RouteKind.SEAT, "gone")):
        decided = plan(go(number(broken, on_unreachable=to(RouteKind.SEAT, "b.schmidt"))))
        assert decided.targets[0].name == "b.schmidt"
        assert after(number(broken, **NEXT), decided, Outcome.BUSY) is None  # the same seat was tried already


def test_next_route_respects_reject_anonymous() -> None:
    """A withheld caller does not slip in by the next route."""
    rows = with_row("seats", "b.schmidt", reject_anonymous=True)
    numbers = with_row("numbers", DDI, on_busy=to(RouteKind.SEAT, "b.schmidt")).numbers
    world = Snapshot(replace(rows, numbers=numbers))
    first = plan(go(world, WITHHELD[0]))
    assert refusal(after(world, first, Outcome.BUSY, caller=WITHHELD[0])).reason is Reason.ANONYMOUS_REJECTED


def test_next_route_of_a_number_that_is_gone() -> None:
    """N7: the number ended while it rang: no next route leads on."""
    world = number(to(RouteKind.SEAT, SEAT_DE), **NEXT)
    first = plan(go(world))
    assert refusal(after(changed(numbers=()), first, Outcome.BUSY)).reason is Reason.UNKNOWN_NUMBER


def test_trace_grows_along_the_routes() -> None:
    """The trace of a next route begins with the trace so far, and does not change the older plan's."""
    world = number(to(RouteKind.SEAT, SEAT_DE), **NEXT)
    first = plan(go(world))
    steps = list(first.trace.steps)
    following = plan(after(world, first, Outcome.BUSY))
    assert first.trace.steps == steps
    assert following.trace.steps[: len(steps)] == steps
    assert [s.rule for s in following.trace.steps[len(steps) :]] == ["R5", "R1"]


# -- cross-account numbers ----------


def lent() -> Snapshot:
    """A number of the German customer, used in a third customer's PBX."""
    return Snapshot(
        replace(
            with_row("numbers", DDI, served_account="K3001", route=to(RouteKind.SEAT, "c.third")),
            accounts=(*ACCOUNTS, Account("K3001", parallel_calls=4)),
            seats=(*WORLD.seats.values(), replace(WORLD.seats[SEAT_DE], username="c.third", account="K3001")),
        )
    )


def test_cross_account_number_is_served_there_and_billed_here() -> None:
    """T6.16, F2: routed in the borrower's PBX, billed to the owner; the borrower's channels are taken."""
    decided = plan(go(lent()))
    assert (decided.targets[0].name, decided.targets[0].account) == ("c.third", "K3001")
    assert (decided.account, decided.billed_account) == ("K3001", DE)
    assert [(c.key, c.limit) for c in decided.claims if c.level == "account"] == [("K3001", 4)]


def test_suspension_of_either_side_stops_a_cross_account_number() -> None:
    """Neither a suspended owner nor a suspended borrower has calls."""
    for account in (DE, "K3001"):
        rows = tuple(
            replace(a, status=AccountStatus.SUSPENDED) if a.id == account else a for a in lent().accounts.values()
        )
        world = Snapshot(
            replace(
                with_row("numbers", DDI, served_account="K3001", route=to(RouteKind.SEAT, "c.third")),
                accounts=rows,
                seats=tuple(lent().seats.values()),
            )
        )
        assert refusal(go(world)).reason is Reason.ACCOUNT_SUSPENDED


def test_reset_takes_the_number_back_at_the_next_call() -> None:
    """T6.17: after the reset the number is the owner's again."""
    assert plan(go(WORLD)).account == DE


def test_attempt_source_may_not_be_provisioned() -> None:
    """An account that is gone is a refusal, not an exception."""
    assert refusal(go(changed(accounts=()))).reason is Reason.NO_ROUTE
    assert isinstance(incoming(DDI), CallAttempt)
