"""Calls of phones and PBXs on the wire: what dialled digits mean, whose number is shown, who may call where."""

from __future__ import annotations

import pytest
from plan_world import (
    ABROAD,
    EXTERNAL,
    LENT_TO_PHONE,
    OWN,
    STATIC_PBX,
    UK_14,
    UK_23,
    UK_OWN,
    UK_SITE,
    PlanWorld,
    Seens,
)

pytestmark = pytest.mark.sipp


def identity(seen: Seens, carrier: str) -> tuple[str, str, str]:
    """Request-URI user, P-Asserted-Identity user, Privacy."""
    invite = seen.at(carrier)
    asserted = invite.header("P-Asserted-Identity").partition("sip:")[2].partition("@")[0]
    return invite.request_uri.partition("@")[0].removeprefix("sip:"), asserted, invite.header("Privacy")


# -- E: the truth table (domain 3.4), dialled by a phone --------------------------------------------------------------

CALLS = [
    # dialled              called            number     withheld
    ("23442036427900", "+442036427900", UK_23, ""),
    ("442036427900", "+442036427900", UK_OWN, ""),
    ("141442036427900", "+442036427900", UK_OWN, "id"),
    ("14123442036427900", "+442036427900", UK_23, "id"),
    ("14442036427900", "+442036427900", UK_14, ""),
    ("+14155550123", "+14155550123", UK_OWN, ""),
    ("0014155550123", "+14155550123", UK_OWN, ""),
    ("2314155550123", "+14155550123", UK_23, ""),
    ("00442036427900", "+442036427900", UK_OWN, ""),
    ("02036427900", "+442036427900", UK_OWN, ""),
    ("*31#02079460000", "+442079460000", UK_OWN, "id"),
    ("+2348021234567", "+2348021234567", UK_OWN, ""),
    ("101", "101", UK_OWN, ""),
    ("141116123", "116123", UK_OWN, "id"),
]
EMERGENCIES = ["999", "112", "18000", "23999", "23112", "141999", "14112", "14123999", "*31#999", "+44999", "0044112"]
REFUSED = [
    ("1412125550123", 484),
    ("14155550123", 484),
    ("141", 484),
    ("23201", 484),
    ("23" + "4" * 16, 484),
    ("14123" + "00" + "4" * 16, 484),
    ("141141442036427900", 404),
    ("*99", 404),
    ("nobody", 404),
    ("+999123456789", 404),
]


@pytest.mark.parametrize(("dialled", "called", "number", "privacy"), CALLS, ids=[c[0] for c in CALLS])
def test_truth_table(plan: PlanWorld, dialled: str, called: str, number: str, privacy: str) -> None:
    """Domain 3.4: whom it reaches, with which number, withheld or not."""
    seen = plan.dial("j.smith", dialled)
    assert (seen.status, seen.reached) == (200, ["uk"])
    assert identity(seen, "uk") == (called, number, privacy)


@pytest.mark.parametrize("dialled", EMERGENCIES)
def test_emergencies(plan: PlanWorld, dialled: str) -> None:
    """Domain 3.4, T2.6, T2.9: bare, with the site's number, never withheld."""
    seen = plan.dial("j.smith", dialled)
    assert (seen.status, seen.reached) == (200, ["uk"])
    bare = next(e for e in ("18000", "999", "112") if dialled.endswith(e))
    assert identity(seen, "uk") == (bare, UK_SITE, "")
    record = plan.record(seen.call)
    assert (record["emergency"], record["called"]) == (True, bare)


@pytest.mark.parametrize(("dialled", "status"), REFUSED, ids=[r[0][:20] for r in REFUSED])
def test_refused(plan: PlanWorld, dialled: str, status: int) -> None:
    """Domain 3.4: what means nothing reaches nobody."""
    seen = plan.dial("j.smith", dialled)
    assert (seen.status, seen.reached) == (status, [])


@pytest.mark.parametrize(("dialled", "shown"), [("231", '"John Smith" <sip:201@'), ("*31#231", '"Anonymous" <sip:')])
def test_extension(plan: PlanWorld, dialled: str, shown: str) -> None:
    """E4, R2: an exact extension wins over prefix 23 and stays inside, with extension and name, or withheld."""
    seen = plan.dial("j.smith", dialled)
    assert seen.reached == ["a.jones"]
    assert seen.at("a.jones").header("From").startswith(shown)
    if dialled[0] == "*":
        assert "John" not in seen.stations["a.jones"].received_text()
        assert "j.smith" not in seen.stations["a.jones"].received_text()


