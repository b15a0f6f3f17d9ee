"""RFC 3262 on each leg by itself: reliable provisional responses to a caller and of a called side (also RFC 3311)."""

from __future__ import annotations

import pytest

from edge.b2bua import events as ev
from edge.sip.dialog.reliable import Provisionals, RAck, in_order, number_of
from edge.sip.errors import RemoteProtocolError
from edge.sip.headers import Headers
from edge.sip.message import Response
from edge.sip.transaction.key import TransactionId
from tests.unit.b2bua.fake_port import FLOW, SDP_A, SDP_B, request
from tests.unit.b2bua.test_legs import IN_DIALOG, A, B

SDP_C = SDP_B.replace(b"o=b 7 1", b"o=c 9 1").replace(b"8\r\n", b"0\r\n")
REQUIRED = "Require: 100rel"
SUPPORTED = "Supported: 100rel, timer"


def prack(a: A, of: Response, cseq: int = 11, body: bytes = b"", rseq: int | None = None) -> int:
    """The caller acknowledges a response; the status that it gets."""
    number = of.headers.get("rseq") if rseq is None else rseq
    text = IN_DIALOG.format(method="PRACK", cseq=cseq) + f"RAck: {number} 10 INVITE\n"
    tag = of.to.tag
    assert tag is not None
    a.leg.on_request(TransactionId(cseq), request(text.replace("tag=id1", f"tag={tag}"), body), FLOW)
    answers = [r for t, r in a.port.responses if t == TransactionId(cseq)]
    assert len(answers) == 1
    return answers[0].status


def provisional(a: A) -> list[Response]:
    return [r for _, r in a.port.responses if r.status < 200]


def test_required_ringing_is_resent_until_its_prack() -> None:
    """Section 3: at T1, doubling without the limit of T2, until the PRACK; the PRACK gets its 200."""
    a = A(REQUIRED)
    a.leg.progress(180, None)
    a.port.advance(8)
    assert [r.status for r in provisional(a)] == [180] * 5  # at 0, 0.5, 1.5, 3.5, 7.5
    first = provisional(a)[0]
    assert first.headers.get("require") == "100rel"
    assert 1 <= int(first.headers.get("rseq") or 0) < 2**31
    assert prack(a, first) == 200
    a.port.advance(60)
    assert [r.status for r in provisional(a)] == [180] * 5
    assert a.events == []


def test_supported_makes_descriptions_reliable_and_plain_ringing_not() -> None:
    """Section 3: what the caller only supports is worth its two messages where something would be lost."""
    a = A(SUPPORTED)
    a.leg.progress(180, None)
    a.leg.progress(183, SDP_B)
    assert ["rseq" in r.headers for r in provisional(a)] == [False, True]


@pytest.mark.parametrize("extra", ["Supported: timer", "X: 100rel"])
def test_callers_without_the_extension_see_none_of_it(extra: str) -> None:
    a = A(extra)
    a.leg.progress(183, SDP_B)
    a.port.advance(20)
    assert len(provisional(a)) == 1 and "rseq" not in provisional(a)[0].headers
    a.leg.accept(SDP_B)
    assert a.port.statuses()[-1] == 200


def test_second_response_waits_for_the_prack_of_the_first() -> None:
    """Section 3: one at a time, numbered one after the other."""
    a = A(REQUIRED)
    a.leg.progress(180, None)
    a.leg.progress(183, SDP_B)
    assert [r.status for r in provisional(a)] == [180]
    assert prack(a, provisional(a)[0]) == 200
    first, second = provisional(a)
    assert second.status == 183
    assert int(second.headers.get("rseq") or 0) == int(first.headers.get("rseq") or 0) + 1


def test_2xx_waits_for_the_prack_of_an_answer() -> None:
    """Section 3: no 2xx while a description is not acknowledged; the PRACK lets it go, before which CANCEL works."""
    a = A(REQUIRED)
    a.leg.progress(183, SDP_B)
    a.leg.accept(SDP_B)
    assert 200 not in a.port.statuses()
    assert prack(a, provisional(a)[0]) == 200
    assert a.port.statuses() == [183, 200, 200]
    tags = {r.to.tag for _, r in a.port.responses}
    assert len(tags) == 1


