"""Calls from carriers on the wire: where the number stands, in which format, whose it is, and where it leads."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from plan_world import (
    ABROAD,
    ADDRESSES,
    CALLER,
    LENT,
    LENT_TO_SEAT,
    SITE,
    PlanWorld,
)

pytestmark = pytest.mark.sipp

DESK = "+4930777100"
FORMATS = ("+4930777100", "004930777100", "4930777100", "030777100", "30777100")
"""One number as carriers write it."""


# -- D: which number is called ----------------------------------------------------------------------------------------


def assert_all_reach_the_desk(plan: PlanWorld, rows: Sequence[str], **values: object) -> None:
    """The carrier `second` calls once for each row, which `[field0]` in the values stands for."""
    marks = plan.marks()
    values = {"caller": CALLER, "from_host": "far.example", **values}
    plan.batch("uac_basic", [(row,) for row in rows], address=ADDRESSES["second"], **values)
    seen = plan.since(marks)
    assert len(seen["desk.one"].requests("INVITE", "in")) == len(rows)


def test_every_format_in_the_request_uri(plan: PlanWorld) -> None:
    """D1, T1.10: five formats reach the same seat, with user=phone too, then also with separators."""
    assert_all_reach_the_desk(plan, FORMATS, called="[field0]", to_user="x")
    phone = [*FORMATS, "+49%2030%20777100", "+49-30-777.100"]
    assert_all_reach_the_desk(plan, phone, called="[field0]", to_user="x", uri_parameters=";user=phone")


def test_every_format_in_to(plan: PlanWorld) -> None:
    """D1, T1.11: the account in the Request-URI, the number in To."""
    assert_all_reach_the_desk(plan, FORMATS, called="KXXXabcd", to_user="[field0]")


def test_every_format_in_p_called_party_id(plan: PlanWorld) -> None:
    """D1: P-Called-Party-ID is read before the Request-URI, which may hold another number of ours."""
    header = "P-Called-Party-ID: <sip:[field0]@ims.example>"
    assert_all_reach_the_desk(plan, FORMATS, called="+4930777102", headers=header)


def test_places_follow_the_carrier(plan: PlanWorld) -> None:
    """T1.11: a place that the profile does not name is not read."""
    with plan.changed("carriers", "name", "second", ddi_source=["to"]):
        assert plan.come_in("second", "KXXXabcd", to_user="004930777100").reached == ["desk.one"]
        plan.come_in("second", DESK, to_user="KXXXabcd", status=404)
    with plan.changed("carriers", "name", "second", ddi_source=["request-uri"]):
        plan.come_in("second", "KXXXabcd", to_user=DESK, status=404)


def test_number_of_another_carrier(plan: PlanWorld) -> None:
    """D2, T1.12: 404, a warning in the log that names the number, and the reason in the record."""
    mark = plan.edge.mark
    seen = plan.come_in("third", DESK, status=404)
    assert seen.reached == []
    (event,) = plan.edge.events("call.refused", mark)
    assert (event["level"], event["reason"]) == ("warning", "number-of-other-carrier")
    assert plan.record(seen.call)["reason"] == "number-of-other-carrier"


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("+4930777103", "number-pending"),
        ("+4930777104", "number-cancelled"),
        ("+4930777105", "number-not-yet-valid"),
        ("+4930777106", "no-route"),
        ("+4930777199", "unknown-number"),
        ("+4922877799", "unknown-number"),
        ("+4922877715", "number-pending"),
    ],
)
def test_numbers_that_are_not_routed(plan: PlanWorld, number: str, reason: str) -> None:
    """D3 to D5, R1: pending, cancelled, dated, without a route, unknown, free in a block, a pending range: 404."""
    seen = plan.come_in("second", number, status=404)
    assert seen.reached == []
    assert plan.record(seen.call)["reason"] == reason


# -- R: where calls go ------------------------------------------------------------------------------------------------


def test_seat(plan: PlanWorld) -> None:
    """R1: a seat gets the caller in From, nothing of ours in the way of identities."""
    seen = plan.come_in("second", DESK, from_display='"Erika Muster" ')
    invite = seen.at("desk.one")
    assert invite.header("From").startswith(f'"Erika Muster" <sip:{CALLER}@')
    assert not [n for n in ("P-Asserted-Identity", "P-Preferred-Identity", "Diversion") if invite.header(n)]


@pytest.mark.parametrize("number", [SITE, "+4922877705", LENT])
def test_trunk(plan: PlanWorld, number: str) -> None:
    """R1: a PBX gets the full number in the Request-URI and To, also out of a range, also one lent to its account."""
    carrier = "pai-from" if number == SITE else "second"
    invite = plan.come_in(carrier, number).at("hq-k1001")
    assert invite.request_uri.startswith(f"sip:{number}@")
    assert invite.header("To").startswith(f"<sip:{number}@")


def test_extension(plan: PlanWorld) -> None:
    """R2: the number leads to an internal number."""
    assert plan.come_in("second", "+4930777101").reached == ["desk.one"]


def test_reject(plan: PlanWorld) -> None:
    """R4: the route's own status."""
    seen = plan.come_in("second", "+4930777102", status=410)
    assert plan.record(seen.call)["reason"] == "rejected-by-route"


