"""Two endpoints over a network that loses, delays and reorders: races of RFC 3261 sections 9, 13.3 and 17."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.sip.build import response_to
from edge.sip.endpoint import (
    AckReceived,
    CancelReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
)
from edge.sip.flow import Transport

from .network import Host, VirtualNetwork


def pair(transport: Transport = "udp") -> tuple[VirtualNetwork, Host, Host]:
    network = VirtualNetwork(transport)
    return network, network.host("A"), network.host("B")


def acknowledging(a: Host, b: Host) -> None:
    """A sends an ACK for each 2xx to its INVITEs."""

    def react(event: Event) -> None:
        if isinstance(event, ResponseReceived) and 200 <= event.response.status < 300:
            ack = a.request("ACK", b)
            ack.set_to(event.response.to)
            a.ack(ack, b)

    a.on_event = react


def ringing_then(b: Host, status: int, at: float) -> None:
    """B rings at once and answers later, repeating a 2xx until its ACK as section 13.3.1.4 says."""

    def react(event: Event) -> None:
        if isinstance(event, RequestReceived) and event.request.method == "INVITE":
            b.answer(event, 180)
            interval = 0.5

            def final() -> None:
                nonlocal interval
                if b.seen(AckReceived) or interval > 40:
                    return
                b.answer(event, status)
                if status < 300:
                    b.network.at(b.network.now + min(interval, 4.0), final)
                    interval *= 2

            b.network.at(at, final)

    b.on_event = react


def cancelling(b: Host) -> None:
    """B ends a cancelled INVITE with 487."""
    before = b.on_event

    def react(event: Event) -> None:
        before(event)
        if isinstance(event, CancelReceived):
            invite = cast(RequestReceived, b.seen(RequestReceived)[0])
            b.endpoint.respond(event.tx, response_to(invite.request, 487), b.network.now)

    b.on_event = react


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_call_without_loss(transport: Transport) -> None:
    """Nothing is sent twice where nothing is lost, and all transactions end."""
    network, a, b = pair(transport)
    acknowledging(a, b)
    ringing_then(b, 200, 2.0)
    a.send(a.request("INVITE", b), b)
    network.run(100)
    assert [s.line for s in network.log] == ["INVITE", "180 Ringing", "200 OK", "ACK"]
    assert a.statuses() == [180, 200] and len(b.seen(AckReceived)) == 1
    assert len(a.endpoint) == len(b.endpoint) == 0


def test_silent_callee_sends_100_after_200_ms_and_stops_the_retransmissions() -> None:
    """17.2.1: the 100 reaches the caller before its Timer A."""
    network, a, b = pair()
    a.send(a.request("INVITE", b), b)
    network.run(30)
    assert network.sent() == ["INVITE", "100 Trying"]


def test_lost_invite_is_sent_again() -> None:
    """17.1.1.2: the third copy gets through; the callee's user hears of one."""
    network, a, b = pair()
    network.link(a, b).lose = lambda line, number: number < 2
    ringing_then(b, 486, 3.0)
    a.send(a.request("INVITE", b), b)
    network.run(100)
    assert network.sent(a) == ["INVITE", "INVITE", "INVITE", "ACK"]
    assert b.methods() == ["INVITE"] and a.statuses() == [180, 486]


def test_lost_2xx_is_repeated_and_each_is_acknowledged() -> None:
    """13.3.1.4: the callee's user repeats the 200 until an ACK; the caller's user hears each and ACKs each."""
    network, a, b = pair()
    acknowledging(a, b)
    ringing_then(b, 200, 1.0)
    lost_finals = iter([True, True, False, False])
    network.link(b, a).lose = lambda line, number: line.startswith("200") and next(lost_finals, False)
    lost_acks = iter([True])
    network.link(a, b).lose = lambda line, number: line.startswith("ACK") and next(lost_acks, False)
    a.send(a.request("INVITE", b), b)
    network.run(100)
    assert network.sent(b) == ["180 Ringing"] + ["200 OK"] * 4
    assert a.statuses() == [180, 200, 200] and network.sent(a).count("ACK") == 2
    assert len(b.seen(AckReceived)) == 1
    assert len(a.endpoint) == len(b.endpoint) == 0


