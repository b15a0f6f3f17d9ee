"""How long a call may be: the account's limit, the edge's, and emergencies (domain rules 7.4h, 7.4k)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from config.model import Account, Rows
from config.snapshot import Snapshot
from dialplan.model import CallAttempt, Direction, RoutePlan, Source, SourceKind, Target, TargetKind
from edge.b2bua import targeting
from edge.b2bua.call import CallTimers
from edge.b2bua.runner import CallRunner, _call_timers
from edge.b2bua.targets import BranchPlan, Prepared
from edge.b2bua.uas_leg import UasLeg
from edge.cdr.record import CallRecord
from edge.sip.headers import Headers
from edge.sip.message import Request
from edge.sip.transaction.key import TransactionId
from tests.unit.b2bua.fake_port import FLOW, SDP_A, SDP_B, FakePort, reply, request
from tests.unit.b2bua.test_finished_call import engine, settled
from tests.unit.b2bua.test_legs import IN_DIALOG, INVITE


@pytest.mark.parametrize(
    ("minutes", "direction", "seconds"),
    [
        (None, Direction.OUTBOUND, 14400),
        (30, Direction.OUTBOUND, 1800),
        (30, Direction.INBOUND, 1800),
        (600, Direction.OUTBOUND, 14400),
        (30, Direction.EMERGENCY, 14400),
    ],
)
def test_the_shorter_limit_holds_but_not_for_an_emergency(
    minutes: int | None, direction: Direction, seconds: float
) -> None:
    """The account's limit shortens that of the edge and never lengthens it; an emergency call has the edge's."""
    account = Account("K1", max_call_minutes=minutes)
    engine = SimpleNamespace(
        call_timers=CallTimers(longest=14400.0), snapshot=lambda: SimpleNamespace(accounts={"K1": account})
    )
    plan = SimpleNamespace(account="K1", direction=direction)
    assert _call_timers(cast(Any, engine), cast(Any, plan)).longest == seconds


BYE_REASON = 'Q.850;cause=31;text="Normal, unspecified"'


async def test_a_running_call_is_ended_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 7.4h: when the account's minutes are over both sides get a BYE with the cause; log and record have the same
    words, and the metric has the call."""
    port, records, counted = FakePort(), list[object](), list[tuple[object, ...]]()
    world = engine(port, records)
    provisioned = Snapshot(Rows(accounts=(Account("K1", max_call_minutes=30),)))
    world.snapshot = lambda: provisioned
    world.metrics.call_finished = lambda *values: counted.append(values)  # type: ignore[method-assign]
    invite = Request(
        "INVITE",
        "sip:bob@192.0.2.8",
        Headers([("Max-Forwards", "69"), ("From", "<sip:+49301@edge.example>"), ("To", "<sip:bob@edge.example>")]),
    )

    async def prepare(*values: object, **options: object) -> Prepared:
        return Prepared((BranchPlan("bob", FLOW, invite, "edge", SDP_A, None),))

    monkeypatch.setattr(targeting, "prepare", prepare)
    logged: dict[str, dict[str, object]] = {}
    log = SimpleNamespace(info=lambda event, **fields: logged.update({event: fields}))
    monkeypatch.setattr("edge.b2bua.runner.log", log)
    a = UasLeg(
        "a", port, FLOW, lambda leg, event: None, world.timers, request(INVITE.format(extra="Supported: x"), SDP_A),
        TransactionId(1),
    )  # fmt: skip
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
    call.start()
    await settled()
    tx, sent, handler = port.requests[0]
    handler.on_response(tx, reply(sent, 200, "far", SDP_B, Contact="<sip:bob@192.0.2.8>"))
    await settled()
    a.on_ack(request(IN_DIALOG.format(method="ACK", cseq=10)))

    timer = call._timers["longest"]
    assert timer.when() == 1800
    call._timer_fired("longest")
    await settled()
    byes = [asked for _, asked, _ in port.requests if asked.method == "BYE"]
    assert [bye.headers.get("reason") for bye in byes] == [BYE_REASON] * 2
    (record,) = records
    assert isinstance(record, CallRecord)
    assert (record.reason, record.released_by, record.outcome) == ("longest call time reached", "edge", "answered")
    assert len(counted) == 1
    assert logged["call.finished"]["reason"] == record.reason
