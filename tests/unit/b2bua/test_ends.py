"""Ends that come early, cross or come again: BYE before the caller has its answer, BYE before ACK, BYE after BYE."""

from __future__ import annotations

from edge.b2bua import actions as do
from edge.b2bua import events as ev
from edge.b2bua.call import Call, CallTimers, Phase
from edge.sip.transaction.key import TransactionId
from tests.unit.b2bua.fake_port import FLOW, SDP_A, SDP_B, request
from tests.unit.b2bua.test_legs import IN_DIALOG, A, B

BYE_OF_B = """
BYE sip:edge@127.0.0.1:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.8:5060;branch=z9hG4bKbye{cseq}
From: <sip:bob@edge.example>;tag={tag}
To: <sip:+49301@edge.example>;tag=id1
Call-ID: id2
CSeq: {cseq} {method}
Max-Forwards: 70
"""


def answering(offer: bytes | None = b"o") -> Call:
    """A call whose called side has answered; the caller does not know yet."""
    call = Call(offer, 1, CallTimers())
    call.start()
    if offer is not None:
        call.on_event(ev.Relayed("offer", "a", b"o"), 0)
    call.on_event(ev.TargetStarted(1, ("b1",), frozenset()), 0)
    call.on_event(ev.Answered("b1", b"ans"), 1)
    assert call.phase is Phase.ANSWERING
    return call


def of_b(b: B, method: str, cseq: int, tag: str = "far") -> TransactionId:
    tx = TransactionId(f"b{cseq}")
    b.leg.on_request(tx, request(BYE_OF_B.format(method=method, cseq=cseq, tag=tag)), FLOW)
    return tx


# -- the call ----------------------------------------------------------------------------------------------------------


def test_called_hangs_up_before_the_caller_has_its_answer() -> None:
    """The caller gets the answer and then the BYE; the call counts as answered and ended by the called."""
    call = answering()
    assert call.on_event(ev.Released("b1", 16), 1) == []
    assert call.on_event(ev.Relayed("answer", "b1", b"ans'"), 2) == [
        do.Accept(b"ans'"),
        do.StartTimer("longest", 4 * 3600.0),
        do.Release("a", 16),
        do.Finish("answered", "b", 200, 16),
    ]
    assert call.answered_at == 2


def test_called_hangs_up_and_the_caller_gives_up() -> None:
    """CANCEL is first: one final answer, no BYE to who is gone."""
    call = answering()
    call.on_event(ev.Released("b1", 16), 1)
    assert call.on_event(ev.Cancelled(), 1) == [do.Reject(487), do.Finish("cancelled", "a", 487)]
    assert call.on_event(ev.Relayed("answer", "b1", b"ans'"), 2) == []


def test_called_hangs_up_before_its_late_offer_crossed() -> None:
    """The 2xx gets its ACK at once, and once."""
    call = answering(None)
    assert call.on_event(ev.Released("b1", 16), 1) == [do.Ack("b1")]
    actions = call.on_event(ev.Relayed("late-offer", "b1", b"ans'"), 2)
    assert [type(a) for a in actions] == [do.Accept, do.StartTimer, do.Release, do.Finish]


def test_called_hangs_up_and_the_relay_fails() -> None:
    """Then there is no answer to give."""
    call = answering()
    call.on_event(ev.Released("b1", 16), 1)
    actions = call.on_event(ev.RelayFailed("answer", "b1", 503, "away"), 2)
    assert actions == [do.Reject(503, 38), do.Finish("failed", "edge", 503, 38, "away")]


def test_digit_of_the_called_waits_for_the_answer() -> None:
    """INFO has its 200 already: what it says is not lost, and comes before the BYE."""
    call = answering()
    assert call.on_event(ev.InfoReceived("b1", "application/dtmf", b"5"), 1) == []
    call.on_event(ev.Released("b1"), 1)
    actions = call.on_event(ev.Relayed("answer", "b1", b"ans'"), 2)
    assert [type(a) for a in actions] == [do.Accept, do.StartTimer, do.SendInfo, do.Release, do.Finish]


def test_what_waits_for_the_answer_is_limited() -> None:
    """A called side cannot fill memory; its BYE is never dropped."""
    call = answering()
    for _ in range(100):
        call.on_event(ev.InfoReceived("b1", "application/dtmf", b"5"), 1)
    call.on_event(ev.Released("b1"), 1)
    actions = call.on_event(ev.Relayed("answer", "b1", b"ans'"), 2)
    assert len([a for a in actions if isinstance(a, do.SendInfo)]) == 8 and isinstance(actions[-1], do.Finish)


# -- the caller's leg --------------------------------------------------------------------------------------------------


def test_bye_waits_for_the_ack() -> None:
    """RFC 3261 15: the called side must not send BYE before the ACK of its 2xx; the 2xx comes again meanwhile."""
    a = A()
    a.leg.accept(SDP_B)
    a.leg.release(16)
    a.port.advance(1.0)
    assert a.port.methods() == [] and a.port.statuses() == [200, 200]
    a.leg.on_ack(request(IN_DIALOG.format(method="ACK", cseq=10)))
    assert a.port.methods() == ["BYE"]
    a.port.advance(100)
    assert a.port.methods() == ["BYE"] and a.port.statuses() == [200, 200]


