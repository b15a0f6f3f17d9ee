"""Whose number an outbound call shows: the CLI rules C1 to C7 (domain 2.1, 2.3; T3.5, T6.1 to T6.6)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from config.model import AccountStatus, Carrier, ExternalNumber, NumberStatus, Rows
from config.snapshot import Snapshot
from dialplan.model import Caller, Decision, Identity, Reason, RoutePlan
from tests.unit.dialplan.world import (
    ACCOUNTS,
    DE,
    NOW,
    NUMBERS,
    ROWS,
    SEAT_DE,
    SEAT_UK,
    TOMORROW,
    TRUNKS,
    UK,
    UK_23,
    WORLD,
    dial,
    pbx_dials,
    plan,
    refusal,
    with_row,
)

OWN = "+4922838650"
DEFAULT = "+4922838600"
EXTERNAL = "+4922129191999"
ABROAD, HOME = "+436601234567", "+4930123456"


def merged(*changes: Rows) -> Snapshot:
    """The tables that each of the changed rows sets differ from ROWS in, together."""
    fields = {}
    for rows in changes:
        for table in ("carriers", "accounts", "trunks", "seats", "numbers", "external_numbers"):
            if getattr(rows, table) is not getattr(ROWS, table):
                fields[table] = getattr(rows, table)
    return Snapshot(replace(ROWS, **fields))


def shows_external(**more: Rows) -> tuple[Rows, ...]:
    return (with_row("seats", SEAT_DE, present=EXTERNAL, external_numbers=(EXTERNAL,)), *more.values())


def at(decided: Decision, carrier: str = "telekom") -> Identity:
    return next(t.identity for t in plan(decided).targets if t.name == carrier)


def rules(decided: RoutePlan) -> list[str]:
    return [step.rule for step in decided.trace.steps]


# -- own number ----------


def test_own_number() -> None:
    """Domain 2.1: presented and network number are the seat's."""
    assert at(dial(HOME, SEAT_DE)) == Identity(OWN, OWN)


def test_seat_without_a_number_uses_its_trunks() -> None:
    """A seat of a trunk without a number of its own shows the trunk's default number."""
    world = Snapshot(with_row("seats", SEAT_DE, primary_number=None, trunk="hq"))
    assert at(dial(HOME, SEAT_DE, world)) == Identity(DEFAULT, DEFAULT)


@pytest.mark.parametrize(
    "rows",
    [
        with_row("seats", SEAT_DE, primary_number=None),
        with_row("seats", SEAT_DE, primary_number="+493099999999"),
        with_row("seats", SEAT_DE, primary_number=UK_23),
        with_row("numbers", OWN, status=NumberStatus.PENDING),
        with_row("numbers", OWN, status=NumberStatus.CANCELLED),
        with_row("numbers", OWN, valid_from=TOMORROW),
    ],
    ids=["none", "unknown", "another account's", "pending", "cancelled", "not yet valid"],
)
def test_no_number_to_show(rows: Rows) -> None:
    """Issue 3: each outbound INVITE has an identity with a row behind it; else there is no INVITE."""
    refused = refusal(dial(HOME, SEAT_DE, Snapshot(rows)))
    assert (refused.reason, refused.account, refused.number) == (Reason.CLI_NOT_AVAILABLE, DE, HOME)


def test_own_number_of_a_forbidden_class() -> None:
    """T2.4: a 0900 number never leaves as caller, not even as the seat's own."""
    row = replace(NUMBERS[1], prefix="+499001234567")
    world = merged(replace(ROWS, numbers=(*NUMBERS, row)), with_row("seats", SEAT_DE, primary_number="+499001234567"))
    assert refusal(dial(HOME, SEAT_DE, world)).reason is Reason.CLI_NOT_AVAILABLE


# -- prefix ----------


