"""Which number a carrier calls: domain 1.6, T1.10 to T1.12, T6.10; status and dates."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from config.model import NumberStatus
from config.snapshot import Snapshot
from dialplan.engine import decide
from dialplan.model import CallAttempt, Called, Caller, Reason, Source, SourceKind, TargetKind
from tests.unit.dialplan.world import (
    DE,
    NOW,
    NUMBERS,
    SEAT_DE,
    TOMORROW,
    WORLD,
    changed,
    incoming,
    plan,
    refusal,
    with_row,
)

FORMS = ["+4922838650", "004922838650", "4922838650", "022838650", "22838650"]


def call(carrier: str, *called: Called) -> CallAttempt:
    return CallAttempt(Source(SourceKind.CARRIER, carrier), called, Caller("+4915112345678"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_phone", [False, True])
def test_every_format_reaches_the_same_seat(form: str, is_phone: bool) -> None:
    """T1.10: the same DDI in five forms, with and without user=phone."""
    decided = plan(decide(call("telekom", Called("request-uri", form, is_phone)), WORLD, NOW))
    assert (decided.called, decided.targets[0].name, decided.number) == ("+4922838650", SEAT_DE, "+4922838650")


@pytest.mark.parametrize("form", ["+49 228 386-50", "(0228) 386.50", "+49(228)38650", "+4922838650;phone-context=x"])
def test_visual_separators_are_cut_for_phone_uris_only(form: str) -> None:
    """Domain 1.6-34: separators belong to tel: and user=phone; elsewhere they are part of a name."""
    assert plan(decide(call("telekom", Called("request-uri", form, True)), WORLD, NOW)).called == "+4922838650"
    if ";" not in form:
        assert refusal(decide(call("telekom", Called("request-uri", form)), WORLD, NOW)).reason is Reason.UNKNOWN_NUMBER


def test_foreign_number_in_bare_digits() -> None:
    """A number of another country than the carrier's home is found in E.164 without +."""
    world = Snapshot(with_row("numbers", "+442088198786", carrier="telekom"))
    assert plan(decide(call("telekom", Called("request-uri", "442088198786")), world, NOW)).called == "+442088198786"


def test_place_follows_the_carrier() -> None:
    """T1.11: Request-URI is the account and To the DDI, only where the carrier's ddi_source says so."""
    nfon = call("nfon", Called("request-uri", "KXXXabcd"), Called("to", "00493087654321"))
    assert plan(decide(nfon, WORLD, NOW)).called == "+493087654321"
    uri_only = Snapshot(with_row("carriers", "nfon", ddi_source=("request-uri",)))
    assert refusal(decide(nfon, uri_only, NOW)).reason is Reason.UNKNOWN_NUMBER


def test_p_called_party_id_wins_by_default() -> None:
    """Domain 1.6-33: P-Called-Party-ID, Request-URI, To in this order; places without our numbers are passed over."""
    all_three = call(
        "telekom",
        Called("p-called-party-id", "+4922838651"),
        Called("request-uri", "+4922838650"),
        Called("to", "+4922838699"),
    )
    assert plan(decide(all_three, WORLD, NOW)).called == "+4922838651"
    opaque = call("telekom", Called("request-uri", "x7f3a"), Called("to", "+4922838651"))
    assert plan(decide(opaque, WORLD, NOW)).called == "+4922838651"


def test_number_of_another_carrier_is_never_routed() -> None:
    """T1.12: a DDI that came in over a carrier that does not have it: refused, with its own reason for the alarm."""
    refused = refusal(decide(incoming("+442088198786", "telekom"), WORLD, NOW))
    assert refused.reason is Reason.NUMBER_OF_OTHER_CARRIER
    assert refused.trace.steps[-1].rule == "D2"


def test_second_place_counts_where_the_first_is_foreign() -> None:
    """A foreign number in one place does not hide our number in the next."""
    attempt = call("telekom", Called("request-uri", "+442088198786"), Called("to", "+4922838650"))
    assert plan(decide(attempt, WORLD, NOW)).called == "+4922838650"


def test_free_part_of_a_block_is_not_routed() -> None:
    """A block says who owns numbers; what is not assigned has no route."""
    refused = refusal(decide(incoming("+4922838644"), WORLD, NOW))
    assert refused.reason is Reason.UNKNOWN_NUMBER
    assert "free part" in refused.detail


def test_range_routes_each_ddi_with_its_full_number() -> None:
    """A range of ten: the PBX gets the DDI that was dialled."""
    decided = plan(decide(incoming("+4922838607"), WORLD, NOW))
    assert [(t.kind, t.name, t.account, t.user) for t in decided.targets] == [
        (TargetKind.TRUNK, "hq", DE, "+4922838607")
    ]
    assert decided.number == "+492283860"


def test_range_needs_its_exact_length() -> None:
    """One digit more or less than the range has is another number."""
    assert refusal(decide(incoming("+492283860"), WORLD, NOW)).reason is Reason.UNKNOWN_NUMBER
    assert refusal(decide(incoming("+49228386071"), WORLD, NOW)).reason is Reason.UNKNOWN_NUMBER


def test_longest_prefix_wins() -> None:
    """T6.10: a single number carved out of a range has its own route."""
    single = replace(NUMBERS[1], prefix="+4922838605")
    world = changed(numbers=(*NUMBERS, single))
    assert plan(decide(incoming("+4922838605"), world, NOW)).targets[0].name == SEAT_DE
    assert plan(decide(incoming("+4922838604"), world, NOW)).targets[0].name == "hq"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": NumberStatus.PENDING}, Reason.NUMBER_PENDING),
        ({"status": NumberStatus.CANCELLED}, Reason.NUMBER_CANCELLED),
        ({"valid_from": TOMORROW}, Reason.NUMBER_NOT_YET_VALID),
    ],
)
def test_status_and_date(fields: dict[str, object], reason: Reason) -> None:
    """N2, N7, B8: pending, cancelled and not yet valid numbers are refused, each by its name."""
    world = Snapshot(with_row("numbers", "+4922838650", **fields))
    refused = refusal(decide(incoming("+4922838650"), world, NOW))
    assert (refused.reason, refused.number, refused.account) == (reason, "+4922838650", DE)


def test_date_holds_to_the_second() -> None:
    """B8: an assignment holds from its moment, without reconfiguration."""
    world = Snapshot(with_row("numbers", "+4922838650", valid_from=TOMORROW))
    attempt = incoming("+4922838650")
    assert refusal(decide(attempt, world, TOMORROW - timedelta(seconds=1))).reason is Reason.NUMBER_NOT_YET_VALID
    assert plan(decide(attempt, world, TOMORROW)).called == "+4922838650"


@pytest.mark.parametrize("user", ["", "+", "x", "+49abc", "00", "0", "\u0663\u0664", "4" * 40])
def test_nonsense_is_unknown(user: str) -> None:
    """Whatever stands in the Request-URI, the answer is a refusal, not an exception."""
    assert refusal(decide(call("telekom", Called("request-uri", user)), WORLD, NOW)).reason is Reason.UNKNOWN_NUMBER


def test_nothing_called_and_unknown_carrier() -> None:
    """No place at all, and a carrier that provisioning no longer has."""
    assert refusal(decide(call("telekom"), WORLD, NOW)).reason is Reason.UNKNOWN_NUMBER
    assert refusal(decide(incoming("+4922838650", "gone"), WORLD, NOW)).reason is Reason.UNKNOWN_SOURCE