def test_other_accounts_are_out_of_reach(plan: PlanWorld) -> None:
    """Extensions and seats are those of the same account."""
    assert plan.dial("j.smith", "203").status == 484
    assert plan.dial("j.smith", "desk.one").status == 404


def test_pending_prefix_is_no_silent_default(plan: PlanWorld) -> None:
    """T3.5: a prefix whose number may not be used refuses the call."""
    with plan.changed("numbers", "number", UK_14, status="pending"):
        seen = plan.dial("j.smith", "14442036427900")
    assert (seen.status, seen.reached) == (403, [])
    assert plan.record(seen.call)["reason"] == "cli-not-available"


def test_barring(plan: PlanWorld) -> None:
    """B1: a German customer may not call the US, nor 0900 at home; 112 is never barred."""
    for digits in ("+12125550123", "0900123456", "11833"):
        seen = plan.dial("a.mueller", digits)
        assert (seen.status, seen.reached) == (403, [])
        assert plan.record(seen.call)["reason"] == "destination-not-allowed"
    with plan.changed("accounts", "id", "K1001", allowed_destinations=[]):
        assert plan.dial("a.mueller", ABROAD).status == 403
        assert plan.dial("a.mueller", "112").status == 200


def test_suspended_account_may_still_call_for_help(plan: PlanWorld) -> None:
    """A1, M2: nothing but emergency calls."""
    with plan.changed("accounts", "id", "K1001", status="suspended"):
        assert plan.dial("a.mueller", ABROAD).status == 403
        assert plan.dial("a.mueller", "110").status == 200


# -- C: whose number is shown -----------------------------------------------------------------------------------------


def test_seat_that_is_always_anonymous(plan: PlanWorld) -> None:
    """C1: by the seat's setting, but not towards 116117 and 112 (domain 2.6-18)."""
    with plan.changed("seats", "username", "a.mueller", present="anonymous"):
        (carrier,) = (seen := plan.dial("a.mueller", ABROAD)).reached
        assert seen.at(carrier).header("Privacy") == "id"
        for digits in ("116117", "124124", "112"):
            (carrier,) = (seen := plan.dial("a.mueller", digits)).reached
            assert identity(seen, carrier)[0] == digits
            assert not seen.at(carrier).header("Privacy")


def test_phone_that_asks_for_privacy(plan: PlanWorld) -> None:
    """C1: the device's own wish (RFC 3323) is heard."""
    (carrier,) = (seen := plan.dial("a.mueller", ABROAD, {"Privacy": "user; id"})).reached
    assert seen.at(carrier).header("From").startswith('"Anonymous" <sip:anonymous@anonymous.invalid>')
    assert seen.at(carrier).header("Privacy") == "id"


@pytest.mark.parametrize(
    ("table", "key", "value", "change"),
    [
        ("external_numbers", "number", EXTERNAL, {"expires_at": "2026-11-21T00:00:00Z"}),
        ("carriers", "name", "pai-from", {"clip_no_screening": False}),
    ],
    ids=["expired", "carrier"],
)
def test_gates_of_external_numbers(
    plan: PlanWorld, table: str, key: str, value: str, change: dict[str, object]
) -> None:
    """C6, C7, T6.5: behind a closed gate the own number is shown, or the call refused, as the account says."""
    quiet = {"clip_no_screening": False}
    with (
        plan.changed("carriers", "name", "second", **quiet),
        plan.changed("carriers", "name", "third", **quiet),
        plan.changed("seats", "username", "a.mueller", present=EXTERNAL),
        plan.changed(table, key, value, **change),
    ):
        (carrier,) = (seen := plan.dial("a.mueller", ABROAD)).reached
        assert EXTERNAL[1:] not in seen.stations[carrier].received_text()
        assert OWN[1:] in seen.at(carrier).header("From")
        with plan.changed("accounts", "id", "K1001", clip_fallback="refuse"):
            refused = plan.dial("a.mueller", ABROAD)
        assert (refused.status, refused.reached) == (403, [])
        assert plan.record(refused.call)["reason"] == "cli-not-allowed"


def pbx_calls(plan: PlanWorld, digits: str, caller: str, *headers: str, host: str = "pbx.example") -> Seens:
    """The UK customer's PBX calls with this number in From."""
    marks, logged = plan.marks(), plan.edge.mark
    trace = plan.batch(
        "uac_basic", [()], address=STATIC_PBX, called=digits, caller=caller, from_host=host, from_display="",
        headers="\n".join(headers),
    )  # fmt: skip
    return Seens(200, trace, plan.since(marks), plan.call_since(logged))