@pytest.mark.parametrize(
    "fields", [{"status": NumberStatus.PENDING}, {"status": NumberStatus.CANCELLED}, {"valid_from": TOMORROW}]
)
def test_prefix_of_an_unusable_number(fields: dict[str, object]) -> None:
    """T3.5: refused as "CLI not available", no silent default."""
    refused = refusal(dial("23442036427900", SEAT_UK, Snapshot(with_row("numbers", UK_23, **fields))))
    assert (refused.reason, refused.trace.steps[-1].rule) == (Reason.CLI_NOT_AVAILABLE, "C2")


def test_prefix_of_a_number_that_moved_away() -> None:
    """T3.5: a number that another account uses now is not available to its owner's prefix."""
    world = Snapshot(with_row("numbers", UK_23, served_account=DE))
    assert refusal(dial("23442036427900", SEAT_UK, world)).reason is Reason.CLI_NOT_AVAILABLE


def test_prefix_of_a_borrowed_number() -> None:
    """F1, F2: the account that uses a lent number chooses it by its prefix, and the owner is billed."""
    world = Snapshot(with_row("numbers", UK_23, served_account=DE))
    decided = plan(dial("23" + HOME[1:], SEAT_DE, world))
    assert (at(decided, "simwood").presented, decided.account, decided.billed_account) == (UK_23, DE, UK)


# -- anonymous ----------


@pytest.mark.parametrize(
    ("rows", "digits", "caller"),
    [
        (ROWS, "141" + HOME[1:], Caller(SEAT_DE)),
        (ROWS, "*31#" + HOME, Caller(SEAT_DE)),
        (with_row("seats", SEAT_DE, present="anonymous"), HOME, Caller(SEAT_DE)),
        (ROWS, HOME, Caller(SEAT_DE, privacy=frozenset({"id"}))),
        (ROWS, HOME, Caller("anonymous", from_anonymous=True)),
        (with_row("seats", SEAT_DE, present=EXTERNAL, external_numbers=(EXTERNAL,)), "141" + HOME[1:], Caller(SEAT_DE)),
    ],
)
def test_anonymous(rows: Rows, digits: str, caller: Caller) -> None:
    """C1, domain 2.5-16: per call or for good; the network number is known to the carrier, and to nobody else."""
    decided = plan(dial(digits, SEAT_DE, Snapshot(rows), caller))
    for target in decided.targets:
        assert target.identity.anonymous
        assert target.identity.presented is None
        assert target.identity.display == ""
    assert at(decided).network == OWN
    assert decided.caller == Identity(anonymous=True)
    assert all(OWN not in step.text and EXTERNAL not in step.text for step in decided.trace.steps)


def test_privacy_none_is_no_wish() -> None:
    """RFC 3323: `none` and `critical` withhold nothing."""
    assert not at(dial(HOME, SEAT_DE, caller=Caller(SEAT_DE, privacy=frozenset({"none", "critical"})))).anonymous


@pytest.mark.parametrize("digits", ["116117", "124124", "141116117", "*31#116117", "141124124"])
def test_numbers_that_are_always_shown(digits: str) -> None:
    """Domain 2.6-18: towards 116 117 and 124 124 nothing withholds the number."""
    world = Snapshot(with_row("seats", SEAT_DE, present="anonymous"))
    caller = Caller("anonymous", from_anonymous=True, privacy=frozenset({"id"}))
    assert at(dial(digits, SEAT_DE, world, caller)) == Identity(OWN, OWN)


def test_other_short_codes_may_be_called_without_a_number() -> None:
    """115 is no emergency number: 141 holds."""
    assert at(dial("141115", SEAT_DE)).anonymous


# -- external numbers ----------


def test_external_number() -> None:
    """Domain 2.1: the external number is shown, the own number is the network number."""
    assert at(dial(HOME, SEAT_DE, merged(*shows_external()))) == Identity(EXTERNAL, OWN)


