"""MESSAGE, NOTIFY, INFO packages and OPTIONS inside the dialogs of a call (RFC 3428, RFC 6665, RFC 6086)."""

from __future__ import annotations

import pytest

from edge.b2bua import actions as do
from edge.b2bua import events as ev
from edge.b2bua.call import Call, CallTimers
from edge.b2bua.text import LONGEST
from edge.sip.message import Request, Response
from edge.sip.transaction.key import TransactionId
from tests.unit.b2bua.fake_port import FLOW, SDP_A, SDP_B, request
from tests.unit.b2bua.test_legs import IN_DIALOG, A, B

TYPE = "text/plain;charset=ISO-8859-15"
NUMBER = TransactionId(42)
TEXT = ev.Text(TYPE, b"Gr\xfc\xdfe")


def say(a: A, method: str, cseq: int, fields: str = "", body: bytes = b"") -> tuple[TransactionId, Response | None]:
    """An in-dialog request of the caller, and its answer if it has one already."""
    tx = TransactionId(1000 + cseq)
    message = request(IN_DIALOG.format(method=method, cseq=cseq) + fields)
    message.body = body
    a.leg.on_request(tx, message, FLOW)
    return tx, next((response for to, response in a.port.responses if to == tx), None)


def up(allow: str = "") -> B:
    """A called side that has answered; `allow`: what it says it understands."""
    b = B(lambda sent, _: Request(sent.method, sent.uri, sent.headers.copy(), sent.body))
    extra = {"Allow": allow} if allow else {}
    b.hear(200, body=SDP_B, Contact="<sip:bob@192.0.2.8>", **extra)
    b.leg.ack(None)
    b.events.clear()
    return b


def call_up() -> Call:
    call = Call(SDP_A, 1, CallTimers())
    call.start()
    for event in (
        ev.Relayed("offer", "a", SDP_A),
        ev.TargetStarted(1, ("b1",), frozenset()),
        ev.Answered("b1", SDP_B),
        ev.Relayed("answer", "b1", SDP_B),
    ):
        call.on_event(event, 0.0)
    return call


def test_text_waits_for_what_the_far_side_answers() -> None:
    """RFC 3428 7: who writes learns whether it arrived; body, type and charset are as they were written."""
    a = A()
    a.up()
    tx, answer = say(a, "MESSAGE", 11, f"Content-Type: {TYPE}", TEXT.body)
    assert answer is None and a.events == [ev.TextReceived("a", tx, TEXT)]
    a.leg.answer_text(tx, 200)
    a.leg.answer_text(tx, 480)
    assert [response.status for to, response in a.port.responses if to == tx] == [200]


def test_text_crosses_the_call_and_its_answer_comes_back() -> None:
    """Both ways; never to itself."""
    call = call_up()
    assert call.on_event(ev.TextReceived("a", NUMBER, TEXT), 1) == [do.SendText("b1", NUMBER, TEXT)]
    assert call.on_event(ev.TextAnswered("b1", NUMBER, 415, "text/html"), 1) == [
        do.AnswerText("a", NUMBER, 415, "text/html")
    ]
    assert call.on_event(ev.TextReceived("b1", NUMBER, TEXT), 1) == [do.SendText("a", NUMBER, TEXT)]


def test_text_without_a_partner() -> None:
    """A call that is not up, or over, has nobody to read."""
    call = Call(SDP_A, 1, CallTimers())
    assert call.on_event(ev.TextReceived("a", NUMBER, TEXT), 1) == [do.AnswerText("a", NUMBER, 480)]
    assert call.on_event(ev.TextAnswered("b1", NUMBER, 200), 1) == []


@pytest.mark.parametrize(
    ("status", "told"),
    [(200, 200), (202, 202), (299, 200), (404, 480), (405, 405), (408, 480), (415, 415), (481, 480), (503, 500)],
)
def test_answer_of_the_far_side(status: int, told: int) -> None:
    """What speaks of our request alone, or would end the sender's dialog (RFC 5057), is said otherwise; the call
    goes on whatever comes."""
    b = up()
    b.leg.text(NUMBER, TEXT)
    sent = b.port.last()[1]
    assert (sent.method, sent.headers.get("content-type"), sent.body) == ("MESSAGE", TYPE, TEXT.body)
    b.hear(status, tx=-1, Accept="text/html")
    assert b.events == [ev.TextAnswered("b1", NUMBER, told, "text/html" if status == 415 else "")]
    assert not b.leg.gone


