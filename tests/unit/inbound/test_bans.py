"""Bans as operators see and change them (domain rule 7.4c)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from edge.inbound.bans import Bans
from edge.sip.flow import Address, Flow

from .test_authenticate import HERE, Door

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SIX = Flow("udp", HERE.local, Address("2001:db8:0:1::9", 5060))


def bans(door: Door) -> Bans:
    return Bans(door.guard, door.door, lambda: door.now, lambda: NOON)


def guess(door: Door, flow: Flow = HERE) -> None:
    for n in range(5):
        door.knock(f"20{n}", "wrong", flow)


def insist(door: Door, flow: Flow = HERE) -> None:
    for _ in range(5):
        door.knock("201", "wrong", flow)


def test_a_source_is_listed_and_lifted_with_its_history() -> None:
    """After the lift the next ban is a first one again, and the address may be any of its /64."""
    door = Door()
    guess(door, SIX)
    (ban,) = bans(door).listed()
    assert (ban.source, ban.user, ban.until, ban.reason) == (
        "2001:db8:0:1::/64", None, NOON + timedelta(seconds=900), "wrong passwords",
    )  # fmt: skip
    assert bans(door).count() == {"source": 1, "user": 0}
    assert bans(door).lift("2001:db8:0:1::77", None) and not door.is_banned(SIX)
    assert not bans(door).lift("2001:db8:0:1::/64", None)
    guess(door, SIX)
    assert bans(door).listed()[0].until == NOON + timedelta(seconds=900)


def test_users_of_an_office_are_listed_and_lifted() -> None:
    door = Door(registered=frozenset({"198.51.100.7"}))
    insist(door)
    (ban,) = bans(door).listed()
    assert (ban.source, ban.user) == ("198.51.100.7", "201")
    assert not bans(door).lift("198.51.100.7", "999")
    assert bans(door).lift("198.51.100.7", "201")
    insist(door)
    assert bans(door).lift("198.51.100.7", None), "the source with all its users"
    assert bans(door).listed() == []


def test_by_hand() -> None:
    """Not carriers, not for ever, and nothing that is no source."""
    door = Door()
    door.guard.exempt([ip_network("203.0.113.1/32")])
    assert bans(door).add("198.51.100.7", timedelta(hours=1)) == "198.51.100.7"
    assert door.is_banned() and bans(door).listed()[0].reason == "by an operator"
    for source, hours in (("203.0.113.1", 1), ("198.51.100.7", 1000), ("198.51.100.0/24", 1), ("host", 1), ("", 1)):
        with pytest.raises(ValueError, match=r"carrier|at most|no source"):
            bans(door).add(source, timedelta(hours=hours))
