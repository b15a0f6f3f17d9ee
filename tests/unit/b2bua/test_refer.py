"""REFER, Replaces and forwards at the SIP level (RFC 3515, RFC 3891, RFC 4488; RFC 3261 section 21.3)."""

from __future__ import annotations

import pytest

from edge.b2bua import events as ev
from edge.b2bua.events import CallEvent
from edge.b2bua.refer import Replaces, read_refer
from edge.b2bua.uac_leg import UacLeg
from edge.b2bua.uas_leg import UasLeg
from edge.sip.errors import RemoteProtocolError
from edge.sip.headers import Headers
from edge.sip.message import Request
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId
from tests.unit.b2bua.fake_port import FLOW, SDP_A, SDP_B, FakePort, reply, request
from tests.unit.b2bua.test_legs import IN_DIALOG, INVITE

TX = TransactionId("server")


class Customer:
    """A call of a seat that is up."""

    def __init__(self, customer: bool = True) -> None:
        self.port = FakePort()
        self.events: list[CallEvent] = []
        invite = request(INVITE.format(extra="X: y"), SDP_A)
        self.leg = UasLeg(
            "a", self.port, FLOW, lambda _, e: self.heard(e), TimerConfig(), invite, TX, customer=customer
        )
        self.leg.accept(SDP_B)
        self.leg.on_ack(request(IN_DIALOG.format(method="ACK", cseq=10)))

    def heard(self, event: CallEvent) -> None:
        if event is not ev.NOTED:
            self.events.append(event)

    def refer(self, *headers: str, cseq: int = 11) -> None:
        text = IN_DIALOG.format(method="REFER", cseq=cseq) + "\n".join(headers)
        self.leg.on_request(TransactionId(f"s{cseq}"), request(text), FLOW)

    @property
    def status(self) -> int:
        return self.port.responses[-1][1].status


def test_refer_is_for_the_call_to_answer() -> None:
    """The leg reads Refer-To and waits; 202 with Contact when the call takes it (RFC 3515 section 2.4.2)."""
    customer = Customer()
    customer.refer("Refer-To: <sip:202@edge.example;user=phone>")
    event = customer.events[-1]
    assert isinstance(event, ev.Referred) and (event.to.user, event.to.is_phone) == ("202", True)
    assert customer.status == 200
    assert customer.leg.accept_refer() is not None
    response = customer.port.responses[-1][1]
    assert response.status == 202 and "contact" in response.headers


def test_carriers_may_not_refer() -> None:
    """403, and REFER and Replaces are offered to customers alone."""
    carrier = Customer(customer=False)
    carrier.refer("Refer-To: <sip:+4930123@edge.example>")
    assert carrier.status == 403 and carrier.events == []
    answered = carrier.port.responses[0][1].headers
    assert "REFER" not in (answered.get("allow") or "") and "replaces" not in (answered.get("supported") or "")
    offered = Customer().port.responses[0][1].headers
    assert "REFER" in (offered.get("allow") or "") and "replaces" in (offered.get("supported") or "")


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Refer-To: <sip:202@x>", "Refer-To: <sip:203@x>"),
        ("Refer-To: <http://x/y>",),
        ("Refer-To: <sip:202@x;method=BYE>",),
        ("Refer-To: sip:202@x?Replaces=a",),
        ("Refer-To: <sip:202@x?Replaces=a%3Bto-tag%3D1>",),
    ],
)
def test_broken_refer(headers: tuple[str, ...]) -> None:
    """400: one Refer-To that names a call, and a whole Replaces."""
    customer = Customer()
    customer.refer(*headers)
    assert customer.status == 400 and customer.events == []


def test_unknown_requirement() -> None:
    """420 with what is not understood (RFC 3261 section 8.2.2.3); norefersub is."""
    customer = Customer()
    customer.refer("Refer-To: <sip:202@x>", "Require: multiple-refer")
    assert customer.status == 420
    customer.refer("Refer-To: <sip:202@x>", "Require: norefersub", cseq=12)
    assert isinstance(customer.events[-1], ev.Referred)


def test_replaces_of_a_refer() -> None:
    """RFC 3891: escaped in the URI of Refer-To; what is called is the URI without it."""
    message = request(
        IN_DIALOG.format(method="REFER", cseq=11)
        + "Refer-To: <sip:203@x?Replaces=abc%40h%3Bto-tag%3DT1%3Bfrom-tag%3DF1%3Bearly-only&Require=replaces>"
    )
    to = read_refer(message)
    assert to.replaces == Replaces("abc@h", "T1", "F1", True)
    assert str(to.uri) == "sip:203@x"


def test_replaces_needs_both_tags() -> None:
    """RFC 3891 section 3."""
    with pytest.raises(RemoteProtocolError):
        Replaces.parse("abc;to-tag=1")


def notified(port: FakePort) -> list[tuple[str, str, bytes]]:
    return [
        (m.headers.get("event") or "", m.headers.get("subscription-state") or "", m.body)
        for _, m, _ in port.requests
        if m.method == "NOTIFY"
    ]


