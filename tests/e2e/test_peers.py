"""The peers themselves, without the edge: when these pass, a failing call through the edge is the edge's.

Phones register with Kamailio (digest) and call each other through it; SIPp calls SIPp.
"""

from __future__ import annotations

import itertools

import pytest
from peers import tones
from peers.certificates import Certificate
from peers.fixtures import KINDS, Peers
from peers.phone import Account

pytestmark = pytest.mark.phones

PASSWORDS = {"alice": "wonder-land", "bob": "builder-7"}
TRANSPORTS = ("udp", "tcp", "tls")


@pytest.mark.parametrize(
    ("caller", "callee", "transport"),
    [(caller, callee, TRANSPORTS[index % 3]) for index, (caller, callee) in enumerate(itertools.product(KINDS, KINDS))],
)
def test_phones_hear_each_other_through_kamailio(
    peers: Peers, certificate: Certificate, caller: str, callee: str, transport: str
) -> None:
    """Every kind of phone registers with digest, calls every kind, and each hears the other's tone and no other."""
    kamailio = peers.kamailio(PASSWORDS, certificate=certificate)
    server = kamailio.server(transport)
    alice = peers.phone(caller, Account("alice", PASSWORDS["alice"], server, transport, kamailio.domain), tone=440)
    bob = peers.phone(callee, Account("bob", PASSWORDS["bob"], server, transport, kamailio.domain), tone=1010)
    alice.wait_registered()
    bob.wait_registered()
    assert len(kamailio.registered("alice")) == 1

    alice.dial("bob")
    assert "alice@" in bob.wait_incoming()
    alice.wait_ringing()
    bob.answer()
    alice.wait_established()
    bob.wait_established()
    tones.talk()
    bob.hangup()
    alice.wait_closed()
    peers.stop_phones()

    tones.assert_heard(alice.recording, 1010)
    tones.assert_heard(bob.recording, 440)
    assert kamailio.registered("alice") == []


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", KINDS)
def test_phone_registers_over(peers: Peers, certificate: Certificate, kind: str, transport: str) -> None:
    """Every kind of phone registers with digest over every transport, and removes its binding when it ends."""
    kamailio = peers.kamailio(PASSWORDS, certificate=certificate)
    phone = peers.phone(
        kind, Account("alice", PASSWORDS["alice"], kamailio.server(transport), transport, kamailio.domain)
    )
    phone.wait_registered()
    assert len(kamailio.registered("alice")) == 1
    peers.stop_phones()
    assert kamailio.registered("alice") == []


@pytest.mark.parametrize("kind", KINDS)
def test_digits_and_hold(peers: Peers, kind: str) -> None:
    """Every kind of phone sends and hears RFC 4733 digits, and holds and resumes with a re-INVITE."""
    kamailio = peers.kamailio(PASSWORDS)
    phone = peers.phone(kind, Account("alice", PASSWORDS["alice"], kamailio.server(), domain=kamailio.domain))
    other = peers.pjsua(Account("bob", PASSWORDS["bob"], kamailio.server(), domain=kamailio.domain), tone=1010)
    phone.wait_registered()
    other.wait_registered()
    phone.dial("bob")
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

    mark = other.mark
    phone.send_dtmf("19*#")
    other.wait_dtmf("19*#", after=mark)
    mark = phone.mark
    other.send_dtmf("28#")
    phone.wait_dtmf("28#", after=mark)
    phone.hangup()
    other.wait_closed()
    peers.stop_phones()
    # More than was heard before the hold alone. Digits prove the other direction: baresip records nothing after it.
    tones.assert_heard(other.recording, 440, at_least=2, only=False)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_sipp_calls_sipp(peers: Peers, transport: str) -> None:
    """The basic SIPp scenarios work with each other, and their traces are read."""
    callee = peers.sipp("uas_answer", transport=transport)
    caller = peers.sipp("uac_basic", remote=callee.uri_host, transport=transport, called="+4922838600", talk_ms=100)
    seen = caller.wait()
    callee.wait()
    assert [str(message) for message in seen] == [
        f"-> INVITE sip:+4922838600@{callee.uri_host} SIP/2.0",
        "<- SIP/2.0 180 Ringing",
        "<- SIP/2.0 200 OK",
        f"-> ACK sip:sipp@{callee.uri_host};transport={transport.upper()} SIP/2.0",
        f"-> BYE sip:sipp@{callee.uri_host};transport={transport.upper()} SIP/2.0",
        "<- SIP/2.0 200 OK",
    ]
    assert seen.one("INVITE").header("From").startswith('"SIPp" <sip:sipp@127.0.0.1')
    assert "m=audio" in seen.one("INVITE").body


