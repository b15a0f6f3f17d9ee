"""The two legs at the SIP level, against a port on a virtual clock (RFC 3261 sections 9, 12 to 15; RFC 4028)."""

from __future__ import annotations

from edge.b2bua import actions as do
from edge.b2bua import events as ev
from edge.b2bua.call import Call, CallTimers
from edge.b2bua.events import CallEvent
from edge.b2bua.leg import Authorize
from edge.b2bua.port import NextHosts
from edge.b2bua.uac_leg import ANSWERED_ELSEWHERE, UacLeg
from edge.b2bua.uas_leg import UasLeg
from edge.sip.headers import Headers
from edge.sip.message import Request, Response
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId
from tests.unit.b2bua.fake_port import FLOW, SDP_A, SDP_B, FakePort, reply, request

INVITE = """
INVITE sip:+4930123@edge.example SIP/2.0
Via: SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bKa
From: "A" <sip:+49301@carrier.example>;tag=fa
To: <sip:+4930123@edge.example>
Call-ID: ca
CSeq: 10 INVITE
Contact: <sip:c@192.0.2.7:5070>
Allow: INVITE, ACK, BYE, UPDATE
Max-Forwards: 70
{extra}
"""
IN_DIALOG = """
{method} sip:+4930123@127.0.0.1:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bK{cseq}
From: "A" <sip:+49301@carrier.example>;tag=fa
To: <sip:+4930123@edge.example>;tag=id1
Call-ID: ca
CSeq: {cseq} {method}
Contact: <sip:c@192.0.2.7:5071>
Max-Forwards: 70
"""
TX = TransactionId("server")


class A:
    """An A-leg and all that it says."""

    def __init__(self, extra: str = "Supported: x", sdp: bytes = SDP_A) -> None:
        self.port = FakePort()
        self.events: list[CallEvent] = []
        invite = request(INVITE.format(extra=extra), sdp)
        self.leg = UasLeg(
            "a",
            self.port,
            FLOW,
            lambda _, e: self.events.append(e) if e is not ev.NOTED else None,
            TimerConfig(),
            invite,
            TX,
        )

    def up(self) -> None:
        self.leg.accept(SDP_B)
        self.leg.on_ack(request(IN_DIALOG.format(method="ACK", cseq=10)))
        self.port.responses.clear()

    def receive(self, method: str, cseq: int, body: bytes = b"") -> TransactionId:
        tx = TransactionId(f"s{cseq}")
        self.leg.on_request(tx, request(IN_DIALOG.format(method=method, cseq=cseq), body), FLOW)
        return tx


class B:
    """A B-leg and all that it says."""

    def __init__(self, authorize: Authorize | None = None, hosts: NextHosts | None = None) -> None:
        self.port = FakePort()
        self.events: list[CallEvent] = []
        invite = Request(
            "INVITE",
            "sip:bob@192.0.2.8",
            Headers([("Max-Forwards", "69"), ("From", "<sip:+49301@edge.example>"), ("To", "<sip:bob@edge.example>")]),
        )
        self.leg = UacLeg(
            "b1",
            self.port,
            FLOW,
            lambda _, e: self.events.append(e) if e is not ev.NOTED else None,
            TimerConfig(),
            invite,
            "edge",
            authorize,
        )
        self.leg.hosts = hosts
        self.leg.call(SDP_A, 1800)

    def hear(self, status: int, tag: str | None = "far", body: bytes = b"", tx: int = 0, **headers: str) -> None:
        sent = self.port.requests[tx]
        sent[2].on_response(sent[0], reply(sent[1], status, tag, body, **headers))


def test_2xx_is_resent_until_its_ack() -> None:
    """RFC 3261 13.3.1.4: at T1, doubling to T2, until the ACK."""
    a = A()
    a.leg.accept(SDP_B)
    a.port.advance(5.0)
    assert a.port.statuses() == [200] * 4  # at 0, 0.5, 1.5, 3.5
    a.leg.on_ack(request(IN_DIALOG.format(method="ACK", cseq=10)))
    a.port.advance(60)
    assert a.port.statuses() == [200] * 4
    assert a.events == []


