"""Values as JSON and back, also from a version that knew fewer fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple

import pytest

from dialplan.model import (
    CallAttempt,
    Called,
    Caller,
    ChannelClaim,
    Direction,
    Identity,
    RoutePlan,
    Source,
    SourceKind,
    Target,
    TargetKind,
    Trace,
)
from edge.journal.values import decode, encode, parse


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    name: str = "origin"


@dataclass(slots=True)
class Thing:
    colour: Colour
    body: bytes = b""
    at: datetime | None = None
    points: tuple[Point, ...] = ()
    names: dict[int, bytes | None] = field(default_factory=dict)
    set_of: frozenset[str] = frozenset()


def test_a_value_comes_back() -> None:
    """All that states are made of, bytes of any value among them."""
    thing = Thing(
        Colour.RED,
        bytes(range(256)),
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
        (Point(1), Point(2, "z")),
        {7: b"\xff", 8: None},
        frozenset(("b", "a")),
    )
    assert decode(Thing, parse(encode(thing))) == thing


def test_a_field_that_an_earlier_version_did_not_know_has_its_default() -> None:
    """And so a later version may add fields."""
    assert decode(Thing, {"colour": "red"}) == Thing(Colour.RED)


def test_fields_that_are_not_known_are_passed_over() -> None:
    """A later version wrote more."""
    assert decode(Thing, {"colour": "red", "taste": "sweet"}) == Thing(Colour.RED)


@pytest.mark.parametrize("broken", [{}, {"colour": "blue"}, {"colour": "red", "at": "yesterday"}, []])
def test_what_does_not_fit_is_an_error(broken: object) -> None:
    """Of the kinds that `decode` names, so that one broken call costs no other."""
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        decode(Thing, broken)


def test_texts_of_peers_stay_what_they_are() -> None:
    """Bytes that are no UTF-8 are surrogates in header fields."""
    attempt = CallAttempt(
        Source(SourceKind.SEAT, "alice", "K1"), (Called("to", "\udcff\u00e9", True),), Caller(display="Zo\u00eb \udc80")
    )
    assert decode(CallAttempt, parse(encode(attempt))) == attempt


def test_a_plan_comes_back() -> None:
    """A route plan with all that a call and its record ask of it."""
    plan = RoutePlan(
        Direction.EMERGENCY,
        (
            Target(
                TargetKind.CARRIER,
                "up",
                user="+49110",
                identity=Identity("+49228", "+49228", diversion=("+4930",)),
                claims=(ChannelClaim("carrier", "up", "out", 3),),
            ),
        ),
        "110",
        "K1",
        "K2",
        claims=(ChannelClaim("account", "K1", "total", None, 2),),
        trace=Trace(),
    )
    plan.trace.add("E1", "an emergency call")
    assert decode(RoutePlan, parse(encode(plan))) == plan