def test_forward_takes_two_channels(plan: PlanWorld) -> None:
    """R3: out over a carrier, and both legs count for account and carrier (O5)."""
    seen = plan.come_in("second", "+4930777107")
    assert len(seen.reached) == 1
    record = plan.record(seen.call)
    text = str(record["trace"])
    assert "L1" in text and "account K1001 total 1 of 30" in text
    assert record["target_kind"] == "carrier"
    with plan.changed("accounts", "id", "K1001", parallel_calls=1):
        refused = plan.come_in("second", "+4930777107", status=486)
        assert "account K1001: 1 of 1 channels are in use" in str(plan.record(refused.call)["trace"])
        assert plan.come_in("second", DESK).reached == ["desk.one"]


def test_busy(plan: PlanWorld) -> None:
    """R5 on_busy: the next seat rings, and the caller hears only that."""
    seen = plan.come_in("second", "+4930777110")
    assert set(seen.reached) == {"desk.busy", "desk.one"}
    assert [m.status for m in seen.caller.responses(method="INVITE")] == [100, 180, 200]
    assert plan.record(seen.call)["target_name"] == "desk.one"


def test_no_answer(plan: PlanWorld) -> None:
    """R5 on_no_answer: after the number's seconds the first phone stops ringing and the next rings."""
    seen = plan.come_in("second", "+4930777111")
    assert set(seen.reached) == {"desk.slow", "desk.one"}
    assert seen.stations["desk.slow"].requests("CANCEL", "in")


def test_unreachable(plan: PlanWorld) -> None:
    """R5 on_unreachable: nobody is registered, so the call goes out, and the carrier learns why."""
    seen = plan.come_in("second", "+4930777112")
    (carrier,) = seen.reached
    invite = seen.at(carrier)
    assert "reason=unavailable" in invite.header("Diversion")
    assert ABROAD.lstrip("+") in invite.request_uri
    assert ";cause=503>;index=1.1;mp=1" in invite.header("History-Info")


def test_not_registered(plan: PlanWorld) -> None:
    """Without a next route the failure stands."""
    seen = plan.come_in("second", "+4930777109", status=480)
    assert "Q.850;cause=20" in seen.caller.responses(480)[0].header("Reason")


def test_next_route_rejects(plan: PlanWorld) -> None:
    """R4 as a next route: its status, not that of the busy phone."""
    seen = plan.come_in("second", "+4930777114", status=480)
    assert seen.reached == ["desk.busy"]
    assert plan.record(seen.call)["reason"] == "rejected-by-route"


def test_next_routes_run_in_no_circle(plan: PlanWorld) -> None:
    """R6: busy leads to a seat that is away, which leads back: nobody rings twice."""
    seen = plan.come_in("second", "+4930777115", status=480)
    assert seen.reached == ["desk.busy"]
    assert len(seen.stations["desk.busy"].requests("INVITE", "in")) == 1


@pytest.mark.parametrize(
    "headers", [["Diversion: <sip:+4930777107@x>;privacy=full"], ["Diversion: <sip:030777107@x>", "Privacy: user; id"]]
)
def test_forward_to_a_forwarder(plan: PlanWorld, headers: list[str]) -> None:
    """R6: a number that forwarded this call already is not forwarded to, though it or the caller stays unknown."""
    seen = plan.come_in("second", "+4930777118", status=482, headers=headers)
    assert plan.record(seen.call)["reason"] == "route-loop"


