"""Timers A to M of RFC 3261 table 4 and RFC 6026 on a virtual clock, over unreliable and reliable transports."""

from __future__ import annotations

import pytest

from edge.sip.timers import TimerConfig, TimerQueue
from edge.sip.transaction.model import Input as I
from edge.sip.transaction.model import State as S

from .transaction_bench import TCP, UDP, Bench

DEFAULT = TimerConfig()


def times(log: list[tuple[float, str]], what: str) -> list[float]:
    return [at for at, name in log if name == what]


def test_timer_a_doubles_until_timer_b() -> None:
    """17.1.1.2: the INVITE is sent again at T1, 3*T1, 7*T1 … and the user is told at 64*T1."""
    bench = Bench("INVITE", True)
    log = bench.run(100)
    assert times(log, ">INVITE") == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert times(log, "TransactionTimedOut") == [32.0]
    assert bench.state is S.TERMINATED


def test_timer_a_never_runs_on_a_reliable_transport() -> None:
    """17.1.1.2: over TCP the INVITE is sent once; Timer B holds all the same."""
    bench = Bench("INVITE", True, TCP)
    assert bench.run(100) == [(32.0, "TransactionTimedOut")]


def test_provisional_response_stops_a_and_b() -> None:
    """17.1.1.2: in Proceeding nothing is repeated; the far end may ring for longer than 64*T1."""
    bench = Bench("INVITE", True)
    bench.run(0.7)
    bench.feed(180)
    bench.take()
    assert bench.run(150) == []
    assert bench.state is S.PROCEEDING


def test_timer_c_cancels_a_ringing_that_never_ends() -> None:
    """16.6, 16.8: over three minutes after the last provisional response a CANCEL leaves; 64*T1 later it is over."""
    bench = Bench("INVITE", True, TCP)
    bench.feed(180)
    bench.run(100)
    bench.feed(180)
    bench.take()
    log = bench.run(1000)
    assert times(log, ">CANCEL") == [290.0]
    assert times(log, "TransactionTimedOut") == [322.0]
    assert len(bench.layer) == 0


def test_cancel_waits_for_a_provisional_response_and_is_retransmitted_on_its_own() -> None:
    """9.1: no CANCEL before a provisional response; CANCEL is a transaction with timers E and F."""
    bench = Bench("INVITE", True)
    bench.feed(I.CANCEL)
    assert ">CANCEL" not in [name for _, name in bench.run(2.0)]
    bench.feed(180)
    assert bench.take() == (["CANCEL"], ["180"])
    log = bench.run(100)
    assert times(log, ">CANCEL") == [2.5, 3.5, 5.5, 9.5, 13.5, 17.5, 21.5, 25.5, 29.5, 33.5]
    assert times(log, "TransactionTimedOut") == [34.0], "told once, for the INVITE; the CANCEL has no user"
    assert len(bench.layer) == 0


@pytest.mark.parametrize(("flow", "seconds"), [(UDP, 32.0), (TCP, 0.0)], ids=["udp", "tcp"])
def test_timer_d(flow: object, seconds: float) -> None:
    """17.1.1.2: Completed lasts at least 32 s over UDP, 0 s over TCP; repeated failures get the ACK again."""
    assert isinstance(flow, type(UDP))
    bench = Bench("INVITE", True, flow)
    bench.feed(486)
    sent, events = bench.take()
    assert sent == (["INVITE", "ACK"]) and events == ["486"]
    assert bench.state is (S.COMPLETED if seconds else S.TERMINATED)
    bench.run(seconds - 0.001)
    bench.feed(486)
    assert bench.take() == ((["ACK"] if seconds else []), [])
    bench.run(seconds)
    assert bench.state is S.TERMINATED


@pytest.mark.parametrize("flow", [UDP, TCP], ids=["udp", "tcp"])
def test_timer_m(flow: object) -> None:
    """RFC 6026 section 7.2: 2xx reach the user for 64*T1 over any transport, then the transaction ends quietly."""
    assert isinstance(flow, type(UDP))
    bench = Bench("INVITE", True, flow)
    bench.feed(200)
    bench.run(31.9)
    bench.take()
    bench.feed(200)
    assert bench.take() == ([], ["200"])
    assert bench.run(40) == []
    assert bench.state is S.TERMINATED


