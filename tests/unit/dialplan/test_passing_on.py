"""Calls that a seat or PBX sends on: 3xx answers (R8), and the identity of transfers and forwards (C8)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dialplan.engine import decide, forward
from dialplan.model import (
    CallAttempt,
    Called,
    Caller,
    ChannelClaim,
    Decision,
    Direction,
    Identity,
    PassedOn,
    Reason,
    RoutePlan,
    Source,
    SourceKind,
)
from tests.unit.dialplan.world import DE, NOW, SEAT_DE, TRUNKS, WORLD, changed, dial, incoming, pbx_dials, plan, refusal

CALLER = "+4915112345678"
OWN = "+4922838650"
ACCOUNT = ChannelClaim("account", DE, "total", 30)


def moved(called: RoutePlan, to: str, by: int = 0, why: str = "unconditional", number: str = OWN) -> Decision:
    """The first target answers 302 with `to`."""
    return forward(called, called.targets[by], Called("contact", to), why, incoming(number), WORLD, NOW)


def inbound(number: str = OWN, caller: Caller | None = None) -> RoutePlan:
    return plan(decide(incoming(number, caller=caller), WORLD, NOW))


def transfer(to: str, party: Identity, called_us: bool = True, seat: str = SEAT_DE) -> Decision:
    attempt = CallAttempt(
        Source(SourceKind.SEAT, seat, DE),
        (Called("request-uri", to),),
        Caller(),
        0.0,
        PassedOn(party, called_us),
    )
    return decide(attempt, WORLD, NOW)


def test_forward_to_a_colleague() -> None:
    """R8: an extension in a Contact is a seat of the account; the caller stays the caller, nothing more counts."""
    found = plan(moved(inbound(), "202"))
    assert [t.name for t in found.targets] == ["b.schmidt"]
    assert found.targets[0].identity.presented == CALLER
    assert found.targets[0].claims == ()
    assert (found.direction, found.called, found.claims) == (Direction.INBOUND, OWN, inbound().claims)


def test_forward_outside_shows_the_caller_and_names_the_seat() -> None:
    """C8: the caller's number where the carrier shows numbers of others, the seat's as Diversion, and as identity."""
    found = plan(moved(inbound(), "030999888", why="no-answer"))
    first = found.targets[0]
    assert (first.name, first.user) == ("telekom", "+4930999888")
    assert first.identity == Identity(CALLER, OWN, "", False, (OWN,), "no-answer")


def test_forward_outside_takes_a_second_channel() -> None:
    """Domain 5.1: forward to outside is one in and one out."""
    found = plan(moved(inbound(), "030999888"))
    assert found.claims == inbound().claims
    assert found.targets[0].claims[0] == ACCOUNT
    assert [c.direction for c in found.targets[0].claims[1:]] == ["out", "total"]


def test_withheld_caller_stays_withheld() -> None:
    """C8, C1: a forward never shows whom the caller hides, outside or inside."""
    hidden = inbound(caller=Caller("", from_anonymous=True))
    outside = plan(moved(hidden, "030999888")).targets[0].identity
    assert outside.anonymous and outside.presented is None
    assert plan(moved(hidden, "202")).targets[0].identity == Identity(anonymous=True)


@pytest.mark.parametrize("to", ["201", CALLER, OWN, SEAT_DE])
def test_circles_are_refused(to: str) -> None:
    """R8, R6: not to the seat itself by extension, number or name, nor to who calls."""
    assert refusal(moved(inbound(), to)).reason is Reason.ROUTE_LOOP


def test_two_seats_that_forward_to_each_other() -> None:
    """R8: no seat forwards a call twice."""
    once = plan(moved(inbound(), "202"))
    assert refusal(moved(once, "201")).reason is Reason.ROUTE_LOOP


def test_forwards_are_bounded() -> None:
    """R8: at most five forwards of one call."""
    found = inbound()
    for n in range(5):
        found = plan(moved(found, f"03099988{n}"))
        found = plan(decide_seat(found, f"seat{n}"))
    assert refusal(moved(found, "030999889")).reason is Reason.TOO_MANY_HOPS


def decide_seat(found: RoutePlan, name: str) -> RoutePlan:
    """The same plan as if another seat were its target now."""
    return replace(found, targets=inbound().targets, visited=(*found.visited[:-1], f"moved seat {name}"))


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ("0900123456", Reason.DESTINATION_NOT_ALLOWED),
        ("+12125550123", Reason.DESTINATION_NOT_ALLOWED),
        ("112", Reason.NO_ROUTE),
        ("299", Reason.ADDRESS_INCOMPLETE),
        ("nobody", Reason.UNKNOWN_NUMBER),
    ],
)
def test_rules_of_the_seat_hold(to: str, reason: Reason) -> None:
    """R8: what the seat may not dial it may not forward to; emergency numbers neither."""
    assert refusal(moved(inbound(), to)).reason is reason


def test_forward_of_an_internal_call() -> None:
    """C8: a colleague's call that leaves the house shows the colleague's number."""
    internal = plan(dial("202", seat=SEAT_DE))
    found = plan(
        forward(
            internal, internal.targets[0], Called("contact", "030999888"), "unconditional", incoming(OWN), WORLD, NOW
        )
    )
    identity = found.targets[0].identity
    assert (identity.presented, identity.network, identity.diversion) == (OWN, "+4922838651", ("+4922838651",))


def test_forward_by_a_pbx() -> None:
    """SIPconnect: a PBX forwards by 302; its trunk's channels and its called number answer for it."""
    called = inbound("+4922838605")
    found = plan(moved(called, "030999888", number="+4922838605"))
    assert found.targets[0].identity.diversion == ("+4922838605",)
    assert [c.level for c in found.targets[0].claims[:3]] == ["trunk", "trunk", "account"]