def test_without_ack_the_call_is_ended() -> None:
    """RFC 3261 13.3.1.4: no ACK in 64*T1 ends the dialog with BYE."""
    a = A()
    a.leg.accept(SDP_B)
    a.port.advance(33)
    assert a.port.methods() == ["BYE"]
    assert a.events == [ev.Released("a", 102, "the ACK never came")]


def test_cancel_that_says_answered_elsewhere() -> None:
    """RFC 3326: a caller's network that forked tells it, and our phones must not list a missed call either."""
    for reason, elsewhere in (('SIP;cause=200;text="Call completed elsewhere"', True), ("SIP;cause=2000", False)):
        a = A()
        a.leg.on_cancel(request(INVITE.format(extra=f"Reason: {reason}").replace("INVITE", "CANCEL")))
        assert a.events == [ev.Cancelled(None, elsewhere)]
        call = Call(SDP_A, 1, CallTimers())
        for event in (ev.Relayed("offer", "a", SDP_A), ev.TargetStarted(1, ("b1",), frozenset())):
            call.on_event(event, 0.0)
        assert do.Cancel("b1", elsewhere) in call.on_event(a.events[0], 1.0)


def test_cancel_is_heard_only_before_the_answer() -> None:
    """RFC 3261 9.2: a CANCEL after the final response has no effect."""
    a = A()
    cancel = request(INVITE.format(extra="Reason: Q.850;cause=16").replace("INVITE", "CANCEL"))
    a.leg.on_cancel(cancel)
    assert a.events == [ev.Cancelled(16)]
    a.leg.reject(487)
    a.leg.on_cancel(cancel)
    assert len(a.events) == 1 and a.port.statuses() == [487]


def test_session_refresh_is_answered_on_the_leg_itself() -> None:
    """RFC 4028 7.4: a re-INVITE whose o= line is unchanged only refreshes; nobody else hears of it (T4.3)."""
    a = A()
    a.up()
    a.receive("INVITE", 11, SDP_A)
    assert a.events == []
    response = a.port.responses[-1][1]
    assert response.status == 200 and response.body == SDP_B


def test_reinvite_with_a_new_description_goes_to_the_call() -> None:
    """RFC 3261 14.2: a changed session is for the call to decide; the new Contact is the next target."""
    a = A()
    a.up()
    hold = SDP_A.replace(b"o=a 1 1", b"o=a 1 2") + b"a=sendonly\r\n"
    tx = a.receive("INVITE", 11, hold)
    assert a.events == [ev.ModifyOffered("a", hold)]
    a.leg.accept_modification(SDP_B)
    assert a.port.responses[-1][0] == tx and a.port.statuses()[-1] == 200
    a.leg.on_ack(request(IN_DIALOG.format(method="ACK", cseq=11)))
    a.leg.release(16)
    assert a.port.last()[1].uri == "sip:c@192.0.2.7:5071"


def test_second_reinvite_in_progress_is_put_off() -> None:
    """RFC 3261 14.2: another INVITE while one is being answered gets 500 with Retry-After; glare gets 491."""
    a = A()
    a.up()
    changed = SDP_A.replace(b"o=a 1 1", b"o=a 1 2")
    a.receive("INVITE", 11, changed)
    a.receive("INVITE", 12, changed)
    assert a.port.responses[-1][1].status == 500 and "retry-after" in a.port.responses[-1][1].headers
    b = A()
    b.up()
    b.leg.modify(SDP_A, update=False)
    b.receive("INVITE", 11, changed)
    assert b.port.statuses()[-1] == 491


