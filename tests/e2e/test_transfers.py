"""Transfers and forwards through the running edge, with real phones: who ends up talking to whom, and what it counts.

Each phone plays a tone of its own; SIPp sends back what it hears. Who hears the wrong tone was joined to the wrong party.
"""

from __future__ import annotations

import pytest
from peers import tones
from peers.messages import Trace
from peers.phone import Phone
from peers.world import SEATS, SOMEBODY, World

pytestmark = pytest.mark.phones

ELSEWHERE = "+4930999888"
"""A number in the world that phones forward and transfer to."""


# -- forwards that are set on the phone ---------------------------------------------------------------------------------


def forwards(world: World, to: str, status: int = 302) -> Trace:
    """The carrier calls alice, whose phone answers 3xx with `to` as Contact."""
    phone = world.sipp_phone("alice", "uas_reject", status=status, contact_user=to)
    carrier = world.carrier_calls("uac_until_bye", SEATS["alice"][1])
    phone.wait()
    return carrier.trace


@pytest.mark.parametrize("status", [301, 302, 305])
def test_phone_forwards_to_a_colleague(world: World, status: int) -> None:
    """A Contact with an extension rings the colleague, who sees the caller."""
    bob = world.phone("pjsua2", "bobby", tone=1010)
    phone = world.sipp_phone("alice", "uas_reject", status=status, contact_user="202")
    carrier = world.carrier_calls("uac_until_bye", SEATS["alice"][1])
    phone.wait()
    assert SOMEBODY in bob.wait_incoming()
    bob.answer()
    bob.wait_established()
    bob.hangup()
    assert [m.status for m in carrier.wait().responses(method="INVITE")] == [100, 180, 200]


def test_phone_forwards_to_the_outside(world: World) -> None:
    """A number in the Contact is called over a carrier as the seat's forward: its number answers for it."""
    target = world.network_answers("uas_bye", talk_ms=300)
    phone = world.sipp_phone("carol", "uas_reject", status=302, contact_user=ELSEWHERE)
    carrier = world.network_calls("uac_until_bye", SEATS["carol"][1])
    phone.wait()
    carrier.wait()
    invite = target.wait().one("INVITE")
    assert ELSEWHERE in invite.request_uri
    assert SEATS["carol"][1] in invite.header("Diversion")


def test_forwards_in_a_circle_end(world: World) -> None:
    """Two phones that forward to each other: the caller hears that nobody is there."""
    alice = world.sipp_phone("alice", "uas_reject", status=302, contact_user="202")
    bob = world.sipp_phone("bobby", "uas_reject", status=302, contact_user="201")
    carrier = world.carrier_calls("uac_refused", SEATS["alice"][1], status=480)
    carrier.wait()
    alice.wait()
    bob.wait()


def test_carrier_redirects_nobody(world: World) -> None:
    """3xx of a carrier is a failure: it may not send our customers' calls elsewhere."""
    carrier = world.carrier_answers("uas_reject", status=302, contact_user=ELSEWHERE)
    bob = world.phone("pjsua2", "bobby")
    bob.dial(SOMEBODY)
    carrier.wait()
    assert not bob.wait_closed().startswith("3")


# -- transfers ----------------------------------------------------------------------------------------------------------


def talk_to(caller: Phone, callee: Phone, extension: str) -> None:
    """One phone calls another, which answers."""
    mark, other = caller.mark, callee.mark
    caller.dial(extension)
    callee.wait_incoming(after=other)
    callee.answer()
    caller.wait_established(after=mark)
    callee.wait_established(after=other)


def test_blind_transfer_to_a_colleague(world: World) -> None:
    """The called transfers its caller: both remaining phones hear each other, the transferor hears that it worked."""
    alice = world.peers.pjsua(world.account("alice"), tone=440)
    bob = world.phone("pjsua2", "bobby", tone=1010)
    carol = world.phone("pjsua2", "carol", tone=1750)
    alice.wait_registered()
    talk_to(bob, alice, SEATS["alice"][0])
    alice.transfer(SEATS["carol"][0])
    assert SEATS["bobby"][0] in carol.wait_incoming()
    alice.wait_for(r"^TRANSFER 180")
    carol.answer()
    alice.wait_for(r"^TRANSFER 200")
    alice.wait_closed()
    carol.wait_established()
    tones.talk(2)
    carol.hangup()
    bob.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(bob.recording, 1750, only=False)
    tones.assert_heard(carol.recording, 1010)