def test_lost_ack_of_a_failure_is_sent_again_by_the_transaction() -> None:
    """17.1.1.2, 17.2.1: Timer G repeats the 486, each repetition gets the ACK again, and no user hears of it."""
    network, a, b = pair()
    ringing_then(b, 486, 1.0)
    lost = iter([True, True])
    network.link(a, b).lose = lambda line, number: line.startswith("ACK") and next(lost, False)
    a.send(a.request("INVITE", b), b)
    network.run(100)
    assert network.sent(b).count("486 Busy Here") == 3 and network.sent(a).count("ACK") == 3
    assert a.statuses() == [180, 486] and b.seen(AckReceived) == [] and b.seen(TransactionTimedOut) == []


def test_all_acks_lost_ends_with_timer_h() -> None:
    """17.2.1: a failure that is never acknowledged is told after 64*T1."""
    network, a, b = pair()
    ringing_then(b, 486, 1.0)
    network.link(a, b).lose = lambda line, number: line.startswith("ACK")
    a.send(a.request("INVITE", b), b)
    network.run(200)
    assert [round(at) for at, event in b.events if isinstance(event, TransactionTimedOut)] == [33]
    assert len(a.endpoint) == len(b.endpoint) == 0


def test_lost_final_response_of_a_non_invite_comes_again_with_the_request() -> None:
    """17.2.2: it is the client's retransmission that fetches the lost answer; the user answers once."""
    network, a, b = pair()

    def answer(event: Event) -> None:
        if isinstance(event, RequestReceived):
            b.answer(event, 200)

    b.on_event = answer
    network.link(b, a).lose = lambda line, number: number < 3
    a.send(a.request("OPTIONS", b), b)
    network.run(100)
    assert b.methods() == ["OPTIONS"] and a.statuses() == [200]
    assert network.sent(a).count("OPTIONS") == 4 and network.sent(b).count("200 OK") == 4


def test_cancel_before_the_answer() -> None:
    """9.1, 9.2: CANCEL, its 200, the 487 and its ACK; the caller's user hears one final response."""
    network, a, b = pair()
    ringing_then(b, 200, 50.0)
    cancelling(b)
    tx = a.send(a.request("INVITE", b), b)
    network.at(1.0, lambda: a.cancel(tx))
    network.run(49)
    assert network.sent() == ["INVITE", "180 Ringing", "CANCEL", "200 OK", "487 Request Terminated", "ACK"]
    assert a.statuses() == [180, 487]


def test_cancel_asked_before_any_response_waits_for_one() -> None:
    """9.1: no CANCEL overtakes an INVITE that may not have arrived."""
    network, a, b = pair()
    network.link(a, b).lose = lambda line, number: number == 0
    ringing_then(b, 200, 50.0)
    cancelling(b)
    tx = a.send(a.request("INVITE", b), b)
    a.cancel(tx)
    network.run(49)
    assert network.sent(a) == ["INVITE", "INVITE", "CANCEL", "ACK"]
    assert a.statuses() == [180, 487]


@pytest.mark.parametrize("cancel_at", [1.985, 1.99, 1.995, 2.0, 2.005])
def test_cancel_crosses_the_200(cancel_at: float) -> None:
    """9.1, 15: CANCEL and 200 pass each other; whichever way, the caller's user hears one outcome and can clean up."""
    network, a, b = pair()
    acknowledging(a, b)
    ringing_then(b, 200, 2.0)
    cancelling(b)
    tx = a.send(a.request("INVITE", b), b)
    network.at(cancel_at, lambda: a.cancel(tx))
    network.run(200)
    final = [s for s in a.statuses() if s >= 200]
    assert final in ([200], [487])
    assert len(b.seen(AckReceived)) == (1 if final == [200] else 0)
    assert len(b.seen(CancelReceived)) == (0 if final == [200] else 1), "a CANCEL after the 200 is not told"
    assert network.sent(a).count("CANCEL") == 1
    assert len(a.endpoint) == len(b.endpoint) == 0


