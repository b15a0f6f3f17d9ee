"""Transfers and forwards through the running edge, with real phones: who ends up talking to whom, and what it counts.

Each phone plays a tone of its own; SIPp sends back what it hears. A wrong tone means joined to the wrong party.
"""

from __future__ import annotations

import pytest
from peers import tones
from peers.linphone import Linphone
from peers.phone import Phone
from peers.pjsua import Pjsua
from peers.process import poll
from peers.sipp import SCENARIOS
from peers.world import SEATS, SOMEBODY, World

pytestmark = pytest.mark.phones

ELSEWHERE = "+4930999888"
"""A number in the world that phones forward and transfer to."""


# -- forwards that are set on the phone -------------------------------------------------------------------------------


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
    invite = target.wait().requests("INVITE")[0]
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
    """3xx of a carrier is a failure: it may not send our customers' calls elsewhere. The next carrier is tried."""
    carrier = world.carrier_answers("uas_reject", status=302, contact_user=ELSEWHERE)
    network = world.network_answers("uas_bye", talk_ms=300)
    bob = world.phone("pjsua2", "bobby")
    bob.dial(SOMEBODY)
    carrier.wait()
    assert SOMEBODY in network.wait().one("INVITE").request_uri
    bob.wait_closed()


# -- transfers ---------------------------------------------------------------------------------------------------------


def connect(caller: Phone, callee: Phone, extension: str) -> None:
    """One phone calls another, which answers, and they begin to talk."""
    mark, other = caller.mark, callee.mark
    caller.dial(extension)
    callee.wait_incoming(after=other)
    callee.answer()
    caller.wait_established(after=mark)
    callee.wait_established(after=other)
    tones.talk(0.5)


def channels(world: World) -> dict[str, float]:
    """Channels in use by level."""
    found = world.edge.metrics()
    return {
        level: found.get(f'sip_edge_channels_in_use{{level="{level}"}}', 0.0)
        for level in ("number", "trunk", "account", "carrier")
    }


def pjsua(world: World, seat: str, tone: int = 440) -> Pjsua:
    phone = world.phone("pjsua2", seat, tone=tone)
    assert isinstance(phone, Pjsua)
    return phone


def assert_talked(one: Phone, other: Phone) -> None:
    """Each heard the other at last; before, it may have heard the transferor."""
    tones.assert_heard(one.recording, other.tone, only=False)
    tones.assert_heard(other.recording, one.tone, only=False)


@pytest.mark.parametrize("transferor", ["called", "caller"])
def test_blind_transfer_to_a_colleague(world: World, transferor: str) -> None:
    """Both parties that remain hear each other, the transferor hears that it worked; who remains is shown."""
    alice, bob, carol = pjsua(world, "alice", 440), pjsua(world, "bobby", 1010), pjsua(world, "carol", 1750)
    if transferor == "called":
        connect(bob, alice, SEATS["alice"][0])
    else:
        connect(alice, bob, SEATS["bobby"][0])
    alice.transfer(SEATS["carol"][0])
    assert SEATS["bobby"][0] in carol.wait_incoming()
    alice.wait_for(r"^TRANSFER 180")
    carol.answer()
    alice.wait_for(r"^TRANSFER 200")
    alice.wait_closed()
    carol.wait_established()
    tones.talk(2)
    assert channels(world) == {"number": 0, "trunk": 0, "account": 0, "carrier": 0}
    carol.hangup()
    bob.wait_closed()
    world.peers.stop_phones()
    assert_talked(bob, carol)
    tones.assert_heard(carol.recording, bob.tone)


def test_hold_and_blind_transfer(world: World) -> None:
    """A transferor that holds first: the remaining party is taken off hold for the target, and may hold again."""
    alice, bob, carol = pjsua(world, "alice", 440), pjsua(world, "bobby", 1010), pjsua(world, "carol", 1750)
    connect(bob, alice, SEATS["alice"][0])
    mark = bob.mark
    alice.hold()
    bob.wait_media("(remote-hold|none)", after=mark)
    mark = bob.mark
    alice.transfer(SEATS["carol"][0])
    carol.wait_incoming()
    carol.answer()
    alice.wait_closed()
    bob.wait_media("active", after=mark)
    tones.talk(2)
    mark = carol.mark
    bob.hold()
    carol.wait_media("(remote-hold|none)", after=mark)
    mark = carol.mark
    bob.resume()
    carol.wait_media("active", after=mark)
    mark = bob.mark
    carol.send_dtmf("15#")
    bob.wait_dtmf("15#", after=mark)
    bob.hangup()
    carol.wait_closed()
    world.peers.stop_phones()
    assert_talked(bob, carol)