def test_old_cseq_is_refused() -> None:
    """RFC 3261 12.2.2: a CSeq that does not rise is out of order."""
    a = A()
    a.up()
    a.receive("INFO", 9)
    assert a.port.statuses() == [500]


def test_strange_tag_gets_481() -> None:
    """RFC 3261 12.2.2: a request that fits no dialog."""
    a = A()
    a.up()
    stranger = request(IN_DIALOG.format(method="BYE", cseq=11).replace("tag=fa", "tag=other"))
    a.leg.on_request(TX, stranger, FLOW)
    assert a.port.statuses() == [481] and a.events == []


def test_info_that_is_no_dtmf_stops_here() -> None:
    """What must not cross does not cross: only DTMF bodies go to the other leg."""
    a = A()
    a.up()
    message = request(IN_DIALOG.format(method="INFO", cseq=11) + "Content-Type: text/plain")
    message.body = b"hello"
    a.leg.on_request(TX, message, FLOW)
    assert a.port.statuses() == [415] and a.events == []


def test_session_timer_of_the_caller_is_agreed_to() -> None:
    """RFC 4028 9, as a German carrier sends it: 1800 s, refreshed by the caller; without refresh the call ends."""
    a = A("Supported: timer, histinfo\nSession-Expires: 1800;refresher=uac\nMin-SE: 900")
    a.leg.accept(SDP_B)
    response = a.port.responses[-1][1]
    assert response.headers.get("session-expires") == "1800;refresher=uac"
    assert response.headers.get("require") == "timer"
    a.leg.on_ack(request(IN_DIALOG.format(method="ACK", cseq=10)))
    a.port.advance(1800 - 33)
    assert a.port.methods() == []
    a.port.advance(1800)
    assert a.port.methods() == ["BYE"] and isinstance(a.events[-1], ev.Released)


def test_refresh_by_us_uses_update_where_the_peer_takes_it() -> None:
    """RFC 4028 7.4: we refresh at half the interval, by UPDATE without SDP where Allow has it."""
    b = B()
    b.hear(200, body=SDP_B, Contact="<sip:bob@192.0.2.8>", Session_Expires="1800;refresher=uac", Allow="INVITE, UPDATE")
    b.leg.ack(None)
    b.port.advance(901)
    assert b.port.methods() == ["INVITE", "UPDATE"] and b.port.last()[1].body == b""


def test_progress_and_answer() -> None:
    """180, 183 with SDP and 200 are three different things to the call."""
    b = B()
    b.hear(100, None)
    b.hear(180)
    b.hear(183, body=SDP_B)
    b.hear(200, body=SDP_B, Contact="<sip:bob@192.0.2.8>")
    assert b.events == [
        ev.Ringing("b1", 100),
        ev.Ringing("b1", 180),
        ev.EarlyMedia("b1", 183, SDP_B),
        ev.Answered("b1", SDP_B),
    ]


def test_repeated_2xx_gets_its_ack_again() -> None:
    """RFC 3261 13.2.2.4: an ACK for every retransmission of the 2xx."""
    b = B()
    b.hear(200, body=SDP_B, Contact="<sip:bob@192.0.2.8>")
    b.leg.ack(None)
    b.hear(200, body=SDP_B, Contact="<sip:bob@192.0.2.8>")
    assert [a.cseq.number for a in b.port.acks] == [1, 1]
    assert len(b.events) == 1


def test_second_answer_of_a_forking_proxy_is_ended() -> None:
    """RFC 3261 13.2.2.4: a 2xx with another To tag is another dialog: ACK, then BYE."""
    b = B()
    b.hear(200, body=SDP_B, Contact="<sip:bob@192.0.2.8>")
    b.leg.ack(None)
    b.hear(200, "other", SDP_B, Contact="<sip:rob@192.0.2.9>")
    assert b.port.methods() == ["INVITE", "BYE"]
    assert b.port.last()[1].to.tag == "other" and b.port.last()[1].uri == "sip:rob@192.0.2.9"