def test_timer_e_doubles_up_to_t2_until_timer_f() -> None:
    """17.1.2.2: intervals T1, 2*T1, 4*T1, then T2; the user is told at 64*T1."""
    bench = Bench("OPTIONS", True)
    log = bench.run(100)
    assert times(log, ">OPTIONS") == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert times(log, "TransactionTimedOut") == [32.0]


def test_timer_e_runs_at_t2_after_a_provisional_response() -> None:
    """17.1.2.2: in Proceeding Timer E is set to T2 when it fires, and Timer F still ends it."""
    bench = Bench("OPTIONS", True)
    bench.run(0.2)
    bench.feed(100)
    bench.take()
    log = bench.run(100)
    assert times(log, ">OPTIONS") == [0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
    assert times(log, "TransactionTimedOut") == [32.0]


def test_timer_f_on_a_reliable_transport() -> None:
    """17.1.2.2: no Timer E over TCP."""
    assert Bench("OPTIONS", True, TCP).run(100) == [(32.0, "TransactionTimedOut")]


@pytest.mark.parametrize(("flow", "seconds"), [(UDP, 5.0), (TCP, 0.0)], ids=["udp", "tcp"])
def test_timer_k(flow: object, seconds: float) -> None:
    """17.1.2.2: Completed lasts T4 over UDP, 0 s over TCP; repeated responses stay inside."""
    assert isinstance(flow, type(UDP))
    bench = Bench("OPTIONS", True, flow)
    bench.feed(200)
    bench.take()
    assert bench.state is (S.COMPLETED if seconds else S.TERMINATED)
    bench.feed(200)
    assert bench.take() == ([], [])
    bench.run(seconds)
    assert bench.state is S.TERMINATED


def test_silent_user_is_spoken_for_after_200_ms() -> None:
    """17.2.1: 100 Trying when the user did not answer within 200 ms; once, without To tag."""
    bench = Bench("INVITE", False)
    bench.take()
    bench.now = 0.2
    bench.layer.handle_timer(0.2)
    (out,) = bench.layer.outgoing
    assert out.data.startswith(b"SIP/2.0 100 Trying\r\n")
    assert b"\r\nTo: <sip:bob@192.0.2.2>\r\n" in out.data
    bench.take()
    assert bench.run(1000) == []


def test_no_trying_where_the_user_answered() -> None:
    """17.2.1: a user that answers within 200 ms speaks for itself."""
    bench = Bench("INVITE", False)
    bench.run(0.1)
    bench.feed(180)
    bench.take()
    assert bench.run(10) == []


def test_timer_g_doubles_up_to_t2_until_timer_h() -> None:
    """17.2.1: a failure is sent at T1, 2*T1 … T2 until the ACK; at 64*T1 the user is told that none came."""
    bench = Bench("INVITE", False)
    bench.feed(486)
    bench.take()
    log = bench.run(100)
    assert times(log, ">486") == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert times(log, "TransactionTimedOut") == [32.0]
    assert bench.state is S.TERMINATED


def test_timer_h_on_a_reliable_transport() -> None:
    """17.2.1: no Timer G over TCP, Timer H all the same."""
    bench = Bench("INVITE", False, TCP)
    bench.feed(486)
    bench.take()
    assert bench.run(100) == [(32.0, "TransactionTimedOut")]


@pytest.mark.parametrize(("flow", "seconds"), [(UDP, 5.0), (TCP, 0.0)], ids=["udp", "tcp"])
def test_timer_i(flow: object, seconds: float) -> None:
    """17.2.1: after the ACK nothing is repeated, and repeated ACKs stay inside for T4, over TCP for 0 s."""
    assert isinstance(flow, type(UDP))
    bench = Bench("INVITE", False, flow)
    bench.feed(486)
    bench.feed(I.ACK)
    bench.take()
    assert bench.state is (S.CONFIRMED if seconds else S.TERMINATED)
    assert bench.run(seconds) == []
    assert bench.state is S.TERMINATED


@pytest.mark.parametrize("flow", [UDP, TCP], ids=["udp", "tcp"])
def test_timer_l(flow: object) -> None:
    """RFC 6026 section 7.1: after a 2xx, repeated INVITEs are absorbed for 64*T1; the user repeats the 2xx itself."""
    assert isinstance(flow, type(UDP))
    bench = Bench("INVITE", False, flow)
    bench.feed(200)
    bench.take()
    assert bench.run(31.9) == []
    bench.feed(I.REQUEST)
    assert bench.take() == ([], [])
    bench.feed(200)
    assert bench.take() == (["200"], [])
    bench.run(32.0)
    assert bench.state is S.TERMINATED


@pytest.mark.parametrize(("flow", "seconds"), [(UDP, 32.0), (TCP, 0.0)], ids=["udp", "tcp"])
def test_timer_j(flow: object, seconds: float) -> None:
    """17.2.2: repeated requests get the final response again for 64*T1 over UDP; over TCP it ends at once."""
    assert isinstance(flow, type(UDP))
    bench = Bench("OPTIONS", False, flow)
    bench.run(3)
    bench.feed(200)
    bench.take()
    assert bench.state is (S.COMPLETED if seconds else S.TERMINATED)
    bench.run(3 + seconds - 0.001)
    bench.feed(I.REQUEST)
    assert bench.take() == ((["200"] if seconds else []), [])
    bench.run(3 + seconds)
    assert bench.state is S.TERMINATED


@pytest.mark.parametrize("flow", [UDP, TCP], ids=["udp", "tcp"])
def test_request_that_nobody_answers_ends_with_its_client(flow: object) -> None:
    """RFC 4320 section 4.2: 64*T1 after a non-INVITE nobody waits for an answer; a late one is not sent."""
    assert isinstance(flow, type(UDP))
    bench = Bench("OPTIONS", False, flow)
    bench.take()
    assert bench.run(32) == []
    assert len(bench.layer) == 0
    bench.feed(200)
    assert bench.take() == ([], [])


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_ignored_request_stays_ignored(method: str) -> None:
    """Domain 7.4a: no answer at all, not even 100, while its retransmissions come; then it is forgotten."""
    bench = Bench(method, False)
    bench.feed(I.IGNORE)
    bench.take()
    bench.run(20)
    bench.feed(I.REQUEST)
    assert bench.take() == ([], [])
    assert bench.run(32) == []
    assert len(bench.layer) == 0


def test_all_lengths_follow_the_configuration() -> None:
    """Table 4: all intervals are made of T1, T2 and T4."""
    bench = Bench("OPTIONS", True, config=TimerConfig(t1=0.1, t2=0.3, t4=1.0))
    log = bench.run(100)
    assert times(log, ">OPTIONS")[:4] == [0.1, 0.3, 0.6, 0.9]
    assert times(log, "TransactionTimedOut") == [6.4]


@pytest.mark.parametrize("values", [{"t1": 0.0}, {"t1": 5.0}, {"t4": -1.0}, {"c": 0.0}])
def test_impossible_intervals_are_refused(values: dict[str, float]) -> None:
    """A configuration that would never time out, or at once, is an error."""
    with pytest.raises(ValueError, match="SIP timers"):
        TimerConfig(**values)


def test_queue_gives_timers_in_the_order_of_their_deadlines() -> None:
    """Equal deadlines fire in the order of their start; cancelled timers never."""
    queue: TimerQueue[str, str] = TimerQueue()
    queue.start(2.0, "c", "x")
    queue.start(1.0, "a", "x")
    gone = queue.start(0.5, "gone", "x")
    queue.start(1.0, "b", "y")
    queue.cancel(gone)
    queue.cancel(gone)
    assert len(queue) == 3
    assert queue.next_deadline() == 1.0
    assert queue.pop_due(0.9) is None
    assert [queue.pop_due(5.0) for _ in range(4)] == [("a", "x"), ("b", "y"), ("c", "x"), None]
    assert queue.next_deadline() is None


def test_cancelled_timers_hold_no_memory() -> None:
    """A call that ends early leaves long timers behind: they must not pile up until their time."""
    queue: TimerQueue[int, int] = TimerQueue()
    for n in range(10_000):
        queue.cancel(queue.start(1000.0 + n, n, n))
    assert len(queue._heap) < 1000
    assert len(queue) == 0