GATES = {
    "not the seat's": (with_row("seats", SEAT_DE, present=EXTERNAL),),
    "trial": (with_row("accounts", DE, status=AccountStatus.TRIAL),),
    "unverified": (with_row("external_numbers", EXTERNAL, status="unverified"),),
    "revoked": (with_row("external_numbers", EXTERNAL, status="revoked"),),
    "expired": (with_row("external_numbers", EXTERNAL, expires_at=NOW),),
    "unknown": (replace(ROWS, external_numbers=()),),
    "another account's": (with_row("external_numbers", EXTERNAL, account=UK),),
    "no carrier": (replace(ROWS, carriers=tuple(replace(c, clip_no_screening=False) for c in ROWS.carriers)),),
}


@pytest.mark.parametrize("gate", list(GATES))
def test_gates_fall_back_to_the_own_number(gate: str) -> None:
    """Domain 2.3-7, T6.1, T6.5, T6.6: each gate closed: the own number is shown, the reason is in the trace."""
    decided = plan(dial(HOME, SEAT_DE, merged(*shows_external(), *GATES[gate])))
    assert at(decided) == Identity(OWN, OWN)
    assert all(t.identity.presented != EXTERNAL for t in decided.targets)
    assert {"C6", "C7"} & {s.rule for s in decided.trace.steps if EXTERNAL in s.text}


@pytest.mark.parametrize("gate", list(GATES))
def test_gates_refuse_where_the_account_wants_it(gate: str) -> None:
    """Domain 2.3-7: the account's switch turns the fallback into a refusal."""
    accounts = merged(*GATES[gate]).accounts.values()
    strict = tuple(replace(a, clip_fallback="refuse") if a.id == DE else a for a in accounts)
    world = merged(*shows_external(), *GATES[gate], replace(ROWS, accounts=strict))
    assert refusal(dial(HOME, SEAT_DE, world)).reason is Reason.CLI_NOT_ALLOWED


@pytest.mark.parametrize("number", ["+499001234567", "+491371234567", "+4911833", "+49110", "+448979012345"])
def test_forbidden_classes_are_never_shown(number: str) -> None:
    """T2.4, T6.4: even a verified row of such a class is not shown."""
    world = merged(
        with_row("seats", SEAT_DE, present=number, external_numbers=(number,)),
        replace(ROWS, external_numbers=(ExternalNumber(number, DE, "verified"),)),
    )
    assert at(dial(HOME, SEAT_DE, world)) == Identity(OWN, OWN)


@pytest.mark.parametrize(
    ("external", "destination", "shown"),
    [
        ("+33123456789", "+33198765432", True),
        ("+33123456789", HOME, False),
        ("+33123456789", ABROAD, False),
        ("+442079460123", HOME, False),
        ("+442079460123", "+442036427900", False),
        (EXTERNAL, "+33198765432", True),
        (EXTERNAL, "115", True),
    ],
)
def test_country_rule(external: str, destination: str, shown: bool) -> None:
    """Domain 2.3-5: a French number only into France, a UK number never, on a German carrier."""
    world = merged(
        with_row("seats", SEAT_DE, present=external, external_numbers=(external,)),
        replace(ROWS, external_numbers=(ExternalNumber(external, DE, "verified"),)),
    )
    identity = at(dial(destination, SEAT_DE, world))
    assert identity == Identity(external if shown else OWN, OWN)


def test_external_number_before_it_expires() -> None:
    """The verification holds up to its moment."""
    rows = with_row("external_numbers", EXTERNAL, expires_at=NOW + timedelta(seconds=1))
    assert at(dial(HOME, SEAT_DE, merged(*shows_external(), rows))).presented == EXTERNAL


def test_chosen_number_wins_over_the_external() -> None:
    """A prefix is for this call: it wins over the seat's setting."""
    rows = with_row("numbers", "+4922838651", cli_prefix="23")
    world = merged(*shows_external(), rows)
    assert at(dial("23" + HOME[1:], SEAT_DE, world)) == Identity("+4922838651", "+4922838651")