def test_cross_account_number(plan: PlanWorld) -> None:
    """A2, F1, F2: routed in the account that uses it, billed to the one that has it."""
    record = plan.record(plan.come_in("second", LENT_TO_SEAT).call)
    assert (record["account"], record["billed_account"]) == ("K1001", "K3001")
    with plan.changed("accounts", "id", "K3001", status="suspended"):
        assert plan.record(plan.come_in("second", LENT_TO_SEAT, status=403).call)["reason"] == "account-suspended"
    assert plan.come_in("second", LENT).reached == ["hq-k1001"]
    with plan.changed("numbers", "number", LENT, served_account=None, route_kind="none", route_target=None):
        assert plan.come_in("second", LENT, status=404).reached == []


# -- I: who calls -----------------------------------------------------------------------------------------------------

WITHHELD: list[dict[str, object]] = [
    {"caller": "anonymous", "from_host": "anonymous.invalid", "from_display": '"Anonymous" '},
    {"headers": ["Privacy: id", f"P-Asserted-Identity: <sip:{CALLER}@far.example>"]},
    {"headers": ["Privacy: user; id"], "from_display": '"Erika" '},
    {"headers": ["Privacy: header", "Diversion: <sip:+4930111111@far>;reason=user-busy"]},
]


@pytest.mark.parametrize("says", WITHHELD, ids=["anonymous", "id", "two-values", "header"])
@pytest.mark.parametrize(("number", "station"), [(DESK, "desk.one"), ("+4922877705", "hq-k1001")])
def test_withheld_callers(plan: PlanWorld, number: str, station: str, says: dict[str, object]) -> None:
    """I2, domain 2.5: neither phones nor PBXs, nor the record, learn who called, or who forwarded."""
    seen = plan.come_in("second", number, **says)  # type: ignore[arg-type]
    got = seen.stations[station].received_text()
    assert 'From: "Anonymous" <sip:anonymous@anonymous.invalid>' in got
    assert seen.at(station).header("Privacy") == "id"
    for secret in (CALLER[3:], "Erika", "30111111", "far.example"):
        assert secret not in got
    record = plan.record(seen.call)
    assert record["caller_withheld"] is True
    assert CALLER[3:] not in str({k: v for k, v in record.items() if k != "a_call_id"})


def test_unknown_caller_is_not_withheld(plan: PlanWorld) -> None:
    """I3, I4: a caller without a number reaches a seat that takes no withheld calls."""
    seen = plan.come_in("second", "+4930777108", caller="unavailable", from_host="unknown.invalid")
    assert seen.at("desk.shy").header("From").startswith("<sip:unavailable@unknown.invalid>")


@pytest.mark.parametrize("says", WITHHELD, ids=["anonymous", "id", "two-values", "header"])
def test_seat_that_takes_no_withheld_calls(plan: PlanWorld, says: dict[str, object]) -> None:
    """I4: 433 Anonymity Disallowed, and the phone stays silent."""
    seen = plan.come_in("second", "+4930777108", status=433, **says)  # type: ignore[arg-type]
    assert seen.reached == []
    assert plan.record(seen.call)["reason"] == "anonymous-rejected"


@pytest.mark.parametrize("caller", ["110", "112", "+49110", "0900123456", "+49900123456", "0137123456", "+4911833"])
def test_numbers_that_never_call(plan: PlanWorld, caller: str) -> None:
    """I1, T2.3: refused and told to the operator, from From or P-Asserted-Identity, withheld or not."""
    mark = plan.edge.mark
    plan.come_in("second", DESK, status=403, caller=caller)
    asserted = [f"P-Asserted-Identity: <sip:{caller}@far>", "Privacy: id"]
    plan.come_in("second", DESK, status=403, headers=asserted)
    events = plan.edge.events("call.refused", mark)
    assert [(e["level"], e["reason"]) for e in events] == [("warning", "caller-not-allowed")] * 2


def test_forwarders_reach_pbxs_alone(plan: PlanWorld) -> None:
    """A PBX learns who forwarded, a phone does not, and nobody learns of a private forwarder."""
    headers = ["Diversion: <sip:+4930222222@far>;privacy=full, <sip:+4930111111@far>;reason=user-busy"]
    assert "30111111" not in plan.come_in("second", DESK, headers=headers).stations["desk.one"].received_text()
    invite = plan.come_in("second", "+4922877705", headers=headers).at("hq-k1001")
    told = [d.partition("@")[0] for d in invite.headers("Diversion")]
    assert told == ["<sip:anonymous", "<sip:+4930111111"]
