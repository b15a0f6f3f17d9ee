"""SRTP and codecs as they are provisioned, bridged by rtpengine: phones and carriers that must have encryption, may
have it, or have none, with sound measured in both directions; and what happens when an rtpengine dies.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from peers import tones
from peers.certificates import Certificate
from peers.phone import Account, Phone
from peers.process import poll
from peers.secure_world import SecureWorld, standing
from peers.world import NETWORK_ADDRESS, SEATS, SOMEBODY

pytestmark = pytest.mark.phones

MANDATORY = {"pjsua2": {"srtp": "required"}, "baresip": {"media_encryption": "srtp-mand"}}
OPTIONAL = {"pjsua2": {"srtp": "optional"}, "baresip": {"media_encryption": "srtp"}}


@pytest.fixture(scope="module")
def standing_world(request: pytest.FixtureRequest, certificate: Certificate) -> Iterator[SecureWorld]:
    """An edge with two rtpengines."""
    yield from standing(request, certificate, 2)


def logged(world: SecureWorld, event: str, key: str, after: int) -> object:
    """What the only log line of an event, which may still be on its way to us, says under a key."""
    poll(lambda: bool(world.edge.events(event, after)), f"{event} is logged")
    (line,) = world.edge.events(event, after)
    return line[key]


def refusal(world: SecureWorld, after: int) -> object:
    return logged(world, "call.refused", "reason", after)


def assert_hear_each_other(world: SecureWorld, one: Phone, other: Phone) -> None:
    """Both are in a call: let them talk, end it, and measure what each heard."""
    tones.talk()
    one.hangup()
    other.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(one.recording, other.tone)
    tones.assert_heard(other.recording, one.tone)


@pytest.mark.parametrize("kind", MANDATORY)
def test_phone_with_srtp_calls_a_plain_carrier(world: SecureWorld, kind: str) -> None:
    """RTP/SAVP on the phone's side, RTP/AVP without a key on the carrier's; the carrier's echo is heard."""
    carrier = world.carrier_answers("uas_answer")
    phone = world.phone(kind, "alice", "tls", tone=440, **MANDATORY[kind])
    phone.dial(SOMEBODY)
    phone.wait_established()
    tones.talk()
    phone.hangup()
    offered = carrier.wait().one("INVITE").body
    world.peers.stop_phones()
    assert "RTP/AVP" in offered and "crypto" not in offered and "SAVP" not in offered
    tones.assert_heard(phone.recording, 440)


@pytest.mark.parametrize("kind", MANDATORY)
def test_plain_carrier_calls_a_phone_with_srtp(world: SecureWorld, kind: str) -> None:
    """The phone would refuse anything but RTP/SAVP with a key."""
    phone = world.phone(kind, "alice", "tls", tone=570, **MANDATORY[kind])
    carrier = world.carrier_calls("uac_until_bye", SEATS["alice"][1])
    phone.wait_incoming()
    phone.answer()
    phone.wait_established()
    tones.talk()
    phone.hangup()
    answered = carrier.wait()
    world.peers.stop_phones()
    assert "crypto" not in answered.received_text() and "SAVP" not in answered.received_text()
    tones.assert_heard(phone.recording, 570)


@pytest.mark.parametrize(
    ("kind", "options", "encrypted"),
    [("pjsua2", OPTIONAL["pjsua2"], True), ("baresip", OPTIONAL["baresip"], True), ("pjsua2", {}, False)],
    ids=["pjsua2-with", "baresip-with", "pjsua2-without"],
)
def test_optional_is_what_the_phone_makes_of_it(
    world: SecureWorld, kind: str, options: dict[str, object], encrypted: bool
) -> None:
    """RFC 8643: offered keys in RTP/AVP, a phone that has SRTP takes them, another leaves them; both are heard."""
    phone = world.phone(kind, "carol", "tls", tone=440, **options)
    other = world.phone("pjsua2", "bobby", tone=1010)
    mark = world.edge.mark
    other.dial(SEATS["carol"][0])
    phone.wait_incoming()
    phone.answer()
    other.wait_established()
    call = str(logged(world, "call.answered", "call", mark))
    told = world.edge.command("trace", call).stdout
    assert told.count("a=crypto:") == (3 if encrypted else 2), told
    assert_hear_each_other(world, other, phone)