def test_carriers_that_show_it_come_first() -> None:
    """R7: a carrier that cannot show the number is tried last, with the own number."""
    decided = plan(dial(HOME, SEAT_DE, merged(*shows_external())))
    shown = [(t.name, t.identity.presented) for t in decided.targets]
    assert shown[0][1] == shown[1][1] == EXTERNAL
    assert {name for name, _ in shown[:2]} == {"telekom", "nfon"}
    assert all(presented != EXTERNAL for _, presented in shown[2:])


# -- a customer's PBX ----------


@pytest.mark.parametrize(
    ("caller", "shown"),
    [
        ({"from_user": "+4922838607"}, "+4922838607"),
        ({"from_user": "022838607"}, "+4922838607"),
        ({"from_user": "4922838607"}, "+4922838607"),
        ({"from_user": "004922838607"}, "+4922838607"),
        ({"from_user": "+493012345678"}, "+493012345678"),  # a number of the account at another carrier
        ({"from_user": "hq-k1001", "asserted": ("+4922838607",)}, "+4922838607"),
        ({"from_user": "201", "preferred": ("+4922838607",)}, "+4922838607"),
        ({"from_user": "+4922838644"}, DEFAULT),  # a free number
        ({"from_user": "+442088198786"}, DEFAULT),  # another account's
        ({"from_user": "+499001234567"}, DEFAULT),
        ({"from_user": "+12125550123", "asserted": ("+12125550124",)}, DEFAULT),
        ({"from_user": "hq-k1001"}, DEFAULT),
        ({"from_user": "201"}, DEFAULT),
        ({"from_user": ""}, DEFAULT),
    ],
    ids=str,
)
def test_pbx_identity_is_screened(caller: dict[str, object], shown: str) -> None:
    """Domain 2.1-3: From and PAI of a PBX are requests; what is not the account's is replaced by the default number."""
    telekom = at(pbx_dials(HOME, **caller))
    assert telekom.presented == shown


def test_pbx_shows_a_verified_external_number() -> None:
    """C6: the trunk may, the number is verified; network number is what the PBX asserts, or the default."""
    assert at(pbx_dials(HOME, from_user=EXTERNAL)) == Identity(EXTERNAL, DEFAULT)
    asserted = at(pbx_dials(HOME, from_user=EXTERNAL, asserted=("+4922838607",)))
    assert asserted == Identity(EXTERNAL, "+4922838607")


def test_pbx_without_the_right_shows_its_own() -> None:
    """C6, first gate: the trunk may not show numbers of others."""
    world = Snapshot(with_row("trunks", "hq", clip_no_screening=False))
    assert at(pbx_dials(HOME, world, from_user=EXTERNAL)) == Identity(DEFAULT, DEFAULT)


def test_strict_account_refuses_foreign_numbers_of_its_pbx() -> None:
    """clip_fallback: refuse, for a PBX."""
    world = Snapshot(with_row("accounts", DE, clip_fallback="refuse"))
    assert refusal(pbx_dials(HOME, world, from_user="+12125550123")).reason is Reason.CLI_NOT_ALLOWED
    assert plan(pbx_dials(HOME, world, from_user="hq-k1001"))
    assert plan(pbx_dials(HOME, world, from_user="+4922838607"))


def test_pbx_forwards_a_call() -> None:
    """C5, domain 2.3-4: the original caller is shown, the forwarding number answers for it."""
    decided = pbx_dials(HOME, from_user="+4915112345678", diversion=("+4922838607",))
    assert at(decided) == Identity("+4915112345678", "+4922838607", "", False, ("+4922838607",))


@pytest.mark.parametrize("diversion", [("+442088198786",), ("+12125550123",), ("201",), ("+4922838644",)])
def test_pbx_cannot_forward_for_numbers_of_others(diversion: tuple[str, ...]) -> None:
    """C5: without a number of the account in Diversion there is no forwarding, and the caller is not shown."""
    assert at(pbx_dials(HOME, from_user="+4915112345678", diversion=diversion)) == Identity(DEFAULT, DEFAULT)