def test_pbx_presents_its_own_numbers_only(plan: PlanWorld) -> None:
    """C3: any number of the account in From, PAI or PPI; else the trunk's default; nothing is copied."""
    assert identity(pbx_calls(plan, "+442036427900", UK_14), "uk") == ("+442036427900", UK_14, "")
    assert identity(pbx_calls(plan, "+442036427900", "02088198786"), "uk")[1] == UK_23
    asserted = f"P-Asserted-Identity: <sip:{UK_14}@pbx>"
    assert identity(pbx_calls(plan, "+442036427900", "x", asserted), "uk")[1] == UK_14
    foreign = pbx_calls(plan, "+442036427900", "+442033334444", "P-Asserted-Identity: <sip:+442033334444@pbx>")
    assert identity(foreign, "uk")[1] == UK_OWN
    assert "33334444" not in foreign.stations["uk"].received_text()
    assert "pbx.example" not in foreign.stations["uk"].received_text()


def test_pbx_that_withholds(plan: PlanWorld) -> None:
    """C1, C3: From anonymous, the number in PAI."""
    asserted = f"P-Asserted-Identity: <sip:{UK_14}@pbx>"
    seen = pbx_calls(plan, "+442036427900", "anonymous", asserted, "Privacy: id", host="anonymous.invalid")
    assert identity(seen, "uk") == ("+442036427900", UK_14, "id")
    assert seen.at("uk").header("From").startswith('"Anonymous"')


def test_pbx_that_forwards(plan: PlanWorld) -> None:
    """C5: who called is shown where the trunk may, and the PBX's number answers for it; else the PBX's number alone."""
    diversion = f"Diversion: <sip:{UK_14}@pbx>;reason=no-answer"
    with plan.changed("carriers", "name", "uk", clip_no_screening=True):
        alone = pbx_calls(plan, "+442036427900", "+4915112345678", diversion)
        with plan.changed("trunks", "name", "office", clip_no_screening=True):
            shown = pbx_calls(plan, "+442036427900", "+4915112345678", diversion)
    assert alone.at("uk").header("From").startswith(f"<sip:{UK_14}@uk.example>")
    assert "15112345678" not in alone.stations["uk"].received_text()
    assert shown.at("uk").header("From").startswith("<sip:+4915112345678@uk.example>")
    for seen in (alone, shown):
        assert identity(seen, "uk") == ("+442036427900", UK_14, "")
        assert seen.at("uk").header("Diversion").startswith(f"<sip:{UK_14}@uk.example>")


def test_pbx_dials_by_the_same_rules(plan: PlanWorld) -> None:
    """Dialling rules hold for PBXs as for phones: prefix, 141, emergency, +CC112 of a PBX that normalises."""
    assert identity(pbx_calls(plan, "23442036427900", "x"), "uk") == ("+442036427900", UK_23, "")
    assert identity(pbx_calls(plan, "141442036427900", "x"), "uk") == ("+442036427900", UK_OWN, "id")
    for digits in ("112", "+44112", "141999"):
        assert identity(pbx_calls(plan, digits, UK_14), "uk") == (digits[-3:], UK_SITE, "")


def test_borrowed_number_calls_and_is_billed_to_its_owner(plan: PlanWorld) -> None:
    """A2, T6.16, T6.19: billed to the account that has the number; 112 shows the number's own site."""
    seen = plan.dial("d.lent", ABROAD)
    (carrier,) = seen.reached
    assert identity(seen, carrier) == (ABROAD, LENT_TO_PHONE, "")
    record = plan.record(seen.call)
    assert (record["account"], record["billed_account"]) == ("K1001", "K3001")
    assert identity(plan.dial("d.lent", "112"), "second") == ("112", LENT_TO_PHONE, "")


def test_equal_carriers_share_by_weight(plan: PlanWorld) -> None:
    """R7: among equal priorities nearly all calls go to the heavy one; a lower priority is not asked."""
    with (
        plan.changed("carriers", "name", "second", priority=1, weight=65535),
        plan.changed("carriers", "name", "third", priority=1, weight=1),
    ):
        heavy = [plan.dial("a.mueller", "141" + ABROAD[1:]).reached for _ in range(4)]
    assert heavy == [["second"]] * 4
