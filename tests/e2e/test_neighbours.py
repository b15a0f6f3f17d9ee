"""Phones behind one address: one with a wrong password and one that is not provisioned yet do not hurt the others
(domain rule 7.4c)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from peers.phone import Account
from peers.process import poll
from peers.world import SOMEBODY, World, document, password

pytestmark = pytest.mark.phones

OFFICE = "127.0.0.61"
NEW = "frank"


@pytest.fixture
def growing(world: World) -> Iterator[World]:
    """The world, as it was afterwards."""
    yield world
    world.edge.provision(document(world))


def test_good_phones_go_on_behind_the_address_of_a_bad_one(growing: World) -> None:
    """Before anybody registers there, baresip tries a wrong password and one tries a user that does not exist yet, each
    five times within milliseconds. Two good phones register and call; the new one is heard once it is provisioned."""
    world, edge = growing, growing.edge
    mark = edge.mark
    for user, word in (("carol", "wrong-Pass-1"), (NEW, password(NEW))):
        world.peers.phone("baresip", Account(user, word, edge.server(), "udp", expires=60), address=OFFICE)

    def refused() -> set[object]:
        return {event["username"] for event in edge.events("authentication.banned", mark)}

    poll(lambda: refused() == {"carol", NEW}, "both bad phones are refused")
    banned = edge.command("bans", "list").stdout
    assert banned.count(OFFICE) == 2 and "carol" in banned and NEW in banned, banned

    first = world.phone("pjsua2", "bobby", address=OFFICE)
    world.register("alice", address=OFFICE)
    answering = world.carrier_answers("uas_answer")
    first.dial(SOMEBODY)
    first.wait_established()
    first.hangup()
    answering.wait()
    world.peers.phone("baresip", Account("erika", "wrong-Pass-1", edge.server(), "udp", expires=60), address=OFFICE)
    poll(lambda: "erika" in refused(), "the third bad phone is refused")
    world.register("alice", address=OFFICE)
    assert not any(event["whole"] for event in edge.events("authentication.banned", mark))

    changed = document(world)
    seats = changed["seats"]
    assert isinstance(seats, list)
    seats.append({"username": NEW, "account": "K1", "password": password(NEW), "name": NEW, "extension": "206"})
    edge.provision(changed)
    world.register(NEW, address=OFFICE)
    assert NEW not in edge.command("bans", "list").stdout