def test_pbx_forwards_without_the_right() -> None:
    """C5: a trunk without CLIP no screening shows the forwarding number."""
    world = Snapshot(with_row("trunks", "hq", clip_no_screening=False))
    decided = pbx_dials(HOME, world, from_user="+4915112345678", diversion=("+4922838607",))
    assert at(decided) == Identity("+4922838607", "+4922838607", "", False, ("+4922838607",))


def test_pbx_forwards_a_withheld_call() -> None:
    """C5: privacy crosses with the forwarded call."""
    decided = pbx_dials(HOME, from_anonymous=True, from_user="anonymous", diversion=("+4922838607",))
    assert at(decided) == Identity(None, "+4922838607", "", True, ("+4922838607",))


def test_pbx_withholds() -> None:
    """Privacy: id of a PBX: withheld, with the number that it asserts as network number."""
    caller = {"from_user": "anonymous", "from_anonymous": True, "asserted": ("+4922838607",)}
    assert at(pbx_dials(HOME, **caller)) == Identity(None, "+4922838607", "", True)


def test_planned_trunk_and_missing_trunk() -> None:
    """B10, O3: a planned trunk places no calls before its date."""
    assert refusal(pbx_dials(HOME, trunk="new")).reason is Reason.TRUNK_PLANNED
    assert refusal(pbx_dials(HOME, trunk="gone")).reason is Reason.UNKNOWN_SOURCE


def test_trunk_without_a_default_number() -> None:
    """A PBX that presents nothing, and a trunk without a default number: refused with the remedy."""
    world = Snapshot(replace(ROWS, trunks=(replace(TRUNKS[0], default_number=None),)))
    refused = refusal(pbx_dials(HOME, world, from_user="hq-k1001"))
    assert refused.reason is Reason.CLI_NOT_AVAILABLE
    assert "default_number" in refused.detail


# -- at the carrier ----------


def test_foreign_carrier_that_takes_numbers_of_others() -> None:
    """C7: nfon does not have the number but shows it; the account's number there is the network number."""
    assert at(dial(HOME, SEAT_DE), "nfon") == Identity(OWN, "+493087654321")


def test_foreign_carrier_that_does_not() -> None:
    """C7: sipgate shows its own numbers only: the account's number there, as a last resort."""
    assert at(dial(HOME, SEAT_DE), "sipgate") == Identity("+493012345678", "+493012345678")


def test_last_resort_without_a_number_there() -> None:
    """C7: the account has no number at simwood: the own number goes out, after all carriers that know the account."""
    decided = plan(dial(HOME, SEAT_DE))
    assert decided.targets[0].name == "telekom"
    assert at(decided, "simwood") == Identity(OWN, OWN)


def test_number_there_is_the_same_customers() -> None:
    """A borrowed number never goes out with the borrower's own number as network number: billing follows it."""
    world = Snapshot(with_row("numbers", "+493087654321", account=UK, served_account=DE))
    assert at(dial(HOME, SEAT_DE, world), "nfon") == Identity(OWN, OWN)


def test_suspended_owner_of_a_borrowed_number() -> None:
    """F2: who is billed must not be suspended."""
    world = merged(
        with_row("numbers", OWN, account=UK, served_account=DE),
        replace(
            ROWS, accounts=tuple(replace(a, status=AccountStatus.SUSPENDED) if a.id == UK else a for a in ACCOUNTS)
        ),
    )
    assert refusal(dial(HOME, SEAT_DE, world)).reason is Reason.ACCOUNT_SUSPENDED


def test_no_carriers() -> None:
    """Nothing provisioned to call over."""
    assert refusal(dial(HOME, SEAT_DE, Snapshot(replace(ROWS, carriers=())))).reason is Reason.NO_CARRIER


def test_world_is_as_the_tests_think() -> None:
    """Guards the tests above: telekom and nfon take numbers of others, sipgate and simwood do not."""
    assert [c.name for c in WORLD.carriers.values() if c.clip_no_screening] == ["telekom", "nfon"]
    assert isinstance(WORLD.carriers["telekom"], Carrier)
