"""SRTP over the relay of the edge's own: from end to end where both sides have it, else no call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from peers import tones
from peers.certificates import Certificate
from peers.process import poll
from peers.secure_world import SecureWorld, standing
from peers.world import SEATS

pytestmark = pytest.mark.phones


@pytest.fixture(scope="module")
def standing_world(request: pytest.FixtureRequest, certificate: Certificate) -> Iterator[SecureWorld]:
    """An edge with the relay of its own."""
    yield from standing(request, certificate, 0)


def test_both_sides_have_srtp(world: SecureWorld) -> None:
    """The keys of each phone are the other's; they hear each other, also after a hold."""
    alice = world.phone("pjsua2", "alice", "tls", tone=440, srtp="required")
    carol = world.phone("baresip", "carol", "tls", tone=1010, media_encryption="srtp-mand")
    alice.dial(SEATS["carol"][0])
    carol.wait_incoming()
    carol.answer()
    alice.wait_established()
    tones.talk()
    alice.hold()
    alice.resume()
    tones.talk(1.0)
    alice.hangup()
    carol.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(alice.recording, 1010)
    tones.assert_heard(carol.recording, 440)


def test_one_side_has_srtp(world: SecureWorld) -> None:
    """Nothing falls back: 488, and the reason says which side it is."""
    alice = world.phone("pjsua2", "alice", "tls", srtp="required")
    bob = world.phone("baresip", "bobby")
    for caller, called, reason in ((alice, "bobby", "srtp-not-possible"), (bob, "alice", "srtp-required")):
        mark, before = world.edge.mark, caller.mark
        caller.dial(SEATS[called][0])
        assert "488" in caller.wait_closed(after=before)
        poll(lambda mark=mark: bool(world.edge.events("call.refused", mark)), "the refusal is logged")
        assert [event["reason"] for event in world.edge.events("call.refused", mark)] == [reason]
