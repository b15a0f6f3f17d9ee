"""Calls through the running edge, with real phones and carriers and sound: issue by issue what a caller would notice.

Each phone plays a tone of its own, SIPp sends back what it hears. One-way or crossed audio fails the test.
"""

from __future__ import annotations

import itertools

import pytest
from peers import tones
from peers.fixtures import KINDS
from peers.world import FORWARDED, REGISTERED_CARRIERS, SEATS, SOMEBODY, World

pytestmark = pytest.mark.phones

TRANSPORTS = ("udp", "tcp", "tls")
EVERY_PHONE = list(itertools.product(KINDS, TRANSPORTS))


@pytest.mark.parametrize(
    ("caller", "callee", "transport"),
    [(caller, callee, TRANSPORTS[index % 3]) for index, (caller, callee) in enumerate(itertools.product(KINDS, KINDS))],
)
def test_phone_calls_phone_by_extension(world: World, caller: str, callee: str, transport: str) -> None:
    """A seat dials an extension; both hear each other and nobody else, and the extension is what is shown."""
    alice = world.phone(caller, "alice", transport, tone=440)
    bob = world.phone(callee, "bobby", transport, tone=1010)
    alice.dial(SEATS["bobby"][0])
    assert SEATS["alice"][0] in bob.wait_incoming()
    alice.wait_ringing()
    bob.answer()
    alice.wait_established()
    bob.wait_established()
    assert len(world.edge.rows("calls")) == 1
    tones.talk()
    alice.hangup()
    bob.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(alice.recording, 1010)
    tones.assert_heard(bob.recording, 440)


@pytest.mark.parametrize(("kind", "transport"), EVERY_PHONE)
def test_carrier_calls_phone(world: World, kind: str, transport: str) -> None:
    """A carrier known by its address calls a number; the seat's phone hears its own tone come back."""
    phone = world.phone(kind, "alice", transport, tone=570)
    carrier = world.carrier_calls("uac_until_bye", SEATS["alice"][1])
    assert SOMEBODY in phone.wait_incoming()
    phone.answer()
    phone.wait_established()
    tones.talk()
    phone.hangup()
    carrier.wait()
    world.peers.stop_phones()
    tones.assert_heard(phone.recording, 570)


@pytest.mark.parametrize(("kind", "transport"), EVERY_PHONE)
def test_phone_calls_carrier(world: World, kind: str, transport: str) -> None:
    """A seat dials a national number; it goes out as E.164 with the seat's number, and the echo is heard."""
    carrier = world.carrier_answers("uas_answer")
    phone = world.phone(kind, "bobby", transport, tone=740)
    phone.dial("030123456")
    phone.wait_established()
    tones.talk()
    phone.hangup()
    seen = carrier.wait()
    world.peers.stop_phones()
    invite = seen.one("INVITE")
    assert invite.request_uri.startswith(f"sip:{SOMEBODY}@")
    assert f"sip:{SEATS['bobby'][1]}@" in invite.header("From")
    assert f"sip:{SEATS['bobby'][1]}@" in invite.header("P-Asserted-Identity")
    tones.assert_heard(phone.recording, 740)


@pytest.mark.parametrize("seat", REGISTERED_CARRIERS)
def test_registered_carrier_calls_phone(world: World, seat: str) -> None:
    """A carrier that we registered with, over each transport, calls over that registration."""
    phone = world.phone("baresip", seat, tone=1300)
    network = world.network_calls("uac_until_bye", SEATS[seat][1])
    assert SOMEBODY in phone.wait_incoming()
    phone.answer()
    phone.wait_established()
    tones.talk()
    phone.hangup()
    network.wait()
    world.peers.stop_phones()
    tones.assert_heard(phone.recording, 1300)


@pytest.mark.parametrize("seat", REGISTERED_CARRIERS)
def test_phone_calls_registered_carrier(world: World, seat: str) -> None:
    """A call goes out over the carrier that the seat's number belongs to, and answers its digest challenge."""
    network = world.network_answers("uas_bye", talk_ms=1500)
    phone = world.phone("pjsua2", seat, tone=1750)
    phone.dial(SOMEBODY)
    phone.wait_established()
    phone.wait_closed()
    seen = network.wait()
    world.peers.stop_phones()
    assert SEATS[seat][1] in seen.one("INVITE").header("P-Asserted-Identity")
    tones.assert_heard(phone.recording, 1750)


def test_first_phone_to_answer_wins(world: World) -> None:
    """All phones of a seat ring; the first to answer has the call, the others stop ringing."""
    phones = [
        world.phone(kind, "alice", transport, tone=tone)
        for (kind, transport), tone in zip(
            [("baresip", "udp"), ("pjsua2", "tcp"), ("linphone", "tls")], (440, 570, 740), strict=True
        )
    ]
    bob = world.phone("pjsua2", "bobby", tone=1010)
    bob.dial(SEATS["alice"][0])
    for phone in phones:
        phone.wait_incoming()
    winner, *others = phones
    winner.answer()
    bob.wait_established()
    for phone in others:
        phone.wait_closed()
    tones.talk()
    bob.hangup()
    winner.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(bob.recording, 440)
    tones.assert_heard(winner.recording, 1010)
    for phone in others:
        tones.assert_silent(phone.recording)