def test_blind_transfer_to_the_outside(world: World) -> None:
    """A caller from outside goes outside again: one channel in, one out, one party's end is the other's; each call has
    its record, and the ladder of either shows both."""
    mark = world.edge.mark
    carol = pjsua(world, "carol")
    caller = world.network_calls("uac_answers_reinvite", SEATS["carol"][1], talk_ms=2000)
    carol.wait_incoming()
    carol.answer()
    carol.wait_established()
    assert channels(world) == {"number": 1, "trunk": 0, "account": 1, "carrier": 1}
    target = world.carrier_answers("uas_answer")
    carol.transfer(ELSEWHERE)
    carol.wait_for(r"^TRANSFER 200")
    carol.wait_closed()
    assert channels(world) == {"number": 1, "trunk": 0, "account": 2, "carrier": 2}
    caller.wait()
    invite = target.wait().requests("INVITE")[0]
    assert ELSEWHERE in invite.request_uri
    assert SEATS["carol"][1] in invite.header("Diversion")
    poll(lambda: len(world.edge.events("call.finished", mark)) == 2, "both calls are recorded")
    records = {str(line["direction"]): line for line in world.edge.events("call.finished", mark)}
    tried = records["inbound"]["attempts"]
    assert isinstance(tried, list) and "seat carol 200" in tried and tried[-1] == "carrier static 200"
    assert (records["outbound"]["source_name"], records["outbound"]["target_name"]) == ("carol", "static")
    ladder = world.edge.get(f"/trace/{records['inbound']['call']}?messages=1")[1]
    assert invite.header("Call-ID") in ladder and "REFER" in ladder


def test_colleague_is_transferred_to_the_outside(world: World) -> None:
    """A colleague's call goes out as a call of the transferor; sound passes both ways."""
    bob, carol = pjsua(world, "bobby", 1010), pjsua(world, "carol", 1750)
    connect(bob, carol, SEATS["carol"][0])
    # SIPp has one number for telephone-event, pjsua2 another; a real phone answers with that of the offer
    sdp = (SCENARIOS / "part_sdp.txt").read_text().strip("\n").replace("101", "120")
    target = world.carrier_answers("uas_answer", sdp=sdp)
    carol.transfer(ELSEWHERE)
    carol.wait_closed()
    tones.talk(2)
    assert channels(world) == {"number": 0, "trunk": 0, "account": 1, "carrier": 1}
    bob.hangup()
    target.wait()
    world.peers.stop_phones()
    tones.assert_heard(bob.recording, 1010, only=False)


@pytest.mark.parametrize("first", ["called", "caller"])
def test_attended_transfer(world: World, first: str) -> None:
    """The transferor holds one party, talks to the other, and joins them."""
    alice, bob, carol = pjsua(world, "alice", 440), pjsua(world, "bobby", 1010), pjsua(world, "carol", 1750)
    if first == "called":
        connect(bob, alice, SEATS["alice"][0])
    else:
        connect(alice, bob, SEATS["bobby"][0])
    alice.hold()
    connect(alice, carol, SEATS["carol"][0])
    tones.talk(1)
    mark = alice.mark
    alice.transfer_attended(0, 1)
    alice.wait_for(r"^TRANSFER 200", after=mark)
    alice.wait_closed(after=mark)
    tones.talk(2)
    mark = carol.mark
    bob.hold()
    carol.wait_media("(remote-hold|none)", after=mark)
    bob.hangup()
    carol.wait_closed()
    world.peers.stop_phones()
    assert_talked(bob, carol)


