"""What stays of a call that is over: enough to acknowledge a repeated answer, and nothing that keeps the call alive."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from config.snapshot import EMPTY
from dialplan.model import CallAttempt, Direction, RoutePlan, Source, SourceKind, Target, TargetKind
from edge.b2bua import targeting
from edge.b2bua.call import CallTimers
from edge.b2bua.calls import Calls
from edge.b2bua.engine import Engine
from edge.b2bua.runner import CallRunner
from edge.b2bua.targets import BranchPlan, Prepared
from edge.b2bua.uas_leg import UasLeg
from edge.defence.budgets import Budgets
from edge.sip.headers import Headers
from edge.sip.message import Request
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId
from media.relay.port import RelayStats
from tests.unit.b2bua.fake_port import FLOW, SDP_A, SDP_B, FakePort, reply, request
from tests.unit.b2bua.test_legs import IN_DIALOG, INVITE

BYE_OF_B = """
BYE sip:edge@127.0.0.1:5060 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.8;branch=z9hG4bKbye
From: <sip:bob@edge.example>;tag=far
To: <sip:+49301@edge.example>;tag=id2
Call-ID: {call_id}
CSeq: 1 BYE
Max-Forwards: 70
"""
NOW = datetime(2026, 5, 1, tzinfo=UTC)


class FakeSession:
    """Media that pass as they are; deleting it forgets whom to tell, as the relay's sessions do."""

    passive = False

    def __init__(self, on_timeout: Callable[[], None]) -> None:
        self._on_timeout: Callable[[], None] | None = on_timeout

    async def forward(self, sdp: bytes, origin: str, leg: str, **options: object) -> bytes:
        return sdp

    async def delete(self) -> RelayStats:
        self._on_timeout = None
        return RelayStats()


def engine(port: FakePort, records: list[object]) -> Engine:
    def fault(where: str, error: BaseException, **context: str) -> None:
        raise error

    def nothing(*values: object) -> None: ...

    return cast(
        Engine,
        SimpleNamespace(
            name="edge",
            port=port,
            calls=Calls(),
            timers=TimerConfig(),
            call_timers=CallTimers(),
            budgets=Budgets(lambda: NOW),
            internal_error=fault,
            snapshot=lambda: EMPTY,
            srtp_without_tls=False,
            wall=lambda at: None if at is None else NOW,
            clock=SimpleNamespace(utcnow=lambda: NOW),
            driver=SimpleNamespace(now=lambda: port.now),
            relay=SimpleNamespace(session=lambda call, on_timeout: FakeSession(on_timeout), bridges=False),
            channels=SimpleNamespace(release=nothing),
            carriers=None,
            metrics=SimpleNamespace(call_finished=nothing, heard=nothing),
            records=SimpleNamespace(put=records.append),
            tap=SimpleNamespace(link=nothing, keep=nothing),
        ),
    )


async def settled() -> None:
    """All tasks but this one are done."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


@pytest.mark.parametrize("hangs_up", ["caller", "called"])
async def test_call_is_gone_when_it_ends(monkeypatch: pytest.MonkeyPatch, hangs_up: str) -> None:
    """Reference counts alone free a finished call, while its legs still acknowledge the called side's repeated 200."""
    port, records = FakePort(), list[object]()
    world = engine(port, records)
    invite = Request(
        "INVITE",
        "sip:bob@192.0.2.8",
        Headers([("Max-Forwards", "69"), ("From", "<sip:+49301@edge.example>"), ("To", "<sip:bob@edge.example>")]),
    )

    async def prepare(*values: object, **options: object) -> Prepared:
        return Prepared((BranchPlan("bob", FLOW, invite, "edge", SDP_A, None),))

    monkeypatch.setattr(targeting, "prepare", prepare)
    a = UasLeg(
        "a", port, FLOW, _nobody, world.timers, request(INVITE.format(extra="Supported: x"), SDP_A), TransactionId(1)
    )
    call = CallRunner(
        "call1",
        world,
        a,
        CallAttempt(Source(SourceKind.CARRIER, "carrier"), ()),
        RoutePlan(Direction.INBOUND, (Target(TargetKind.SEAT, "bob"),), "+4930123", "K1", "K1"),
    )
    a.listen(call.post)
    world.calls.add(call)
    world.calls.add_leg(a)
    gc.collect()
    gc.disable()
    try:
        call.start()
        await settled()
        tx, sent, handler = port.requests[0]
        answer = reply(sent, 200, "far", SDP_B, Contact="<sip:bob@192.0.2.8>")
        handler.on_response(tx, answer)
        await settled()
        assert port.statuses()[-1] == 200
        a.on_ack(request(IN_DIALOG.format(method="ACK", cseq=10)))
        if hangs_up == "caller":
            a.on_request(TransactionId(2), request(IN_DIALOG.format(method="BYE", cseq=11)), FLOW)
        else:
            call.legs["b1"].on_request(TransactionId(2), request(BYE_OF_B.format(call_id=sent.call_id)), FLOW)
        await settled()
        assert len(records) == 1
        alive = weakref.ref(call.media)  # which nobody else holds
        del call
        assert alive() is None
    finally:
        gc.enable()
    handler.on_response(tx, answer)
    assert [ack.body for ack in port.acks] == [b"", b""]
    assert port.acks[0].uri == port.acks[1].uri == "sip:bob@192.0.2.8"


def _nobody(leg: str, event: object) -> None: ...


def test_only_who_moved_is_followed() -> None:
    """Two seats behind one proxy share a flow; what is sent to the one that registers another way goes there, what is
    sent to the other does not."""
    port, calls, elsewhere = FakePort(), Calls(), FLOW._replace(connection=7)
    heard: list[str] = []
    legs = {
        leg_id: UasLeg(
            leg_id,
            port,
            FLOW,
            lambda leg, event: heard.append(leg),
            TimerConfig(),
            request(INVITE.format(extra="Supported: x"), SDP_A),
            TransactionId(1),
        )
        for leg_id in ("a", "b1")
    }
    parties = {"a": ("seat", "alice"), "b1": ("seat", "bob")}
    calls.add(cast(CallRunner, SimpleNamespace(id="call1", legs=legs, party=parties.__getitem__)))
    calls.move("seat", "bob", FLOW, elsewhere)
    assert (legs["a"].flow, legs["b1"].flow) == (FLOW, elsewhere)
    assert heard == ["b1"], "who keeps the leg is told"
    calls.move("trunk", "alice", FLOW, elsewhere)
    calls.move("seat", "alice", elsewhere, FLOW)
    assert (legs["a"].flow, legs["b1"].flow) == (FLOW, elsewhere)
