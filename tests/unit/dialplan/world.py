"""Provisioning that the dial plan's tests share: a UK and a German customer, four carriers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from config.model import (
    Account,
    AccountStatus,
    Carrier,
    ExternalNumber,
    FaxBox,
    IdentityProfile,
    NumberFormat,
    NumberRow,
    NumberStatus,
    Route,
    RouteKind,
    Rows,
    Seat,
    Trunk,
)
from config.snapshot import Snapshot
from dialplan.engine import decide
from dialplan.model import CallAttempt, Called, Caller, Decision, Refusal, RoutePlan, Source, SourceKind

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
TOMORROW = NOW + timedelta(days=1)

UK, DE = "K2001", "K1001"
SEAT_UK, SEAT_DE = "j.smith", "a.mueller"
UK_DEFAULT, UK_23, UK_14 = "+442079460001", "+442088198786", "+442070000014"


def to(kind: RouteKind, target: str = "") -> Route:
    return Route(kind, target)


CARRIERS = (
    Carrier(
        "telekom", domain="tel.t-online.de", username="+49199296000001", clip_no_screening=True, priority=10,
        max_calls=200, max_calls_in=150, max_calls_out=120,
    ),
    Carrier(
        "sipgate", domain="sipconnect.sipgate.de", username="1234567t0", identity=IdentityProfile.PPI_ACCOUNT,
        number_format=NumberFormat.E164, ddi_source=("request-uri", "to"), priority=20,
    ),
    Carrier(
        "nfon", domain="nfon.example", username="KXXXabcd", identity=IdentityProfile.PAI_PRESENTS,
        number_format=NumberFormat.IDD, ddi_source=("to",), clip_no_screening=True, priority=30,
    ),
    Carrier(
        "simwood", mode="static", domain="simwood.example", identity=IdentityProfile.STATIC_NO_PLUS,
        number_format=NumberFormat.E164, home_country="GB", priority=10,
    ),
)  # fmt: skip

ACCOUNTS = (
    Account(
        DE, "Beispiel GmbH", country="DE", area_code="228", parallel_calls=30, emergency_number="+4922838600",
        allowed_destinations=("+49", "+43", "+44", "+33"),
    ),
    Account(
        UK, "Example Ltd", country="GB", time_zone="Europe/London", area_code="20", parallel_calls=10,
        emergency_number="+442079460000", allowed_destinations=("*",),
    ),
)  # fmt: skip

TRUNKS = (
    Trunk(
        DE, "hq", username="hq-k1001", parallel_calls=10, parallel_calls_in=8, default_number="+4922838600",
        clip_no_screening=True,
    ),
    Trunk(DE, "new", username="new-k1001", valid_from=TOMORROW, default_number="+4922838600"),
)  # fmt: skip

SEATS = (
    Seat(SEAT_DE, DE, name="Anna Mueller", extension="201", primary_number="+4922838650"),
    Seat("b.schmidt", DE, name="Bernd Schmidt", extension="202", primary_number="+4922838651"),
    Seat(SEAT_UK, UK, name="John Smith", extension="201", primary_number=UK_DEFAULT),
    Seat("a.jones", UK, name="Alice Jones", extension="231", primary_number=UK_23),
)

NUMBERS = (
    NumberRow("+492283860", 1, DE, "telekom", route=to(RouteKind.TRUNK, "hq"), block="+49228386"),
    NumberRow("+4922838650", 0, DE, "telekom", route=to(RouteKind.SEAT, SEAT_DE), block="+49228386"),
    NumberRow("+4922838651", 0, DE, "telekom", route=to(RouteKind.SEAT, "b.schmidt"), block="+49228386"),
    NumberRow("+4922838699", 0, DE, "telekom", channels=1, route=to(RouteKind.FAX, "office"), block="+49228386"),
    NumberRow("+493012345678", 0, DE, "sipgate", route=to(RouteKind.SEAT, SEAT_DE)),
    NumberRow("+493087654321", 0, DE, "nfon", route=to(RouteKind.SEAT, SEAT_DE)),
    NumberRow(UK_DEFAULT, 0, UK, "simwood", route=to(RouteKind.SEAT, SEAT_UK)),
    NumberRow("+442079460000", 0, UK, "simwood", route=to(RouteKind.SEAT, SEAT_UK)),
    NumberRow(UK_23, 0, UK, "simwood", route=to(RouteKind.SEAT, "a.jones"), cli_prefix="23"),
    NumberRow(UK_14, 0, UK, "simwood", route=to(RouteKind.SEAT, "a.jones"), cli_prefix="14"),
)
BLOCKS = (NumberRow("+49228386", 2, DE, "telekom"),)

ROWS = Rows(
    carriers=CARRIERS,
    accounts=ACCOUNTS,
    trunks=TRUNKS,
    seats=SEATS,
    numbers=NUMBERS,
    blocks=BLOCKS,
    external_numbers=(ExternalNumber("+4922129191999", DE, "verified"),),
    fax_boxes=(FaxBox(DE, "office", "fax@beispiel.example"),),
)
WORLD = Snapshot(ROWS)


def changed(**rows: object) -> Snapshot:
    """The world with some tables replaced."""
    return Snapshot(replace(ROWS, **rows))  # type: ignore[arg-type]


def with_row(table: str, key: str, **fields: object) -> Rows:
    """ROWS with fields of one row changed; `key` is its first natural name (prefix, username, name or id)."""
    out = []
    found = False
    for row in getattr(ROWS, table):
        names = [getattr(row, a) for a in ("prefix", "username", "name", "id", "number") if hasattr(row, a)]
        if key in names:
            row, found = replace(row, **fields), True
        out.append(row)
    assert found, f"{table} has no {key}"
    return replace(ROWS, **{table: tuple(out)})


def dial(
    digits: str, seat: str = SEAT_UK, world: Snapshot = WORLD, caller: Caller | None = None, **more: object
) -> Decision:
    """A seat dials."""
    attempt = CallAttempt(
        Source(SourceKind.SEAT, seat, world.seats[seat].account), (Called("request-uri", digits),),
        caller or Caller(seat), **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return decide(attempt, world, NOW)


def pbx_dials(digits: str, world: Snapshot = WORLD, trunk: str = "hq", **caller: object) -> Decision:
    """The German customer's PBX dials."""
    attempt = CallAttempt(
        Source(SourceKind.TRUNK, trunk, DE),
        (Called("request-uri", digits),),
        Caller(**caller),  # type: ignore[arg-type]
    )
    return decide(attempt, world, NOW)


def incoming(number: str, carrier: str = "telekom", caller: Caller | None = None) -> CallAttempt:
    """A call from a carrier, with the number in the Request-URI and To."""
    return CallAttempt(
        Source(SourceKind.CARRIER, carrier), (Called("request-uri", number), Called("to", number)),
        caller or Caller("+4915112345678"),
    )  # fmt: skip


def plan(decision: Decision | None) -> RoutePlan:
    """The decision as a plan; fails with the refusal's words."""
    assert isinstance(decision, RoutePlan), decision
    return decision


def refusal(decision: Decision | None) -> Refusal:
    """The decision as a refusal."""
    assert isinstance(decision, Refusal), decision
    return decision


def suspended(account: str) -> Snapshot:
    return Snapshot(with_row("accounts", account, status=AccountStatus.SUSPENDED))


def pending(number: str) -> Snapshot:
    return Snapshot(with_row("numbers", number, status=NumberStatus.PENDING))