def test_2xx_does_not_wait_for_the_prack_of_ringing() -> None:
    """Section 3: without a description nothing hangs on it; a PRACK that comes late gets its 200 all the same."""
    a = A(REQUIRED)
    a.leg.progress(180, None)
    a.leg.accept(SDP_B)
    assert a.port.statuses() == [180, 200]
    assert prack(a, provisional(a)[0]) == 200
    a.leg.on_ack(request(IN_DIALOG.format(method="ACK", cseq=10)))
    a.port.advance(60)
    assert len(provisional(a)) == 1


def test_without_prack_the_call_is_refused() -> None:
    """Section 3: 64*T1 without PRACK: a 5xx."""
    a = A(REQUIRED)
    a.leg.progress(183, SDP_B)
    a.leg.accept(SDP_B)
    a.port.advance(40)
    assert a.events == [ev.Ended(102, "the PRACK never came")]
    a.leg.release(102)  # what the call makes of it: it thought itself answered
    assert a.port.statuses()[-1] == 500
    assert a.port.methods() == []


@pytest.mark.parametrize("method", ["CANCEL", "BYE"])
def test_caller_gives_up_while_the_2xx_waits(method: str) -> None:
    """The called side has answered, so it is hung up; the caller gets its 487."""
    a = A(REQUIRED)
    a.leg.progress(183, SDP_B)
    a.leg.accept(SDP_B)
    if method == "BYE":
        a.receive("BYE", 11)
    else:
        a.leg.on_cancel(request(IN_DIALOG.format(method="CANCEL", cseq=10)))
    assert a.events == [ev.Released("a", None)]
    assert 487 in a.port.statuses() and a.port.methods() == []
    a.port.advance(60)
    assert a.port.statuses().count(183) == 1


def test_another_answer_goes_into_another_dialog() -> None:
    """Section 5: a reliable answer is the answer of its dialog. What differs comes as from a fork, under a new tag."""
    a = A(SUPPORTED)
    retagged: list[str] = []
    a.leg.on_new_tag = lambda before, leg: retagged.append(before)
    a.leg.progress(183, SDP_B)
    early = provisional(a)[0]
    assert prack(a, early) == 200
    a.leg.accept(SDP_C)
    final = a.port.responses[-1][1]
    assert final.status == 200 and final.body == SDP_C
    assert final.to.tag != early.to.tag and final.to.tag == a.leg.local_tag
    assert retagged == [early.to.tag]


def test_the_same_answer_stays_in_its_dialog() -> None:
    a = A(SUPPORTED)
    a.leg.progress(183, SDP_B)
    assert prack(a, provisional(a)[0]) == 200
    a.leg.accept(SDP_B)
    assert a.port.responses[-1][1].to.tag == provisional(a)[0].to.tag


def test_prack_of_nothing_is_481() -> None:
    """Section 3; and what cannot be read is 400."""
    a = A(REQUIRED)
    a.leg.progress(180, None)
    first = provisional(a)[0]
    number = int(first.headers.get("rseq") or 0)
    assert prack(a, first, 11, rseq=number + 1) == 481
    a.leg.on_request(TransactionId(12), request(IN_DIALOG.format(method="PRACK", cseq=12) + "RAck: 1\n"), FLOW)
    assert a.port.statuses()[-1] in (400, 481)
    a.port.advance(1)
    assert len(provisional(a)) > 1, "still on its way"
    plain = A("Supported: timer")
    plain.leg.progress(180, None)
    plain.leg.on_request(TransactionId(3), request(IN_DIALOG.format(method="PRACK", cseq=11)), FLOW)
    assert plain.port.statuses()[-1] == 481


def test_offer_in_a_prack() -> None:
    """Section 5: the same description again is answered; a new one is refused, and what it acknowledged waits on."""
    a = A(REQUIRED)
    a.leg.progress(183, SDP_B)
    assert prack(a, provisional(a)[0], 11, SDP_C) == 488
    a.leg.accept(SDP_B)
    assert 200 not in a.port.statuses()
    assert prack(a, provisional(a)[0], 12, SDP_A) == 200
    assert a.port.statuses()[-1] == 200