def test_optional_phone_calls_with_keys(world: SecureWorld) -> None:
    """What a phone offers to take or to leave is taken."""
    phone = world.phone("baresip", "carol", "tls", tone=440, **OPTIONAL["baresip"])
    other = world.phone("baresip", "bobby", tone=1010)
    mark = world.edge.mark
    phone.dial(SEATS["bobby"][0])
    other.wait_incoming()
    other.answer()
    phone.wait_established()
    call = str(logged(world, "call.answered", "call", mark))
    told = world.edge.command("trace", call).stdout
    assert told.rpartition("SIP/2.0 200 OK")[2].count("a=crypto:") == 1, told
    assert_hear_each_other(world, phone, other)


def test_required_over_udp_is_refused(world: SecureWorld) -> None:
    """Domain rule 7-7: a key only inside TLS, and no silent fall back."""
    phone = world.phone("pjsua2", "alice", "udp", srtp="required")
    mark = world.edge.mark
    phone.dial(SEATS["bobby"][0])
    assert "488" in phone.wait_closed()
    assert refusal(world, mark) == "srtp-required"
    other = world.phone("pjsua2", "bobby")
    mark = world.edge.mark
    other.dial(SEATS["alice"][0])
    assert "488" in other.wait_closed()
    assert refusal(world, mark) == "srtp-required"


def test_required_and_off_are_meant(world: SecureWorld) -> None:
    """A phone without SRTP on a seat that requires it, and one that insists on it on a seat that has none."""
    plain = world.phone("pjsua2", "alice", "tls")
    mark = world.edge.mark
    plain.dial(SEATS["bobby"][0])
    assert "488" in plain.wait_closed()
    assert refusal(world, mark) == "srtp-required"
    insists = world.phone("pjsua2", "bobby", "tls", srtp="required")
    mark = world.edge.mark
    insists.dial(SEATS["carol"][0])
    assert "488" in insists.wait_closed()
    assert refusal(world, mark) == "srtp-not-possible"


def test_plain_phone_calls_over_a_carrier_that_requires_srtp(world: SecureWorld) -> None:
    """Over TLS; somebody at the carrier's end takes RTP/SAVP only."""
    phone = world.phone("baresip", "erika", "udp", tone=440)
    far = Account("far", "x", f"{NETWORK_ADDRESS}:{world.network_port}")
    network = world.peers.pjsua(
        far, tone=1010, register=False, address=NETWORK_ADDRESS, sip_port=world.network_port, srtp="required"
    )
    phone.dial(SOMEBODY)
    network.wait_incoming()
    network.answer()
    phone.wait_established()
    invite = network.trace.requests("INVITE", "in")[0].body
    assert "RTP/SAVP" in invite and invite.count("a=crypto:") == 2
    assert_hear_each_other(world, phone, network)


def test_a_carrier_that_requires_srtp_calls_a_plain_phone(world: SecureWorld) -> None:
    """And without RTP/SAVP its call is refused."""
    phone = world.phone("baresip", "erika", "udp", tone=440)
    far = Account("far", "x", world.kamailio.server(), domain=world.kamailio.domain)
    network = world.peers.pjsua(far, tone=1010, register=False, address=NETWORK_ADDRESS, srtp="required")
    network.dial(SEATS["erika"][1])
    phone.wait_incoming()
    phone.answer()
    network.wait_established()
    assert_hear_each_other(world, network, phone)
    mark = world.edge.mark
    refused = world.network_calls("uac_refused", SEATS["erika"][1], status=488)
    refused.wait()
    assert refusal(world, mark) == "srtp-required"


def test_hold_and_resume_with_srtp_on_one_side(world: SecureWorld) -> None:
    """Domain rule 7-7: hold, resume and what new keys come with them, from either side."""
    phone = world.phone("pjsua2", "alice", "tls", tone=440, **MANDATORY["pjsua2"])
    other = world.phone("pjsua2", "bobby", tone=1010)
    phone.dial(SEATS["bobby"][0])
    other.wait_incoming()
    other.answer()
    phone.wait_established()
    phone.hold()
    phone.resume()
    other.hold()
    other.resume()
    tones.talk(2.0)
    other.hangup()
    phone.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(other.recording, 440, 1.5)
    tones.assert_heard(phone.recording, 1010, 1.5)


def test_codecs_are_transcoded_where_there_is_none_in_common(world: SecureWorld) -> None:
    """G.722 alone against a carrier of G.711, and against a phone of G.711; the tones come through."""
    carrier = world.carrier_answers("uas_answer")
    wide = world.phone("pjsua2", "bobby", tone=440, codecs=["G722/16000"])
    wide.dial("030123456")
    wide.wait_established()
    tones.talk()
    wide.hangup()
    offer = carrier.wait().one("INVITE").body
    assert "m=audio" in offer and "G722" not in offer and "PCMA" in offer
    other = world.phone("baresip", "carol", tone=1010)
    wide.dial(SEATS["carol"][0])
    other.wait_incoming()
    other.answer()
    other.wait_established()
    assert_hear_each_other(world, wide, other)
    tones.assert_heard(wide.recordings[0], 440)


