"""What counts against which limit: the table of domain 5.1, a row per call."""

from __future__ import annotations

import pytest

from config.model import Route, RouteKind
from config.snapshot import Snapshot
from dialplan.engine import decide, next_route
from dialplan.model import ChannelClaim, Outcome, RoutePlan
from tests.unit.dialplan.world import (
    DE,
    NOW,
    SEAT_DE,
    TRUNKS,
    WORLD,
    dial,
    incoming,
    pbx_dials,
    plan,
    to,
    with_row,
)

NUMBER = ChannelClaim("number", "+4922838650", "in", 2)
ACCOUNT = ChannelClaim("account", DE, "total", 30)
CARRIER_IN = (ChannelClaim("carrier", "telekom", "in", 150), ChannelClaim("carrier", "telekom", "total", 200))
CARRIER_OUT = (ChannelClaim("carrier", "telekom", "out", 120), ChannelClaim("carrier", "telekom", "total", 200))
TRUNK_IN = (ChannelClaim("trunk", f"{DE}/hq", "in", 8), ChannelClaim("trunk", f"{DE}/hq", "total", 10))
TRUNK_OUT = (ChannelClaim("trunk", f"{DE}/hq", "out", None), ChannelClaim("trunk", f"{DE}/hq", "total", 10))


def inbound(number: str = "+4922838650", world: Snapshot = WORLD) -> RoutePlan:
    return plan(decide(incoming(number), world, NOW))


def routed(route: Route, **more: object) -> Snapshot:
    return Snapshot(with_row("numbers", "+4922838650", route=route, **more))


def test_inbound_to_a_seat() -> None:
    """Number 1, account 1, carrier in and total; the seat itself costs nothing, however many phones ring."""
    decided = inbound()
    assert decided.claims == (NUMBER, ACCOUNT, *CARRIER_IN)
    assert decided.targets[0].claims == ()


def test_inbound_to_a_trunk() -> None:
    """The trunk's channels are the target's: another next route does not need them."""
    decided = inbound(world=routed(to(RouteKind.TRUNK, "hq")))
    assert decided.claims == (NUMBER, ACCOUNT, *CARRIER_IN)
    assert decided.targets[0].claims == TRUNK_IN


def test_inbound_to_fax() -> None:
    """A fax takes the number's channel like any call (T.38 counts as audio does)."""
    assert inbound("+4922838699").claims[0] == ChannelClaim("number", "+4922838699", "in", 1)


def test_each_ddi_of_a_range_has_channels_of_its_own() -> None:
    """Channels are per DDI: calls to ...07 do not take from ...08."""
    assert inbound("+4922838607").claims[0].key == "+4922838607"
    assert inbound("+4922838608").claims[0].key == "+4922838608"


def test_forward_counts_two() -> None:
    """Number 1, carrier in 1, carrier out 1, account 2."""
    decided = inbound(world=routed(to(RouteKind.FORWARD, "+436601234567")))
    assert decided.claims == (NUMBER, ACCOUNT, *CARRIER_IN)
    assert decided.targets[0].name == "telekom"
    assert decided.targets[0].claims == (ACCOUNT, *CARRIER_OUT)


def test_outbound_from_a_seat() -> None:
    """Account 1, and the carrier that is tried."""
    decided = plan(dial("+4930123456", SEAT_DE))
    assert decided.claims == (ACCOUNT,)
    assert decided.targets[0].claims == CARRIER_OUT


def test_calls_per_second_of_the_carrier() -> None:
    """A carrier with `max_cps` lets only so many calls begin in a second: asked last, for calls out alone."""
    world = Snapshot(with_row("carriers", "telekom", max_cps=20))
    target = plan(dial("+4930123456", SEAT_DE, world)).targets[0]
    assert target.claims == (*CARRIER_OUT, ChannelClaim("carrier", "telekom", "cps", 20))
    assert inbound(world=world).claims == (NUMBER, ACCOUNT, *CARRIER_IN)


def test_outbound_from_a_pbx() -> None:
    """Trunk out and total, account 1, and the carrier that is tried."""
    decided = plan(pbx_dials("+4930123456"))
    assert decided.claims == (*TRUNK_OUT, ACCOUNT)
    assert decided.targets[0].claims == CARRIER_OUT


@pytest.mark.parametrize("digits", ["202", "*31#202"])
def test_internal_counts_nothing(digits: str) -> None:
    """Internal calls are free of every limit, from seats and from PBXs."""
    for decided in (plan(dial(digits, SEAT_DE)), plan(pbx_dials(digits))):
        assert decided.claims == ()
        assert all(t.claims == () for t in decided.targets)


def test_emergency_counts_nothing() -> None:
    """T5.8."""
    for decided in (plan(dial("112", SEAT_DE)), plan(pbx_dials("112"))):
        assert decided.claims == ()
        assert all(t.claims == () for t in decided.targets)


def test_next_route_holds_what_the_call_holds() -> None:
    """The number's and the account's channel are held until the carrier's leg ends: a next route names the same."""
    world = routed(to(RouteKind.TRUNK, "hq"), on_busy=to(RouteKind.SEAT, SEAT_DE))
    first = inbound(world=world)
    following = plan(next_route(first, Outcome.BUSY, incoming("+4922838650"), world, NOW))
    assert following.claims == first.claims
    assert following.targets[0].claims == ()


def test_overflow_leaves_the_full_number_alone() -> None:
    """on_limit: the number is full, so the overflow route asks for none of its channels, nor do the routes after it."""
    world = routed(
        to(RouteKind.SEAT, SEAT_DE), on_limit=to(RouteKind.SEAT, "b.schmidt"), on_busy=to(RouteKind.TRUNK, "hq")
    )
    overflow = plan(next_route(inbound(world=world), Outcome.LIMIT, incoming("+4922838650"), world, NOW))
    assert overflow.claims == (ACCOUNT, *CARRIER_IN)
    later = plan(next_route(overflow, Outcome.BUSY, incoming("+4922838650"), world, NOW))
    assert later.claims == (ACCOUNT, *CARRIER_IN)


def test_absent_limits_are_counted() -> None:
    """None is counted and never refused, so that use can be seen."""
    world = Snapshot(with_row("accounts", DE, parallel_calls=None))
    assert plan(dial("+4930123456", SEAT_DE, world)).claims == (ChannelClaim("account", DE, "total", None),)
    assert TRUNKS[0].parallel_calls_out is None