PAIRS = [
    ("uac_until_bye", "uas_bye", {}),
    ("uac_refused", "uas_reject", {"status": 486}),
    ("uac_refused", "uas_ring_and_reject", {"status": 603}),
    ("uac_cancel_after_180", "uas_ringing_forever", {}),
    ("uac_basic", "uas_183_early_media", {"early_ms": 100}),
    ("uac_late_offer", "uas_late_offer", {}),
    ("uac_reinvite_hold", "uas_hold", {"talk_ms": 100, "hold_ms": 100}),
    ("uac_answers_reinvite", "uas_reinvite", {"talk_ms": 100}),
    ("uac_until_bye", "uas_bye", {"headers": ["P-Asserted-Identity: <sip:+49228@x>", "Privacy: id"]}),
]


@pytest.mark.parametrize(("caller", "callee", "values"), PAIRS)
def test_sipp_scenarios_fit(peers: Peers, caller: str, callee: str, values: dict[str, object]) -> None:
    """Scenarios of both sides that belong together are right by themselves."""
    answering = peers.sipp(callee, **values)
    calling = peers.sipp(caller, remote=answering.uri_host, called="100", **values)
    calling.wait()
    seen = answering.wait()
    for line in values.get("headers", []):  # type: ignore[attr-defined]
        name, _, value = line.partition(": ")
        assert seen.one("INVITE").header(name) == value


def test_sipp_registers_and_calls_as_a_phone(peers: Peers) -> None:
    """SIPp registers with digest at Kamailio, is called there, and calls with digest."""
    kamailio = peers.kamailio(PASSWORDS, callees={"+4930123": "sip:127.0.0.1:9"})
    domain = kamailio.domain
    phone = peers.sipp(
        "register", remote=kamailio.server(), username="alice", password=PASSWORDS["alice"], domain=domain
    )
    phone.wait()
    assert kamailio.registered("alice") == [f"sip:sipp@{phone.uri_host};transport=UDP"]

    callee = peers.sipp("uas_answer", port=phone.port)
    caller = peers.sipp(
        "uac_phone", remote=kamailio.server(), called="alice", host=domain, caller="bob", from_host=domain,
        username="bob", password=PASSWORDS["bob"],
    )  # fmt: skip
    caller.wait()
    callee.wait()


def test_wrong_password_is_seen(peers: Peers) -> None:
    """A phone with a wrong password says so, so that tests of refusals can be written."""
    kamailio = peers.kamailio(PASSWORDS)
    phone = peers.pjsua(Account("alice", "wrong", kamailio.server(), domain=kamailio.domain))
    assert phone.wait_register_answer() in (401, 403)


def test_wrong_media_address_is_said(peers: Peers) -> None:
    """The phone behind NAT that tests need: its SDP names an address that is not its own."""
    callee = peers.sipp("uas_answer")
    phone = peers.pjsua(Account("alice", "x", callee.uri_host), register=False, media_address="203.0.113.9")
    phone.dial(f"sip:100@{callee.uri_host}")
    offer = callee.wait_for(method="INVITE")
    assert "c=IN IP4 203.0.113.9" in offer.body
    phone.wait_established()
    phone.hangup()
    phone.wait_closed()