@pytest.mark.parametrize("kind", ["baresip", "linphone"])
@pytest.mark.parametrize("part", ["transferor", "remaining", "target"])
def test_other_phones(world: World, kind: str, part: str) -> None:
    """Each kind of phone in each part of a blind transfer."""
    kinds = {"transferor": "pjsua2", "remaining": "pjsua2", "target": "pjsua2"} | {part: kind}
    alice = world.phone(kinds["transferor"], "alice", tone=440)
    bob = world.phone(kinds["remaining"], "bobby", tone=1010)
    carol = world.phone(kinds["target"], "carol", tone=1750)
    connect(bob, alice, SEATS["alice"][0])
    alice.transfer(SEATS["carol"][0])
    carol.wait_incoming()
    carol.answer()
    carol.wait_established()
    alice.wait_closed()
    tones.talk(2)
    carol.hangup()
    bob.wait_closed()
    world.peers.stop_phones()
    assert_talked(bob, carol)


def test_linphone_joins_two_calls(world: World) -> None:
    """The attended transfer of another stack."""
    alice = world.phone("linphone", "alice", tone=440)
    assert isinstance(alice, Linphone)
    bob, carol = pjsua(world, "bobby", 1010), pjsua(world, "carol", 1750)
    connect(bob, alice, SEATS["alice"][0])
    alice.hold()
    connect(alice, carol, SEATS["carol"][0])
    mark = world.edge.mark
    alice.transfer_attended()
    poll(lambda: bool(world.edge.events("call.transferred", mark)), "the edge has joined the calls")
    tones.talk(2)
    bob.hangup()
    carol.wait_closed()
    world.peers.stop_phones()
    assert_talked(bob, carol)


def test_two_inbound_calls_are_joined(world: World) -> None:
    """Two calls from outside, joined: each keeps its channels until it ends, with the other (domain rule 5.1)."""
    carol = pjsua(world, "carol")
    first = world.network_calls("uac_two_reinvites", SEATS["carol"][1])
    carol.wait_incoming()
    carol.answer()
    carol.wait_established()
    tones.talk(0.5)
    carol.hold()
    mark = carol.mark
    second = world.network_calls("uac_answers_reinvite", SEATS["carol"][1], talk_ms=2000)
    carol.wait_incoming(after=mark)
    carol.answer()
    carol.wait_established(after=mark)
    both = {"number": 2, "trunk": 0, "account": 2, "carrier": 2}
    assert channels(world) == both
    carol.transfer_attended(0, 1)
    carol.wait_for(r"^TRANSFER 200")
    carol.wait_closed(after=mark)
    assert channels(world) == both
    second.wait()
    first.wait()


def test_target_is_busy(world: World) -> None:
    """A transfer that fails leaves the call as it was, and says why."""
    alice, bob, dave = pjsua(world, "alice", 440), pjsua(world, "bobby", 1010), pjsua(world, "david", 1750)
    connect(bob, alice, SEATS["alice"][0])
    alice.hold()
    alice.transfer(SEATS["david"][0])
    dave.wait_incoming()
    dave.hangup(486)
    alice.wait_for(r"^TRANSFER 486")
    alice.resume()
    tones.talk(2)
    bob.hangup()
    alice.wait_closed()
    world.peers.stop_phones()
    assert_talked(alice, bob)


@pytest.mark.parametrize(("target", "status"), [("299", 484), ("205", 480), ("+49900123456", 403)])
def test_target_cannot_be_called(world: World, target: str, status: int) -> None:
    """The dial plan's refusal is what the transferor hears."""
    alice, bob = pjsua(world, "alice", 440), pjsua(world, "bobby", 1010)
    connect(bob, alice, SEATS["alice"][0])
    alice.transfer(target)
    alice.wait_for(rf"^TRANSFER {status}")
    assert len(world.edge.rows("calls")) == 1
    bob.hangup()
    alice.wait_closed()


def test_transferor_hangs_up_at_once(world: World) -> None:
    """The remaining party waits for the target, and talks to it when it answers."""
    alice, bob, carol = pjsua(world, "alice", 440), pjsua(world, "bobby", 1010), pjsua(world, "carol", 1750)
    connect(bob, alice, SEATS["alice"][0])
    alice.transfer(SEATS["carol"][0])
    alice.wait_for(r"^TRANSFER 180")
    alice.hangup()
    alice.wait_closed()
    carol.wait_incoming()
    carol.answer()
    carol.wait_established()
    tones.talk(2)
    carol.hangup()
    bob.wait_closed()
    world.peers.stop_phones()
    assert_talked(bob, carol)


