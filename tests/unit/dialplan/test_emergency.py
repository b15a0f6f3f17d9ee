"""Emergency calls: domain 2.6, T2.6 to T2.9, T5.8, T6.19. Each test is one thing that must not stop one."""

from __future__ import annotations

from dataclasses import replace

import phonenumbers
import pytest
from phonenumbers import shortnumberinfo

from config.model import Account, AccountStatus, NumberStatus, RouteKind
from config.snapshot import Snapshot
from dialplan.engine import next_route
from dialplan.model import CallAttempt, Caller, Direction, Identity, Outcome, RoutePlan, Source, SourceKind
from dialplan.numbering import EMERGENCY
from tests.unit.dialplan.world import (
    ACCOUNTS,
    CARRIERS,
    DE,
    NOW,
    NUMBERS,
    ROWS,
    SEAT_DE,
    SEAT_UK,
    SEATS,
    UK,
    UK_23,
    WORLD,
    dial,
    pbx_dials,
    plan,
    suspended,
    to,
    with_row,
)

SITE = Identity("+4922838600", "+4922838600")


def check(decided: object, number: Identity = SITE, bare: str = "112") -> RoutePlan:
    assert isinstance(decided, RoutePlan)
    assert decided.direction is Direction.EMERGENCY
    assert {t.name for t in decided.targets} == {c.name for c in CARRIERS}
    assert {(t.user, t.identity) for t in decided.targets} == {(bare, number)}
    assert decided.claims == () and all(t.claims == () for t in decided.targets)
    return decided


@pytest.mark.parametrize(
    "rows",
    [
        with_row("accounts", DE, status=AccountStatus.SUSPENDED),
        with_row("accounts", DE, status=AccountStatus.TRIAL),
        with_row("accounts", DE, parallel_calls=0),
        with_row("accounts", DE, allowed_destinations=()),
        with_row("accounts", DE, clip_fallback="refuse", bare_numbers="reject"),
        with_row("seats", SEAT_DE, present="anonymous"),
        with_row("seats", SEAT_DE, present="+4922129191999", external_numbers=("+4922129191999",)),
        with_row("seats", SEAT_DE, primary_number=None),
        with_row("numbers", "+4922838650", status=NumberStatus.CANCELLED),
        replace(ROWS, numbers=()),
    ],
    ids=[
        "suspended",
        "trial",
        "channels",
        "barred",
        "strict",
        "withheld",
        "external",
        "numberless",
        "cancelled",
        "rowless",
    ],
)
def test_nothing_stops_it(rows: object) -> None:
    """Domain 2.6-25, T2.7, T5.8: whatever limits, bars or hides, 112 goes to every carrier with the site's number."""
    world = Snapshot(rows)  # type: ignore[arg-type]
    check(dial("112", SEAT_DE, world))
    check(dial("141112", SEAT_DE, world))
    check(dial("*31#110", SEAT_DE, world), bare="110")


def test_privacy_of_the_device_is_ignored() -> None:
    """Domain 2.6-18: configured and requested suppression are ignored."""
    caller = Caller("anonymous", from_anonymous=True, privacy=frozenset({"id"}))
    check(dial("112", SEAT_DE, caller=caller))
    check(pbx_dials("112", from_user="anonymous", from_anonymous=True, privacy=frozenset({"id"})))


def test_from_a_pbx() -> None:
    """The site's number, whatever the PBX presents; a planned trunk may call for help too."""
    check(pbx_dials("112", from_user="+4922838607"))
    check(pbx_dials("112", from_user="+499001234567"))
    check(pbx_dials("112", trunk="new"))
    check(pbx_dials("+49112", from_user="+4922838607"))


def test_home_carrier_first() -> None:
    """Domain 2.6-19: the carrier that has the site's number is preferred, then any."""
    assert check(dial("112", SEAT_DE)).targets[0].name == "telekom"
    decided = plan(dial("999", SEAT_UK))
    assert decided.targets[0].name == "simwood"


def test_other_countries_numbers_are_none_here() -> None:
    """Matched exactly, per country of the site: 999 is no emergency number in Germany, 1120 none anywhere."""
    for digits in ("999", "1120", "0112"):
        decided = dial(digits, SEAT_DE)
        assert not isinstance(decided, RoutePlan) or decided.direction is not Direction.EMERGENCY