def test_late_offer_gets_no_reliable_response() -> None:
    """RFC 3261 section 13.2.1: it would have to bring the offer, which is not known before the 2xx."""
    a = A(REQUIRED, b"")
    a.leg.progress(180, None)
    assert provisional(a) == []
    a.leg.accept(SDP_B)
    assert a.port.statuses() == [200]


def test_update_before_the_answer() -> None:
    """RFC 3311 section 5.2: one without an offer moves the caller; an offer on top of an offer gets 500."""
    a = A(REQUIRED)
    a.receive("UPDATE", 11)
    assert a.port.statuses() == [200]
    assert a.leg.dialog is not None and a.leg.dialog.remote_target == "sip:c@192.0.2.7:5071"
    a.receive("UPDATE", 12, SDP_C)
    assert a.port.statuses() == [200, 500]
    assert a.port.responses[-1][1].headers.get("retry-after") == "5"


# -- the called side --------------------------------------------------------------------------------------------------

CONTACT = "<sip:bob@192.0.2.8:5080>"


def ringing(b: B, number: int, tag: str = "far", body: bytes = b"", status: int = 183) -> None:
    b.hear(status, tag, body, Require="100rel", RSeq=str(number), Contact=CONTACT)


def test_invite_says_that_it_can() -> None:
    """Section 4: where our offer is in the INVITE; else the called side's reliable offer would find no answer."""
    assert "100rel" in B().port.requests[0][1].headers.tokens("supported")


def test_each_reliable_response_gets_its_prack() -> None:
    """Section 4: PRACK at once with RAck, in the early dialog, CSeq rising; copies and gaps get none."""
    b = B()
    ringing(b, 776)
    ringing(b, 776)
    ringing(b, 778)
    ringing(b, 777, body=SDP_B)
    assert b.port.methods() == ["INVITE", "PRACK", "PRACK"]
    pracks = [r for _, r, _ in b.port.requests[1:]]
    assert [p.headers.get("rack") for p in pracks] == ["776 1 INVITE", "777 1 INVITE"]
    assert [p.cseq.number for p in pracks] == [2, 3]
    assert all(p.uri == "sip:bob@192.0.2.8:5080" and p.to.tag == "far" for p in pracks)
    assert b.events == [ev.Ringing("b1", 180), ev.EarlyMedia("b1", 183, SDP_B)]


def test_forks_count_by_themselves() -> None:
    """Section 4: RSeq belongs to an early dialog, of which a proxy may make several."""
    b = B()
    ringing(b, 5, "one")
    ringing(b, 900, "two")
    ringing(b, 6, "one")
    assert [(r.to.tag, r.headers.get("rack")) for _, r, _ in b.port.requests[1:]] == [
        ("one", "5 1 INVITE"), ("two", "900 1 INVITE"), ("one", "6 1 INVITE")
    ]  # fmt: skip


def test_dialog_goes_on_counting_after_the_answer() -> None:
    """RFC 3261 section 12.2.1.1: the CSeq of a BYE is above that of the PRACKs."""
    b = B()
    ringing(b, 1)
    b.hear(200, body=SDP_B, Contact=CONTACT)
    b.leg.ack(None)
    b.leg.release(16)
    assert b.port.acks[0].cseq.number == 1
    assert b.port.methods() == ["INVITE", "PRACK", "BYE"] and b.port.last()[1].cseq.number == 3


def test_prack_leaves_also_after_our_cancel() -> None:
    """The called side would resend for 32 s otherwise; what it says is not told any more."""
    b = B()
    b.hear(180)
    b.leg.cancel(answered_elsewhere=False)
    ringing(b, 1, body=SDP_B)
    assert b.port.methods() == ["INVITE", "PRACK"]
    assert not any(isinstance(e, ev.EarlyMedia) for e in b.events)


def test_challenged_prack_comes_again() -> None:
    """RFC 3261 section 22: once, with a higher CSeq."""
    b = B(lambda sent, response: again(sent))
    ringing(b, 1)
    b.hear(407, tx=1)
    b.hear(407, tx=2)
    assert b.port.methods() == ["INVITE", "PRACK", "PRACK"]
    assert b.port.last()[1].cseq.number == 3