def test_bye_leaves_where_the_ack_never_comes() -> None:
    """RFC 3261 13.3.1.4: after 64*T1 the session is ended by BYE."""
    a = A()
    a.leg.accept(SDP_B)
    a.leg.release(16)
    a.port.advance(40)
    assert a.port.methods() == ["BYE"] and a.events == []
    assert "cause=16" in (a.port.last()[1].headers.get("reason") or "")


def test_caller_hangs_up_while_our_bye_waits() -> None:
    """Its BYE ends the dialog: 200, and ours never leaves."""
    a = A()
    told: list[int] = []
    a.leg.accept(SDP_B)
    a.leg.release(16, lambda: told.append(1))
    a.receive("BYE", 11)
    assert a.port.statuses() == [200, 200] and told == [1]
    a.port.advance(100)
    assert a.port.methods() == [] and a.port.statuses() == [200, 200]


def test_release_waits_for_a_held_answer() -> None:
    """The 200 waits for the PRACK of early media, the BYE for the 200 and its ACK."""
    a = A("Supported: 100rel")
    a.leg.progress(183, SDP_B)
    a.leg.accept(SDP_B)
    a.leg.release(16)
    assert a.port.statuses() == [183] and a.port.methods() == []
    rseq = a.port.responses[0][1].headers.get("rseq")
    prack = IN_DIALOG.format(method="PRACK", cseq=11) + f"RAck: {rseq} 10 INVITE\n"
    a.leg.on_request(TransactionId("prack"), request(prack), FLOW)
    assert a.port.statuses() == [183, 200, 200] and a.port.methods() == []
    a.leg.on_ack(request(IN_DIALOG.format(method="ACK", cseq=10)))
    assert a.port.methods() == ["BYE"]


def test_release_of_a_held_answer_whose_prack_never_comes() -> None:
    """RFC 3262 section 3: a 5xx for the caller, though the call is over for everybody else."""
    a = A("Supported: 100rel")
    a.leg.progress(183, SDP_B)
    a.leg.accept(SDP_B)
    a.leg.release(16)
    a.port.advance(100)
    assert a.port.statuses()[-1] == 500 and a.port.methods() == []


# -- after the end -----------------------------------------------------------------------------------------------------


def test_byes_that_cross_are_both_answered() -> None:
    """Both hang up at once: our dialog is over for us, and the peer's BYE is right all the same."""
    a = A()
    a.up()
    a.leg.release(16)
    a.receive("BYE", 11)
    a.receive("BYE", 12)
    assert a.port.statuses() == [200, 200] and a.events == []
    a.receive("INFO", 13)
    assert a.port.statuses()[-1] == 481


def test_bye_after_bye_is_answered() -> None:
    """A peer that says BYE again in another transaction hears that it is done."""
    a = A()
    a.up()
    a.receive("BYE", 11)
    a.receive("BYE", 12)
    assert a.port.statuses() == [200, 200] and len(a.events) == 1


def test_bye_of_a_stranger_after_the_end_is_not() -> None:
    """Who does not know the caller's tag is not in the dialog."""
    a = A()
    a.up()
    a.leg.release(16)
    stranger = IN_DIALOG.format(method="BYE", cseq=11).replace("tag=fa", "tag=other")
    a.leg.on_request(TransactionId("x"), request(stranger), FLOW)
    assert a.port.statuses() == [481]


def test_answer_after_cancel_and_its_bye() -> None:
    """The called answered as we cancelled, and hangs up as we do: 200 (RFC 3261 section 15.1.2)."""
    b = B()
    b.hear(200, body=SDP_B, Contact="<sip:bob@192.0.2.8>")
    b.leg.ack(None)
    b.leg.release(16)
    of_b(b, "BYE", 1)
    assert b.port.statuses() == [200]


def test_bye_that_overtakes_the_answer() -> None:
    """On a network that reorders, BYE comes before the 200: it is kept, and the call is answered and over."""
    b = B()
    b.hear(180)
    of_b(b, "BYE", 1)
    assert b.port.statuses() == [200]
    b.hear(200, body=SDP_B, Contact="<sip:bob@192.0.2.8>")
    assert [type(e) for e in b.events] == [ev.Ringing, ev.Answered, ev.Released]
    b.leg.ack(None)
    assert len(b.port.acks) == 1 and b.port.methods() == ["INVITE"]
    assert b.leg.gone


def test_bye_of_one_branch_of_a_fork_is_not_that_of_another() -> None:
    """The far side forked: who answers goes on."""
    b = B()
    b.hear(180, tag="one")
    of_b(b, "BYE", 1, tag="two")
    b.hear(200, tag="one", body=SDP_B, Contact="<sip:bob@192.0.2.8>")
    assert [type(e) for e in b.events] == [ev.Ringing, ev.Answered] and not b.leg.gone


def test_each_answer_gets_its_ack_again_whatever_came_between() -> None:
    """RFC 3261 13.2.2.4: a 2xx to the INVITE that is repeated after a re-INVITE was answered, and after the end."""
    b = B()
    answer = {"Contact": "<sip:bob@192.0.2.8>"}
    b.hear(200, body=SDP_B, **answer)
    b.leg.ack(None)
    b.leg.modify(SDP_A + b"a=sendonly\r\n", update=False)
    b.hear(200, tx=1, body=SDP_B, **answer)
    b.hear(200, body=SDP_B, **answer)
    b.leg.release(16)
    b.hear(200, tx=1, body=SDP_B, **answer)
    b.hear(200, body=SDP_B, **answer)
    assert [ack.cseq.number for ack in b.port.acks] == [1, 2, 1, 2, 1]