def test_nothing_is_transcoded_where_there_is_one_in_common(world: SecureWorld) -> None:
    """The offer that leaves names the caller's codecs and no others."""
    carrier = world.carrier_answers("uas_answer")
    phone = world.phone("pjsua2", "bobby", codecs=["G722/16000", "PCMU/8000"])
    phone.dial("030123456")
    phone.wait_established()
    phone.hangup()
    offer = carrier.wait().one("INVITE").body
    assert "PCMU" in offer and "PCMA" not in offer and "G722" not in offer


def test_an_rtpengine_dies_under_calls(world: SecureWorld) -> None:
    """kill -9: its calls end and say why, the others and new ones go on; a restart takes part again."""
    edge = world.edge
    world.allowed = r"relay\.(unreachable|lost)"
    alice = world.phone("pjsua2", "alice", "tls", tone=440, srtp="required")
    bob = world.phone("baresip", "bobby", tone=1010)
    mark, before = edge.mark, [engine.calls for engine in world.engines]
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    bob.answer()
    alice.wait_established()
    victim = next(e for e, calls in zip(world.engines, before, strict=True) if e.calls > calls)
    up = f'sip_edge_relay_instance_up{{relay="{victim.address}"}}'
    marks = alice.mark, bob.mark
    victim.kill()
    alice.wait_closed(after=marks[0])
    bob.wait_closed(after=marks[1])
    assert logged(world, "relay.lost", "sessions", mark) == 1
    assert (edge.metrics()[up], edge.metric("sip_edge_relay_up")) == (0, 1)
    marks = alice.mark, bob.mark
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming(after=marks[1])
    bob.answer()
    alice.wait_established(after=marks[0])
    victim.start()
    poll(lambda: edge.metrics()[up] == 1, "the edge uses it again")
    assert_hear_each_other(world, alice, bob)


def test_the_edge_dies_under_a_call(world: SecureWorld) -> None:
    """kill -9 of the edge: rtpengine goes on, and hold and resume cross afterwards with the keys that were. The phone
    over TLS comes first, for its connection is gone, and only it can make a new one."""
    alice = world.phone("pjsua2", "alice", "tls", tone=440, srtp="required")
    bob = world.phone("pjsua2", "bobby", tone=1010)
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    bob.answer()
    alice.wait_established()
    tones.talk(0.2)
    world.edge.kill()
    tones.talk(0.5)
    world.edge.start()
    alice.hold()
    alice.resume()
    bob.hold()
    bob.resume()
    assert_hear_each_other(world, bob, alice)


@pytest.mark.parametrize("options", [{"srtp": "optional"}, {}], ids=["with", "without"])
def test_a_plain_phone_transfers_an_encrypted_call(world: SecureWorld, options: dict[str, str]) -> None:
    """The party that remains keeps its keys, the target has what it takes."""
    alice = world.phone("pjsua2", "alice", "tls", tone=440, srtp="required")
    bob = world.phone("pjsua2", "bobby", tone=1010)
    carol = world.phone("pjsua2", "carol", "tls", tone=740, **options)
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    bob.answer()
    alice.wait_established()
    bob.transfer(SEATS["carol"][0])
    carol.wait_incoming()
    carol.answer()
    bob.wait_closed()
    carol.wait_established()
    tones.talk(2.0)
    alice.hangup()
    carol.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(carol.recording, 440)
    tones.assert_heard(alice.recording, 740, only=False)


def test_a_transfer_that_fails_leaves_the_call_as_it_was(world: SecureWorld) -> None:
    """The relay was told of a target that might take keys: the plain phone hears plain sound again."""
    alice = world.phone("pjsua2", "alice", "tls", tone=440, srtp="required")
    bob = world.phone("pjsua2", "bobby", tone=1010)
    alice.dial(SEATS["bobby"][0])
    bob.wait_incoming()
    bob.answer()
    alice.wait_established()
    mark = world.edge.mark
    bob.transfer(SEATS["david"][0])
    assert logged(world, "transfer.failed", "status", mark) == 480
    tones.talk(2.0)
    bob.hangup()
    alice.wait_closed()
    world.peers.stop_phones()
    tones.assert_heard(alice.recording, 1010, 2.0)
    tones.assert_heard(bob.recording, 440, 2.0)