def test_transferor_hangs_up_and_nobody_answers(world: World) -> None:
    """Nobody is left for the remaining party: its call ends."""
    alice, bob, carol = pjsua(world, "alice", 440), pjsua(world, "bobby", 1010), pjsua(world, "carol", 1750)
    connect(bob, alice, SEATS["alice"][0])
    alice.transfer(SEATS["carol"][0])
    carol.wait_incoming()
    alice.hangup()
    alice.wait_closed()
    carol.hangup(603)
    bob.wait_closed()


def test_remaining_party_hangs_up(world: World) -> None:
    """The target stops ringing, and the transferor is released."""
    alice, bob, carol = pjsua(world, "alice", 440), pjsua(world, "bobby", 1010), pjsua(world, "carol", 1750)
    connect(bob, alice, SEATS["alice"][0])
    alice.transfer(SEATS["carol"][0])
    carol.wait_incoming()
    bob.hangup()
    carol.wait_closed()
    alice.wait_closed()


def test_transfer_of_a_transfer(world: World) -> None:
    """Who was reached by a transfer transfers again: a chain of bridges carries sound like one call."""
    alice, bob, carol = pjsua(world, "alice", 440), pjsua(world, "bobby", 1010), pjsua(world, "carol", 1750)
    dave = pjsua(world, "david", 2550)
    connect(bob, alice, SEATS["alice"][0])
    alice.transfer(SEATS["carol"][0])
    carol.wait_incoming()
    carol.answer()
    alice.wait_closed()
    carol.wait_established()
    carol.hold()
    carol.transfer(SEATS["david"][0])
    dave.wait_incoming()
    dave.answer()
    carol.wait_closed()
    dave.wait_established()
    tones.talk(2)
    bob.hangup()
    dave.wait_closed()
    world.peers.stop_phones()
    assert_talked(bob, dave)


def test_phone_takes_a_call_over(world: World) -> None:
    """INVITE with Replaces of a colleague's dialog: the colleague is out, the caller talks on (RFC 3891)."""
    alice, bob, carol = pjsua(world, "alice", 440), pjsua(world, "bobby", 1010), pjsua(world, "carol", 1750)
    connect(bob, alice, SEATS["alice"][0])
    tones.talk(1)
    offered = alice.trace.requests("INVITE", "in")[0]
    answered = alice.trace.responses(200, "INVITE", "out")[0]
    ours = offered.header("From").partition(";tag=")[2]
    hers = answered.header("To").partition(";tag=")[2]
    dialog = f"{offered.header('Call-ID')};to-tag={ours};from-tag={hers}"
    carol.dial("201", headers={"Replaces": dialog, "Require": "replaces"})
    carol.wait_established()
    alice.wait_closed()
    tones.talk(2)
    bob.hangup()
    carol.wait_closed()
    world.peers.stop_phones()
    assert_talked(bob, carol)


def test_unknown_dialog_is_not_taken_over(world: World) -> None:
    """A Replaces that names no dialog of ours: 481 (RFC 3891 section 3)."""
    carol = pjsua(world, "carol")
    carol.dial("201", headers={"Replaces": "x@y;to-tag=a;from-tag=b"})
    assert carol.wait_closed().startswith("481")


def test_semi_attended_transfer(world: World) -> None:
    """The transferor joins two calls of which one still rings: the target answers whoever is left."""
    alice, bob, carol = pjsua(world, "alice", 440), pjsua(world, "bobby", 1010), pjsua(world, "carol", 1750)
    connect(bob, alice, SEATS["alice"][0])
    alice.hold()
    mark = alice.mark
    alice.dial(SEATS["carol"][0])
    carol.wait_incoming()
    alice.wait_ringing(after=mark)
    alice.transfer_attended(0, 1)
    alice.wait_for(r"^TRANSFER 180", after=mark)
    carol.answer()
    alice.wait_for(r"^TRANSFER 200", after=mark)
    assert alice.wait_closed(after=mark)
    carol.wait_established()
    tones.talk(2)
    carol.hangup()
    bob.wait_closed()
    world.peers.stop_phones()
    assert_talked(bob, carol)