def again(sent: object) -> object:
    made = request(
        "PRACK sip:bob@192.0.2.8:5080 SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\nFrom: <sip:a@b>;tag=x\n"
        "To: <sip:b@b>;tag=far\nCall-ID: c\nCSeq: 3 PRACK\nRAck: 1 1 INVITE"
    )
    return made


def update(b: B, body: bytes = b"", cseq: int = 1, method: str = "UPDATE", tag: str = "far") -> Response:
    text = (
        f"{method} sip:edge@127.0.0.1:5060 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.8;branch=z9hG4bK{cseq}\n"
        f"From: <sip:bob@edge.example>;tag={tag}\nTo: <sip:+49301@edge.example>;tag={b.leg.local_tag}\n"
        f"Call-ID: {b.leg.call_id}\nCSeq: {cseq} {method}\nContact: <sip:bob@192.0.2.8:5090>"
    )
    b.leg.on_request(TransactionId(cseq), request(text, body), FLOW)
    return b.port.responses[-1][1]


def test_update_of_the_called_side_before_it_answers() -> None:
    """RFC 3311 section 5.2: our offer stands as the answer, and the caller hears the new media."""
    b = B()
    ringing(b, 1, body=SDP_B)
    answer = update(b, SDP_C)
    assert answer.status == 200 and answer.body == SDP_A
    assert b.events[-1] == ev.EarlyMedia("b1", 183, SDP_C)
    assert update(b, cseq=2).body == b""
    assert update(b, cseq=2).status == 500, "out of order"
    assert update(b, cseq=3, tag="else").status == 481
    assert update(b, cseq=4, method="INFO").status == 405
    b.hear(200, body=SDP_C, Contact=CONTACT)
    assert update(b, cseq=3).status == 500, "the dialog goes on counting"


# -- the pure part ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "1", "1 2", "a 2 INVITE", "1 2 INVITE x", "-1 2 INVITE", "1_0 2 INVITE"])
def test_broken_rack(value: str) -> None:
    """Section 7.2: two numbers and a method."""
    with pytest.raises(RemoteProtocolError):
        RAck.of(request(IN_DIALOG.format(method="PRACK", cseq=11) + (f"RAck: {value}\n" if value else "")))


@pytest.mark.parametrize(
    ("status", "headers", "number"),
    [
        (183, [("Require", "100rel"), ("RSeq", "7")], 7),
        (183, [("RSeq", "7")], None),
        (183, [("Require", "100rel")], None),
        (183, [("Require", "100rel"), ("RSeq", "x")], None),
        (183, [("Require", "100rel"), ("RSeq", "0")], None),
        (183, [("Require", "100rel"), ("RSeq", "4294967296")], None),
        (100, [("Require", "100rel"), ("RSeq", "7")], None),
        (200, [("Require", "100rel"), ("RSeq", "7")], None),
    ],
)
def test_what_is_reliable(status: int, headers: list[tuple[str, str]], number: int | None) -> None:
    """Sections 4 and 7.1."""
    assert number_of(Response(status, "x", Headers(headers))) == number


def test_order_of_numbers() -> None:
    """Section 4: any first, then one after the other."""
    assert in_order(9, None) and in_order(10, 9)
    assert not in_order(9, 9) and not in_order(11, 9) and not in_order(8, 9)


def test_flood_of_responses_is_bounded() -> None:
    """A called side that changes its mind all the time does not fill our memory."""
    sender = Provisionals(1, "seed")
    for _ in range(100):
        sender.send(Response(183, "x", Headers([]), b"sdp"))
    sent = 0
    while sender.on_the_way is not None:
        number = int(sender.on_the_way.headers.get("rseq") or 0)
        assert sender.acknowledge(RAck(number, 1, "INVITE"))
        assert sender.acknowledge(RAck(number, 1, "INVITE")), "again is as good as once"
        sender.next()
        sent += 1
    assert sent == 9 and not sender.open


def test_prack_has_its_answer_before_the_next_response_leaves() -> None:
    """What waited for the PRACK comes behind the 200 to it."""
    a = A("Require: 100rel")
    a.leg.progress(180, None)
    a.leg.progress(183, SDP_B)
    assert prack(a, provisional(a)[0]) == 200
    assert a.port.statuses() == [180, 200, 183]