def test_challenge_is_answered_in_place() -> None:
    """Race 7: 401 and 407 replace the INVITE, the branch stays the same for the call."""

    def authorize(sent: Request, response: Response) -> Request:
        again = Request(sent.method, sent.uri, sent.headers.copy(), sent.body)
        again.headers.set("CSeq", f"{sent.cseq.number + 1} INVITE")
        again.headers.add("Proxy-Authorization", "Digest x")
        return again

    b = B(authorize)
    b.hear(407)
    assert b.events == [] and b.port.methods() == ["INVITE", "INVITE"]
    b.hear(200, body=SDP_B, tx=1, Contact="<sip:bob@192.0.2.8>")
    b.leg.ack(None)
    assert b.port.acks[0].cseq.number == 2


def test_unanswerable_challenge_is_a_failure() -> None:
    """Without credentials a 407 is the branch's failure."""
    b = B()
    b.hear(407)
    assert b.events == [ev.Rejected("b1", 407, None)]


def test_unreadable_interval_is_none() -> None:
    """A Session-Expires that is no number costs nobody the call: it is as none; 422 with such a Min-SE is a refusal as
    any other."""
    a = A("Supported: timer\nSession-Expires: soon")
    a.leg.accept(SDP_B)
    assert a.port.responses[-1][1].status == 200
    assert a.port.responses[-1][1].headers.get("session-expires") == "1800;refresher=uac"
    a.leg.on_ack(request(IN_DIALOG.format(method="ACK", cseq=10)))
    a.receive("UPDATE", 11)
    assert a.port.statuses()[-1] == 200
    b = B()
    b.hear(422, Min_SE="long")
    assert [type(event) for event in b.events] == [ev.Rejected]


def test_422_raises_the_interval() -> None:
    """RFC 4028 7.3: Min-SE of a 422 is taken and the INVITE sent again."""
    b = B()
    b.hear(422, Min_SE="3600")
    assert b.port.last()[1].headers.get("session-expires") == "3600"
    assert b.events == []


def test_cancel_says_that_it_was_answered_elsewhere() -> None:
    """RFC 3326: phones that did not win must not list a missed call."""
    b = B()
    b.hear(180)
    b.leg.cancel(answered_elsewhere=True)
    b.leg.cancel(answered_elsewhere=True)
    assert b.port.cancels == [(TransactionId("tx1"), ANSWERED_ELSEWHERE)]


def test_answer_after_cancel_is_reported() -> None:
    """Race 1: the 200 crossed the CANCEL; the call must know, to ACK and end it."""
    b = B()
    b.hear(180)
    b.leg.cancel(answered_elsewhere=False)
    b.hear(200, body=SDP_B, Contact="<sip:bob@192.0.2.8>")
    assert b.events[-1] == ev.Answered("b1", SDP_B)


def test_dead_dialog_at_a_reinvite_ends_the_leg() -> None:
    """RFC 3261 12.2.1.2: 481 or 408 to a request in a dialog ends it."""
    b = B()
    b.hear(200, body=SDP_B, Contact="<sip:bob@192.0.2.8>")
    b.leg.ack(None)
    b.leg.modify(SDP_A.replace(b"o=a 1 1", b"o=a 1 2"), update=False)
    b.hear(481, tx=1)
    assert [type(e) for e in b.events[1:]] == [ev.ModifyRefused, ev.Released]
    assert b.port.methods()[-1] == "BYE"


def test_route_set_is_followed() -> None:
    """RFC 3261 12.1.2: Record-Route of the 2xx, reversed, is the route of what follows."""
    b = B()
    b.hear(200, body=SDP_B, Contact="<sip:bob@10.0.0.1>", Record_Route="<sip:p2;lr>, <sip:p1;lr>")
    b.leg.ack(None)
    assert b.port.acks[0].uri == "sip:bob@10.0.0.1"
    assert b.port.acks[0].headers.get_all("route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