def test_how_it_goes_is_told() -> None:
    """RFC 3515 section 2.4.4: NOTIFY with a fragment for each step, the last one ends the subscription."""
    customer = Customer()
    customer.refer("Refer-To: <sip:202@x>")
    subscription = customer.leg.accept_refer()
    assert subscription is not None
    for status in (100, 180, 200, 486):
        subscription.notify(status)
    told = notified(customer.port)
    assert [body for _, _, body in told] == [
        b"SIP/2.0 100 Trying\r\n",
        b"SIP/2.0 180 Ringing\r\n",
        b"SIP/2.0 200 OK\r\n",
    ]
    assert [state.partition(";")[0] for _, state, _ in told] == ["active", "active", "terminated"]
    assert {event for event, _, _ in told} == {"refer"}
    assert customer.port.last()[1].headers.get("content-type") == "message/sipfrag;version=2.0"


def test_second_refer_of_a_dialog_is_told_apart() -> None:
    """RFC 3515 section 2.4.6: the CSeq of the REFER as id."""
    customer = Customer()
    for cseq in (11, 12):
        customer.refer("Refer-To: <sip:202@x>", cseq=cseq)
        subscription = customer.leg.accept_refer()
        assert subscription is not None
        subscription.notify(486)
    assert [event for event, _, _ in notified(customer.port)] == ["refer", "refer;id=12"]


def test_who_hung_up_is_still_told() -> None:
    """RFC 5589 section 6.1: BYE right after REFER ends the call, not the subscription."""
    customer = Customer()
    customer.refer("Refer-To: <sip:202@x>")
    subscription = customer.leg.accept_refer()
    assert subscription is not None
    customer.leg.on_request(TX, request(IN_DIALOG.format(method="BYE", cseq=12)), FLOW)
    subscription.notify(200)
    assert len(notified(customer.port)) == 1


def test_who_does_not_want_to_know_is_not_told() -> None:
    """RFC 4488: Refer-Sub: false is agreed to, and there is no NOTIFY."""
    customer = Customer()
    customer.refer("Refer-To: <sip:202@x>", "Refer-Sub: false")
    subscription = customer.leg.accept_refer()
    assert subscription is not None
    subscription.notify(200)
    assert notified(customer.port) == []
    assert customer.port.responses[-1][1].headers.get("refer-sub") == "false"


def test_a_peer_without_a_subscription_is_left_alone() -> None:
    """RFC 6665: 481 to NOTIFY ends the subscription."""
    customer = Customer()
    customer.refer("Refer-To: <sip:202@x>")
    subscription = customer.leg.accept_refer()
    assert subscription is not None
    subscription.notify(100)
    tx, sent, handler = customer.port.last()
    handler.on_response(tx, reply(sent, 481))
    subscription.notify(200)
    assert len(notified(customer.port)) == 1


def test_a_call_that_ends_refuses_the_waiting_refer() -> None:
    """No request stays without an answer."""
    customer = Customer()
    customer.refer("Refer-To: <sip:202@x>")
    customer.leg.release(16)
    assert customer.status == 487


def test_what_the_peer_has_already_is_not_sent_again() -> None:
    """A re-INVITE that would say nothing new is answered from what the peer last said."""
    customer = Customer()
    customer.leg.modify(SDP_B, update=False)
    assert customer.events == [ev.ModifyAnswered("a", SDP_A)]
    assert customer.port.methods() == []


def test_a_refused_description_is_not_what_the_peer_has() -> None:
    """After 488 the same offer is made again when it is asked for again."""
    customer = Customer()
    for n in (1, 2):
        customer.leg.modify(SDP_A, update=False)
        tx, sent, handler = customer.port.last()
        handler.on_response(tx, reply(sent, 488))
        assert customer.port.methods() == ["INVITE"] * n


class Phone:
    """An INVITE of ours to a seat's phone."""

    def __init__(self, customer: bool = True) -> None:
        self.port = FakePort()
        self.events: list[CallEvent] = []
        fields = [("Max-Forwards", "69"), ("From", "<sip:a@edge.example>"), ("To", "<sip:b@edge.example>")]
        self.leg = UacLeg(
            "b1",
            self.port,
            FLOW,
            lambda _, e: self.events.append(e),
            TimerConfig(),
            Request("INVITE", "sip:b@192.0.2.8", Headers(fields)),
            "edge",
            customer=customer,
        )
        self.leg.call(SDP_A, None)

    def hear(self, status: int, **headers: str) -> None:
        tx, sent, handler = self.port.requests[0]
        handler.on_response(tx, reply(sent, status, **headers))


@pytest.mark.parametrize("status", [300, 301, 302, 305, 380])
def test_forward_of_a_phone(status: int) -> None:
    """RFC 3261 section 21.3: the Contact with the highest q."""
    phone = Phone()
    phone.hear(status, Contact="<sip:204@x>;q=0.3, <sip:%2B4930123;x=1@y;user=phone>;q=0.9")
    assert phone.events == [ev.Moved("b1", status, "+4930123", True)]


@pytest.mark.parametrize("contact", ["", "<sip:broken"])
def test_forward_to_nowhere(contact: str) -> None:
    """3xx without a Contact that can be read is a failure."""
    phone = Phone()
    phone.hear(302, **({"Contact": contact} if contact else {}))
    assert phone.events == [ev.Rejected("b1", 302)]


def test_carriers_redirect_nobody() -> None:
    """A carrier's 3xx is a failure, whatever it names."""
    phone = Phone(customer=False)
    phone.hear(302, Contact="<sip:+4990012345@x>")
    assert phone.events == [ev.Rejected("b1", 302)]