def test_180_that_comes_after_the_final_response_is_dropped() -> None:
    """17.1.1: a 180 that arrives after the final response changes nothing."""
    network, a, b = pair()
    ringing_then(b, 486, 0.02)
    network.link(b, a).delay_of = lambda line, number: 1.0 if line.startswith("180") else 0.01
    a.send(a.request("INVITE", b), b)
    network.run(100)
    assert a.statuses() == [486]


def test_peer_that_never_ends_a_cancelled_invite_is_given_up() -> None:
    """9.1: 64*T1 after the CANCEL the caller's user is told, whatever the callee does later."""
    network, a, b = pair()
    ringing_then(b, 200, 60.0)
    network.link(a, b).lose = lambda line, number: line.startswith("CANCEL")
    tx = a.send(a.request("INVITE", b), b)
    network.at(0.5, lambda: a.cancel(tx))
    network.run(50)
    assert [at for at, event in a.events if isinstance(event, TransactionTimedOut)] == [32.5]
    assert a.statuses() == [180]


def test_both_sides_hang_up_at_once() -> None:
    """BYE glare: two BYEs cross, both are answered, both transactions end."""
    network, a, b = pair()
    for host in (a, b):

        def answer(event: Event, host: Host = host) -> None:
            if isinstance(event, RequestReceived):
                host.answer(event, 200)

        host.on_event = answer
    a.send(a.request("BYE", b, cseq=2), b)
    b.send(b.request("BYE", a, cseq=3), a)
    network.run(100)
    assert a.statuses() == b.statuses() == [200]
    assert len(a.endpoint) == len(b.endpoint) == 0


@settings(max_examples=150, deadline=None)
@given(
    lost=st.sets(st.integers(0, 14)),
    lost_back=st.sets(st.integers(0, 14)),
    delays=st.lists(st.sampled_from([0.001, 0.05, 0.4, 0.9, 3.0]), min_size=1, max_size=8),
    answer=st.sampled_from([200, 486]),
    answer_at=st.sampled_from([0.0, 0.3, 2.0, 8.0]),
    cancel_at=st.sampled_from([None, 0.0, 0.31, 2.0, 2.05, 9.0]),
)
@example(lost=set(), lost_back=set(range(8)), delays=[0.001] * 6 + [0.9], answer=200, answer_at=0.0, cancel_at=None)
def test_any_loss_and_order(
    lost: set[int], lost_back: set[int], delays: list[float], answer: int, answer_at: float, cancel_at: float | None
) -> None:
    """Whatever is lost, late or out of order: one outcome each, one INVITE told, and nothing stays behind."""
    network, a, b = pair()
    acknowledging(a, b)
    ringing_then(b, answer, answer_at)
    cancelling(b)
    network.link(a, b).lose = lambda line, number: number in lost
    network.link(b, a).lose = lambda line, number: number in lost_back
    for link in network.links.values():
        # The last copy of an INVITE leaves at 63*T1, and the callee knows it for 64*T1 (17.1.1.2, 17.2.1, RFC 6026):
        # both assume that T1 is the round trip, so what is sent then may not stay away for longer.
        link.delay_of = lambda line, number: min(delays[number % len(delays)], 3.0 if network.now < 31 else 0.4)
    tx = a.send(a.request("INVITE", b), b)
    if cancel_at is not None:
        network.at(cancel_at, lambda: a.cancel(tx))
    network.run(600)
    finals = {s for s in a.statuses() if s >= 200}
    timeouts = a.seen(TransactionTimedOut)
    assert len(finals) + len(timeouts) == 1, network.log
    assert b.methods() in ([], ["INVITE"])
    assert len(b.seen(CancelReceived)) <= 1
    assert len(a.endpoint) == len(b.endpoint) == 0