def test_far_side_says_nothing() -> None:
    """RFC 4320 4.2: 408 is not for requests other than INVITE."""
    b = up()
    b.leg.text(NUMBER, TEXT)
    tx, _, handler = b.port.last()
    handler.on_no_response(tx)
    assert b.events == [ev.TextAnswered("b1", NUMBER, 480)] and not b.leg.gone


def test_challenge_is_answered_once() -> None:
    """A carrier may want credentials for each request."""
    b = up()
    b.leg.text(NUMBER, TEXT)
    b.hear(407, tx=-1)
    assert b.port.methods()[-2:] == ["MESSAGE", "MESSAGE"] and b.events == []
    b.hear(407, tx=-1)
    assert b.events == [ev.TextAnswered("b1", NUMBER, 480)]


def test_far_side_whose_allow_has_no_message() -> None:
    """It is not asked; one that says nothing of itself is."""
    for allow, sent in (("INVITE, ACK, BYE", 0), ("INVITE, ACK, BYE, MESSAGE", 1), ("", 1)):
        b = up(allow)
        b.leg.text(NUMBER, TEXT)
        assert b.port.methods().count("MESSAGE") == sent
        assert b.events == ([] if sent else [ev.TextAnswered("b1", NUMBER, 405)])


def test_refusals_name_the_remedy() -> None:
    """405 has Allow, 415 has what the far side takes."""
    a = A()
    a.up()
    tx, _ = say(a, "MESSAGE", 11, f"Content-Type: {TYPE}", b"x")
    a.leg.answer_text(tx, 405)
    assert "BYE" in (a.port.responses[-1][1].headers.get("allow") or "")
    tx, _ = say(a, "MESSAGE", 12, f"Content-Type: {TYPE}", b"x")
    a.leg.answer_text(tx, 415, "text/html")
    assert a.port.responses[-1][1].headers.get("accept") == "text/html"


@pytest.mark.parametrize(
    ("fields", "size", "status"),
    [
        ("Content-Type: text/plain", LONGEST + 1, 413),
        ("", 1, 400),
        ("Content-Type: text/plain\nContent-Encoding: gzip", 1, 415),
    ],
)
def test_texts_that_do_not_cross(fields: str, size: int, status: int) -> None:
    a = A()
    a.up()
    _, answer = say(a, "MESSAGE", 11, fields, b"x" * size)
    assert answer is not None and answer.status == status and a.events == []


def test_texts_on_the_way_are_few() -> None:
    """Who writes without waiting fills no memory; and none is left without an answer at the end."""
    a = A()
    a.up()
    for cseq in range(11, 21):
        say(a, "MESSAGE", cseq, "Content-Type: text/plain", b"x")
    assert a.port.statuses() == [500, 500] and len(a.events) == 8
    a.receive("BYE", 30)
    assert a.port.statuses()[2:] == [200] + [480] * 8


def test_text_to_a_leg_that_is_over() -> None:
    b = up()
    b.leg.release(16)
    b.leg.text(NUMBER, TEXT)
    assert b.events == [ev.TextAnswered("b1", NUMBER, 480)] and "MESSAGE" not in b.port.methods()


def test_notify_without_a_subscription() -> None:
    """RFC 6665 4.1.3: 489 for packages that nobody here knows; 481 where there is only no subscription."""
    a = A()
    a.up()
    _, answer = say(a, "NOTIFY", 11, "Event: talk\nSubscription-State: active")
    assert answer is not None and answer.status == 489 and answer.headers.get("allow-events") == "refer"
    _, answer = say(a, "NOTIFY", 12, "Event: refer;id=3\nSubscription-State: active")
    assert answer is not None and answer.status == 481
    assert a.events == [] and not a.leg.gone


def test_info_package_that_nobody_knows() -> None:
    """RFC 6086 4.2.2: 469, with the packages that we take (none); the same body without a package is DTMF."""
    a = A()
    a.up()
    _, answer = say(a, "INFO", 11, "Info-Package: infoDtmf\nContent-Type: application/dtmf", b"5")
    assert answer is not None and answer.status == 469 and answer.headers.get("recv-info") == ""
    assert a.events == []
    say(a, "INFO", 12, "Content-Type: application/dtmf", b"5")
    assert a.events == [ev.InfoReceived("a", "application/dtmf", b"5")]


def test_options_in_a_dialog() -> None:
    """RFC 3261 11.2: as before the answer, so after it; Allow is what is true."""
    a = A()
    for cseq, status in ((11, 200), (11, 500)):
        _, answer = say(a, "OPTIONS", cseq)
        assert answer is not None and answer.status == status
        a.port.responses.clear()
    a.up()
    _, answer = say(a, "OPTIONS", 12)
    assert answer is not None and answer.status == 200 and "MESSAGE" in (answer.headers.get("allow") or "")
