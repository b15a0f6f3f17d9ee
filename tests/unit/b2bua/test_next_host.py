"""An INVITE that goes on from host to host (RFC 3263 section 4.3), against a port on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable

from edge.b2bua import events as ev
from edge.sip.flow import Address, Flow
from tests.unit.b2bua.fake_port import FLOW, SDP_B
from tests.unit.b2bua.test_legs import B

NEXT = Flow("udp", FLOW.local, Address("192.0.2.9", 5070))


class Hosts:
    """One more host, or `none`; a host that `hangs` is connected to when the test says so."""

    patience = 2.5
    several = True

    def __init__(self, left: int = 1, hangs: bool = False) -> None:
        self.left = left
        self.hangs = hangs
        self.then: Callable[[Flow | None], None] | None = None
        self.heard_of: list[str] = []

    @property
    def more(self) -> bool:
        return self.left > 0

    def next(self, then: Callable[[Flow | None], None]) -> None:
        self.left -= 1
        self.then = then
        if not self.hangs:
            then(NEXT)

    def silent(self, flow: Flow) -> None:
        self.heard_of.append("silent")

    def refused(self, flow: Flow, retry_after: float | None) -> None:
        self.heard_of.append(f"503 {retry_after}")

    def heard(self, flow: Flow) -> None:
        self.heard_of.append("heard")


def test_silent_host_is_left() -> None:
    """After its patience, not before; the other host gets the same INVITE with a Via of its own."""
    hosts = Hosts()
    b = B(hosts=hosts)
    b.port.advance(2.4)
    assert b.port.methods() == ["INVITE"]
    b.port.advance(2.6)
    assert b.port.methods() == ["INVITE", "INVITE"] and b.leg.flow == NEXT
    first, second = (sent[1] for sent in b.port.requests)
    assert second.headers.get("call-id") == first.headers.get("call-id") and second.body == first.body
    assert second.headers.get("cseq") == first.headers.get("cseq")
    assert [tx for tx, _ in b.port.cancels] == ["tx1"], "should it answer after all"
    b.hear(180, tx=1)
    b.hear(200, body=SDP_B, Contact="<sip:bob@192.0.2.8>", tx=1)
    assert b.events == [ev.Ringing("b1", 180), ev.Answered("b1", SDP_B)]
    assert hosts.heard_of == ["silent", "heard"]


def test_late_answer_of_a_host_that_was_left() -> None:
    """It is acknowledged and ended, whether the other one has answered or not; its failures are nobody's."""
    b = B(hosts=Hosts())
    b.port.advance(2.6)
    b.hear(200, tag="late", body=SDP_B, Contact="<sip:bob@192.0.2.8>", tx=0)
    assert b.port.methods() == ["INVITE", "INVITE", "BYE"] and len(b.port.acks) == 1
    assert b.port.last()[1].need("to").endswith("late")
    b.hear(487, tx=0)
    assert b.events == []
    b.hear(200, tag="right", body=SDP_B, Contact="<sip:bob@192.0.2.8>", tx=1)
    assert b.events == [ev.Answered("b1", SDP_B)]


def test_503_and_what_it_asks_for() -> None:
    """RFC 3263 section 4.3: 503 leads to the next host; the last one's is the outcome."""
    hosts = Hosts()
    b = B(hosts=hosts)
    b.hear(503, Retry_After="30")
    assert b.events == [] and b.port.methods() == ["INVITE", "INVITE"]
    b.hear(503, tx=1)
    assert b.events == [ev.Rejected("b1", 503, None, False)]
    assert hosts.heard_of == ["heard", "503 30.0", "heard", "503 None"] or hosts.heard_of[1] == "503 30.0"


def test_who_was_reached_stays() -> None:
    """Once somebody rings there is no other host; any final answer but 503 is the outcome."""
    b = B(hosts=Hosts())
    b.hear(100)
    b.port.advance(60)
    b.hear(180)
    b.hear(503)
    assert b.port.methods() == ["INVITE"] and b.events[-1] == ev.Rejected("b1", 503, None, False)
    busy = B(hosts=Hosts())
    busy.hear(486)
    assert busy.port.methods() == ["INVITE"] and busy.events == [ev.Rejected("b1", 486, None, False)]


def test_transport_failure() -> None:
    """An INVITE that could not be sent goes to the next host at once; without one it is no answer."""
    hosts = Hosts()
    b = B(hosts=hosts)
    tx, _, handler = b.port.requests[0]
    handler.on_no_response(tx)
    assert b.port.methods() == ["INVITE", "INVITE"]
    tx, _, handler = b.port.requests[1]
    handler.on_no_response(tx)
    assert b.events == [ev.Rejected("b1", 408, 102, True)]


def test_cancelled_between_two_hosts() -> None:
    """Nobody was asked yet: nobody is called, and the call learns that it is over."""
    hosts = Hosts(hangs=True)
    b = B(hosts=hosts)
    b.hear(503)
    b.leg.cancel(answered_elsewhere=False)
    assert b.port.cancels == [] and hosts.then is not None
    hosts.then(NEXT)
    assert b.port.methods() == ["INVITE"] and b.events == [ev.Rejected("b1", 487, None, False)]


def test_no_host_can_be_had() -> None:
    """The outcome is that of the host that was asked."""
    hosts = Hosts(hangs=True)
    b = B(hosts=hosts)
    b.port.advance(2.6)
    assert hosts.then is not None
    hosts.then(None)
    assert b.events == [ev.Rejected("b1", 408, 102, True)]