def test_transfer_outside() -> None:
    """Domain 5.1: a transfer to outside is an outbound call of its own, of the transferor, for the caller."""
    found = plan(transfer("030999888", Identity(CALLER)))
    assert (found.direction, found.claims) == (Direction.OUTBOUND, (ACCOUNT,))
    assert found.targets[0].identity == Identity(CALLER, OWN, "", False, (OWN,), "unconditional")


def test_transfer_of_somebody_who_was_called() -> None:
    """C8: who was called and transferred is nobody's caller: the transferor's own number is shown."""
    found = plan(transfer("030999888", Identity("+4930111222"), called_us=False))
    assert found.targets[0].identity == Identity(OWN, OWN)


def test_transfer_inside_shows_who_is_transferred() -> None:
    """R2: a colleague sees whom he will talk to, whoever called whom."""
    for called_us in (True, False):
        found = plan(transfer("202", Identity("+4930111222", display="Carla"), called_us))
        assert found.targets[0].identity == Identity("+4930111222", None, "Carla")
        assert found.claims == ()


def test_a_number_that_may_not_be_shown() -> None:
    """C8: premium numbers are never shown, even where they called."""
    found = plan(transfer("030999888", Identity("+49900123456")))
    assert found.targets[0].identity.presented == OWN


def test_a_trunk_without_the_right_shows_its_own() -> None:
    """C8: a PBX whose trunk may not show others passes its own number on."""
    world = changed(trunks=(replace(TRUNKS[0], clip_no_screening=False),))
    attempt = CallAttempt(
        Source(SourceKind.TRUNK, "hq", DE),
        (Called("request-uri", "030999888"),),
        Caller("+4922838605"),
        0.0,
        PassedOn(Identity(CALLER)),
    )
    identity = plan(decide(attempt, world, NOW)).targets[0].identity
    assert (identity.presented, identity.diversion) == ("+4922838605", ("+4922838605",))
    assert plan(pbx_dials("030999888", from_user="+4922838605")).targets[0].identity.diversion == ()