@pytest.mark.parametrize("digits", ["089110", "+4989110", "0228112", "0049228110"])
def test_area_code_before_an_emergency_number(digits: str) -> None:
    """Domain 2.6-21: with an area code it is not an emergency call and never becomes one."""
    decided = dial(digits, SEAT_DE)
    assert not isinstance(decided, RoutePlan) or decided.direction is not Direction.EMERGENCY


def test_austrian_141_is_a_doctor() -> None:
    """Domain 2.6-24: exact emergency numbers come before the code 141."""
    world = Snapshot(with_row("accounts", DE, country="AT", emergency_number="+431234567"))
    decided = plan(dial("141", SEAT_DE, world))
    assert (decided.direction, decided.called) == (Direction.EMERGENCY, "141")
    swiss = Snapshot(with_row("accounts", DE, country="CH"))
    assert plan(dial("1414", SEAT_DE, swiss)).direction is Direction.EMERGENCY


def test_an_extension_wins_over_prefix_and_emergency() -> None:
    """Domain 3.2-13: 23112 is an extension only where there is one."""
    world = Snapshot(replace(ROWS, seats=(*SEATS, replace(SEATS[2], username="x.short", extension="23112"))))
    assert plan(dial("23112", SEAT_UK, world)).direction is Direction.INTERNAL
    assert plan(dial("23112", SEAT_UK)).direction is Direction.EMERGENCY


def test_borrowed_number_has_its_own_site() -> None:
    """T6.19: a seat that uses another account's number is at that number's site; both countries' numbers work."""
    world = Snapshot(
        replace(
            with_row("numbers", UK_23, served_account=DE, route=to(RouteKind.SEAT, SEAT_DE)),
            seats=tuple(replace(s, primary_number=UK_23) if s.username == SEAT_DE else s for s in SEATS),
        )
    )
    for digits in ("112", "110", "999"):
        decided = check(dial(digits, SEAT_DE, world), Identity(UK_23, UK_23), digits)
        assert (decided.account, decided.billed_account) == (DE, UK)
    check(pbx_dials("999", world, from_user=UK_23), Identity(UK_23, UK_23), "999")
    check(pbx_dials("112", world, from_user="+4922838607"))


def test_without_a_site_number() -> None:
    """Domain 2.6-19: else the caller's own number, else any of the account's, else none: it is never refused."""
    rows = with_row("accounts", DE, emergency_number=None)
    check(dial("112", SEAT_DE, Snapshot(rows)), Identity("+4922838650", "+4922838650"))
    no_primary = replace(rows, seats=(replace(SEATS[0], primary_number=None),))
    check(dial("112", SEAT_DE, Snapshot(no_primary)), Identity("+4922838600", "+4922838600"))
    check(dial("112", SEAT_DE, Snapshot(replace(no_primary, numbers=()))), Identity())


def test_no_next_route() -> None:
    """Emergency calls are never forwarded: there is no next route after the last carrier."""
    decided = check(dial("112", SEAT_DE))
    attempt = CallAttempt(Source(SourceKind.SEAT, SEAT_DE, DE), ())
    for outcome in Outcome:
        assert next_route(decided, outcome, attempt, WORLD, NOW) is None


def test_trace_says_what_was_ignored() -> None:
    """The trace of a suspended account's emergency call has no word of suspension: nobody asked."""
    decided = check(dial("112", SEAT_DE, suspended(DE)))
    assert [s.rule for s in decided.trace.steps] == ["E1", "M1", "M2"]


@pytest.mark.parametrize("country", sorted(EMERGENCY))
def test_every_country_of_the_table(country: str) -> None:
    """Each listed number is an emergency call from a site there; 112 works everywhere."""
    accounts = (Account(DE, country=country, emergency_number="+4922838600"), ACCOUNTS[1])
    world = Snapshot(replace(ROWS, accounts=accounts, numbers=NUMBERS))
    for digits in EMERGENCY[country]:
        assert plan(dial(digits, SEAT_DE, world)).direction is Direction.EMERGENCY
    assert "112" in EMERGENCY[country]


@pytest.mark.parametrize("country", sorted(EMERGENCY))
def test_table_misses_no_number_that_the_metadata_knows(country: str) -> None:
    """Every three-digit number that phonenumbers holds for an emergency number there is in our table."""
    assert country in phonenumbers.SUPPORTED_REGIONS
    known = {f"{n:03d}" for n in range(1000) if shortnumberinfo.is_emergency_number(f"{n:03d}", country)}
    missing = known - EMERGENCY[country]
    assert not missing