@pytest.mark.parametrize("kind", KINDS)
def test_hold_and_resume(world: World, kind: str) -> None:
    """Every kind of phone holds and resumes; the other side is told so, and both hear each other again."""
    phone = world.phone(kind, "alice", tone=440)
    other = world.peers.pjsua(world.account("bobby"), tone=1010)
    other.wait_registered()
    phone.dial(SEATS["bobby"][0])
    other.wait_incoming()
    other.answer()
    phone.wait_established()
    other.wait_established()
    tones.talk(1)
    mark = other.mark
    phone.hold()
    other.wait_media("(remote-hold|none)", after=mark)
    mark = other.mark
    phone.resume()
    other.wait_media("active", after=mark)
    tones.talk(2)
    # Digits prove that media comes back to the phone; baresip records nothing after a hold.
    mark = phone.mark
    other.send_dtmf("42")
    phone.wait_dtmf("42", after=mark)
    other.hangup()
    phone.wait_closed()
    world.peers.stop_phones()
    # More than was heard before the hold alone.
    tones.assert_heard(other.recording, 440, at_least=2)


def test_called_side_holds(world: World) -> None:
    """The called side of a call from a carrier may hold, too."""
    phone = world.phone("pjsua2", "alice", tone=440)
    carrier = world.carrier_calls("uac_two_reinvites", SEATS["alice"][1])
    phone.wait_incoming()
    phone.answer()
    phone.wait_established()
    phone.hold()
    phone.resume()
    phone.hangup()
    seen = carrier.wait()
    hold, resume = seen.requests("INVITE", "in")
    assert "a=sendonly" in hold.body
    assert "a=sendonly" not in resume.body


@pytest.mark.parametrize("kind", KINDS)
def test_digits_both_ways(world: World, kind: str) -> None:
    """RFC 4733 digits pass through the relay in both directions, in order."""
    phone = world.phone(kind, "alice")
    other = world.phone("pjsua2", "bobby", tone=1010)
    phone.dial(SEATS["bobby"][0])
    other.wait_incoming()
    other.answer()
    phone.wait_established()
    other.wait_established()
    mark = other.mark
    phone.send_dtmf("159*#0")
    other.wait_dtmf("159*#0", after=mark)
    mark = phone.mark
    other.send_dtmf("268#*")
    phone.wait_dtmf("268#*", after=mark)
    phone.hangup()
    other.wait_closed()


@pytest.mark.parametrize("kind", ["baresip", "pjsua2"])
def test_early_media_is_heard(world: World, kind: str) -> None:
    """What a carrier plays in a 183 is heard before the answer, and giving up reaches the carrier."""
    carrier = world.carrier_answers("uas_early_media_forever")
    phone = world.phone(kind, "bobby", tone=2150)
    phone.dial(SOMEBODY)
    carrier.wait_for(status=183, direction="out")
    tones.talk(2)
    phone.hangup()
    phone.wait_closed()
    carrier.wait()
    world.peers.stop_phones()
    tones.assert_heard(phone.recording, 2150)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_phone_behind_nat(world: World, transport: str) -> None:
    """A phone whose Contact, Via and SDP name a private address is called on its flow and heard from where it sends."""
    hidden = world.phone(
        "pjsua2", "alice", transport, tone=440, media_address="10.99.0.7", signalling_address="10.99.0.7"
    )
    bob = world.phone("baresip", "bobby", tone=1010)
    bob.dial(SEATS["alice"][0])
    hidden.wait_incoming()
    hidden.answer()
    bob.wait_established()
    hidden.wait_established()
    tones.talk(2)
    bob.hangup()
    hidden.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(hidden.recording, 1010)
    tones.assert_heard(bob.recording, 440)


def test_number_forwarded_to_the_outside(world: World) -> None:
    """A number may be forwarded: one carrier's call goes out again over another, with the diverting number."""
    target = world.carrier_answers("uas_answer")
    caller = world.network_calls("uac_basic", FORWARDED, talk_ms=500)
    caller.wait()
    seen = target.wait()
    assert seen.one("INVITE").request_uri.startswith(f"sip:{SOMEBODY}@")
    assert FORWARDED in seen.one("INVITE").header("Diversion")


def test_two_calls_do_not_mix(world: World) -> None:
    """Two calls at the same time each keep their own audio."""
    alice = world.phone("baresip", "alice", tone=440)
    bob = world.phone("pjsua2", "bobby", tone=1010)
    carol = world.phone("linphone", "carol", tone=1750)
    dave = world.phone("pjsua2", "david", tone=2550)
    alice.dial(SEATS["bobby"][0])
    carol.dial(SEATS["david"][0])
    for phone in (bob, dave):
        phone.wait_incoming()
        phone.answer()
    for phone in (alice, bob, carol, dave):
        phone.wait_established()
    assert len(world.edge.rows("calls")) == 2
    tones.talk(2)
    bob.hangup()
    dave.hangup()
    alice.wait_closed()
    carol.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(alice.recording, 1010)
    tones.assert_heard(bob.recording, 440)
    tones.assert_heard(carol.recording, 2550)
    tones.assert_heard(dave.recording, 1750)


def test_refusals_of_phones(world: World) -> None:
    """A phone that declines ends the caller's attempt; a seat without a phone is unavailable."""
    alice = world.phone("pjsua2", "alice")
    bob = world.peers.pjsua(world.account("bobby"), tone=1010)
    bob.wait_registered()
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    bob.hangup(486)
    assert alice.wait_closed().startswith("486")
    mark = alice.mark
    alice.dial(SEATS["erika"][0])
    assert alice.wait_closed(after=mark).startswith("480")
    mark = alice.mark
    alice.dial("299")
    assert alice.wait_closed(after=mark)[:3] in ("404", "484")
