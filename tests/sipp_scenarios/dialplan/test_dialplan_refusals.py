"""A refusal is one value with four mouths: the SIP answer, the log line, the metric and the record say the same.

And the limits that refuse, as far as one edge counts them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest
from peers.process import poll
from peers.sipp import Sipp
from plan_world import ABROAD, ADDRESSES, CALLER, UK_14, PlanWorld, Seens

from edge.sip.causes import REFUSALS

pytestmark = pytest.mark.sipp

DESK = "+4930777100"


@dataclass(frozen=True)
class Case:
    """A call that is refused: by whom it is made, what it calls, and what is provisioned otherwise meanwhile."""

    reason: str
    called: str
    phone: str = ""
    changes: tuple[tuple[str, str, str, dict[str, object]], ...] = ()
    status: int = 0
    values: dict[str, object] = field(default_factory=dict)
    carrier: str = "second"
    limit: tuple[str, int, int] | None = None
    """Level, limit, use."""


def account(**columns: object) -> tuple[str, str, str, dict[str, object]]:
    return ("accounts", "id", "K1001", columns)


CASES = [
    Case("unknown-number", "+4930777199"),
    Case("number-pending", "+4930777103"),
    Case("number-cancelled", "+4930777104"),
    Case("number-not-yet-valid", "+4930777105"),
    Case("number-of-other-carrier", DESK, carrier="third"),
    Case("no-route", "+4930777106"),
    Case("rejected-by-route", "+4930777102", status=410),
    Case("not-registered", "+4930777109"),
    Case("account-suspended", DESK, changes=(account(status="suspended"),)),
    Case("trunk-planned", "+4922877705", changes=(("trunks", "name", "hq", {"valid_from": "2040-01-01"}),)),
    Case("anonymous-rejected", "+4930777108", values={"headers": ["Privacy: id"]}),
    Case("caller-not-allowed", DESK, values={"caller": "0900123456"}),
    Case("too-many-hops", DESK, values={"headers": [f"Diversion: <sip:+493011111{n}@far>" for n in range(6)]}),
    Case("route-loop", "+4930777118", values={"headers": ["Diversion: <sip:+4930777107@far>"]}),
    Case("address-incomplete", "141", "a.mueller"),
    Case("unknown-code", "*99", "a.mueller"),
    Case("destination-not-allowed", "+12125550123", "a.mueller"),
    Case("cli-not-available", "14442036427900", "j.smith", (("numbers", "number", UK_14, {"status": "pending"}),)),
    Case("account-limit", ABROAD, "a.mueller", (account(parallel_calls=0),), 503, limit=("account", 0, 0)),
    Case("account-limit", DESK, changes=(account(parallel_calls=0),), limit=("account", 0, 0)),
    Case("account-limit", "+4930777107", changes=(account(parallel_calls=1),), limit=("account", 1, 1)),
    Case(
        "number-limit", DESK, changes=(("numbers", "number", DESK, {"channels": 0}),), limit=("number", 0, 0)
    ),
    Case(
        "number-limit", "+4930777117", status=480, limit=("number", 0, 0),
        changes=(("numbers", "number", "+4930777117", {"channels": 0}),),
    ),
    Case(
        "trunk-limit", "+4922877705", changes=(("trunks", "name", "hq", {"parallel_calls_in": 0}),),
        limit=("trunk", 0, 0),
    ),
    Case(
        "carrier-limit", DESK, changes=(("carriers", "name", "second", {"max_calls_in": 0}),),
        limit=("carrier", 0, 0),
    ),
]  # fmt: skip


def make(plan: PlanWorld, case: Case) -> Seens:
    """The call of a case, refused as its reason is answered."""
    status = case.status or REFUSALS[case.reason][0]
    with ExitStack() as stack:
        for table, key, value, columns in case.changes:
            stack.enter_context(plan.changed(table, key, value, **columns))
        if case.phone:
            seen = plan.dial(case.phone, case.called)
            assert seen.status == status
            return seen
        return plan.come_in(case.carrier, case.called, status=status, **case.values)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES, ids=[f"{c.reason}-{c.phone or c.carrier}-{c.called}" for c in CASES])
def test_four_mouths(plan: PlanWorld, case: Case) -> None:
    """docs/refusals.md: SIP answer, log line, metric, record and row of refused calls have one reason."""
    counted = f'sip_edge_refusals_total{{reason="{case.reason}"}}'
    before, mark = plan.edge.metrics().get(counted, 0), plan.edge.mark
    seen = make(plan, case)
    assert seen.reached == []

    status, q850 = REFUSALS[case.reason]
    status = case.status or status
    cause = f"Reason: Q.850;cause={34 if case.status == 503 else q850};"
    if case.phone:
        _, ladder = plan.edge.get(f"/trace/{seen.call}")
        answer = ladder.partition(f"SIP/2.0 {status} ")[2]
        assert cause in answer
    else:
        (final,) = [m for m in seen.caller.responses(method="INVITE") if m.status >= 300]
        assert final.status == status
        assert cause in final.text
    (event,) = plan.edge.events("call.refused", mark)
    assert (event["reason"], event["sip_status"]) == (case.reason, status)
    assert plan.edge.metrics()[counted] == before + 1

    record = plan.record(seen.call)
    assert (record["outcome"], record["reason"], record["sip_status"]) == ("refused", case.reason, status)
    assert (record["released_by"], record["id"]) == ("edge", event["call"])
    row = refusal(plan, str(event["call"]))
    assert (row["reason"], row["sip_status"]) == (case.reason, status)
    assert row["direction"] == ("outbound" if case.phone else "inbound")
    if case.limit is not None:
        assert (row["level"], row["limit_value"], row["used"]) == case.limit
        assert (event["limit_level"], event["limit"], event["used"]) == case.limit
        shown = plan.edge.command("refusals", "--since", "1h", "--limits").stdout
        assert f"{case.limit[2]}/{case.limit[1]}" in shown and "for want of a channel" in shown
    else:
        assert row["level"] is None
    assert row["caller_withheld"] is (case.reason == "anonymous-rejected")
    if row["caller_withheld"]:
        assert row["caller"] is None


def refusal(plan: PlanWorld, call: str) -> dict[str, object]:
    """The row of refused calls of this call, once it is there."""
    found: list[dict[str, object]] = []

    def written() -> bool:
        status, body = plan.edge.get("/refusals?since=1h")
        assert status == 200, body
        found[:] = [row for row in json.loads(body) if row["id"] == call]
        return bool(found)

    poll(written, f"the refusal of call {call} is listed")
    return found[0]


# -- limits -----------------------------------------------------------------------------------------------------------


@contextmanager
def ringing(plan: PlanWorld, number: str, count: int) -> Iterator[None]:
    """So many calls that ring at a phone which never answers, until their carrier gives them up."""
    marks = plan.marks()
    caller = Sipp(
        "uac_cancel_after_180", plan.folder / "ringing", remote=plan.edge.server(), address=ADDRESSES["second"],
        calls=count, rate=50, called=number, caller=CALLER, ring_ms=1200,
    )  # fmt: skip
    try:
        poll(
            lambda: len(plan.stations["desk.slow"].since(marks["desk.slow"]).requests("INVITE", "in")) == count,
            f"{count} calls ring",
        )
        yield
        caller.wait()
    finally:
        caller.stop()
    plan.since(marks)


def refused(plan: PlanWorld, number: str, status: int) -> dict[str, object]:
    """A call from outside gets this status; its row among the refused calls."""
    logged = plan.edge.mark
    plan.batch("uac_refused", [()], address=ADDRESSES["second"], called=number, caller=CALLER, status=status)
    return refusal(plan, plan.call_since(logged, "call.refused"))


def test_a_number_has_its_channels(plan: PlanWorld) -> None:
    """T5.3: while two calls ring at a number with two channels the third is busy; a CANCEL makes room again."""
    with ringing(plan, "+4930777116", 2):
        row = refused(plan, "+4930777116", 486)
        assert (row["level"], row["number"], row["limit_value"], row["used"]) == ("number", "+4930777116", 2, 2)
        assert row["caller"] == CALLER
    with ringing(plan, "+4930777116", 2):
        pass


def test_overflow(plan: PlanWorld) -> None:
    """R5 on_limit: while the only channel is in use the next route takes the call, without a channel of the number."""
    with ringing(plan, "+4930777113", 1):
        marks = plan.marks()
        plan.batch("uac_basic", [()], address=ADDRESSES["second"], called="+4930777113", caller=CALLER)
        assert plan.stations["desk.one"].since(marks["desk.one"]).requests("INVITE", "in")
    with ringing(plan, "+4930777117", 1):
        row = refused(plan, "+4930777117", 480)
        assert (row["reason"], row["level"], row["sip_status"]) == ("number-limit", "number", 480)


def test_each_number_of_a_range_has_channels_of_its_own(plan: PlanWorld) -> None:
    """5.1: `channels` of a range holds for each of its numbers."""
    with (
        plan.changed("ranges", "prefix", "+492287770", route_kind="seat", route_target="desk.slow", channels=1),
        ringing(plan, "+4922877701", 1),
    ):
        assert refused(plan, "+4922877701", 486)["level"] == "number"
        with ringing(plan, "+4922877702", 1):
            pass


def test_lowering_a_limit_drops_no_call(plan: PlanWorld) -> None:
    """Domain 5.10: running calls stay, the next is refused; who hangs up makes room."""
    phone = plan.phones["a.mueller"]
    mark = phone.mark
    phone.dial(f"sip:{ABROAD}@{plan.edge.server()}")
    phone.wait_established(after=mark)
    with plan.changed("accounts", "id", "K1001", parallel_calls=1):
        assert refused(plan, DESK, 486)["level"] == "account"
        assert [row["state"] for row in plan.edge.rows("calls")] == ["up"]
        live = plan.edge.command("why", str(plan.edge.rows("calls")[0]["id"])).stdout
        assert " outbound, is up since " in live and "L1   channels: account K1001 total 1 of 30" in live
        assert "      P-Asserted-Identity: <sip:" in live
        phone.hangup()
        phone.wait_closed(after=mark)
        poll(lambda: not plan.edge.rows("calls"), "the call is over")
        assert plan.come_in("second", DESK).reached == ["desk.one"]


def test_emergency_at_every_limit(plan: PlanWorld) -> None:
    """T2.7: 112 rings with no channel left anywhere, and is not counted."""
    none = {"max_calls": 0, "max_calls_out": 0, "max_cps": None}
    with ExitStack() as stack:
        for carrier in ("pai-from", "second", "third", "uk"):
            stack.enter_context(plan.changed("carriers", "name", carrier, **none))
        stack.enter_context(plan.changed("accounts", "id", "K1001", parallel_calls=0))
        assert plan.dial("a.mueller", ABROAD).status == 503
        seen = plan.dial("a.mueller", "112")
    assert seen.status == 200
    assert "L1" not in str(plan.record(seen.call)["trace"])


def test_carrier_overflow(plan: PlanWorld) -> None:
    """T5.9, 5.1: a carrier at its limit is left for the next by priority; where none is left, 503 with cause 34."""
    with plan.changed("carriers", "name", "pai-from", max_calls_out=0):
        seen = plan.dial("a.mueller", "141" + ABROAD[1:])
        assert (seen.status, seen.reached) == (200, ["second"])
        assert "carrier pai-from: 0 of 0 channels are in use" in str(plan.record(seen.call)["trace"])
        with ExitStack() as stack:
            for name in ADDRESSES:
                if name != "pai-from":
                    stack.enter_context(plan.changed("carriers", "name", name, max_calls_out=0))
            seen = plan.dial("a.mueller", "141" + ABROAD[1:])
        row = refusal(plan, seen.call)
        assert (seen.status, seen.reached) == (503, [])
        assert (row["reason"], row["level"], row["limit_value"]) == ("carrier-limit", "carrier", 0)
        assert 'Reason: Q.850;cause=34;text="No circuit' in plan.edge.get(f"/trace/{seen.call}")[1]
