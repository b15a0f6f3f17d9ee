"""Rows of the shared database as the edge sees them: immutable values, no behaviour (docs/database.md).

References are natural names, as in the provisioning document. Numbers are E.164 with `+`. Times are aware UTC
datetimes. The rules for all of them are the database's (`config/migrations`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class AccountStatus(StrEnum):
    TRIAL = "trial"
    ACTIVE = "active"
    SUSPENDED = "suspended"


class NumberStatus(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    CANCELLED = "cancelled"


class IdentityProfile(StrEnum):
    """Where a carrier wants which number (domain rule 2.2)."""

    PAI_FROM = "pai-from"
    PPI_ACCOUNT = "ppi-account"
    PAI_PRESENTS = "pai-presents"
    FROM_NETWORK = "from-network"
    STATIC_NO_PLUS = "static-no-plus"


class NumberFormat(StrEnum):
    """How numbers leave towards a carrier."""

    E164_PLUS = "e164-plus"
    E164 = "e164"
    NATIONAL = "national"
    IDD = "idd"


class RouteKind(StrEnum):
    SEAT = "seat"
    TRUNK = "trunk"
    FAX = "fax"
    FORWARD = "forward"
    EXTENSION = "extension"
    REJECT = "reject"
    NONE = "none"


class Route(NamedTuple):
    """Where a call goes. `target`: seat username, trunk name, fax box name, E.164 number, extension, SIP status."""

    kind: RouteKind
    target: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value} {self.target}".strip()


NO_ROUTE = Route(RouteKind.NONE)


@dataclass(frozen=True, slots=True)
class Carrier:
    """One of our SIP trunks up to a network operator."""

    name: str
    mode: str = "register"
    """`register` or `static`."""
    domain: str = ""
    outbound_proxy: str | None = None
    secondary_proxies: tuple[str, ...] = ()
    """Outbound proxies after that one, in the order to try them."""
    register_with: str = "first"
    """`first`: with the first proxy that takes us; `all`: with every one."""
    transport: str = "udp"
    username: str | None = None
    auth_username: str | None = None
    password: str | None = None
    """In clear inside the process; encrypted at rest, never logged."""
    gin: bool = False
    expires: int = 600
    sources: tuple[str, ...] = ()
    """Addresses or networks that may send to us."""
    identity: IdentityProfile = IdentityProfile.PAI_FROM
    number_format: NumberFormat = NumberFormat.E164_PLUS
    ddi_source: tuple[str, ...] = ("p-called-party-id", "request-uri", "to")
    home_country: str = "DE"
    clip_no_screening: bool = False
    trusted: bool = True
    codecs: tuple[str, ...] = ("pcma", "pcmu")
    srtp: str = "off"
    t38: str = "offer"
    media_source: str = "learned"
    """`learned`, or `sdp`: its media come from the address in its description alone."""
    session_expires: int = 1800
    max_calls: int | None = None
    max_calls_in: int | None = None
    max_calls_out: int | None = None
    max_cps: int | None = None
    priority: int = 10
    weight: int = 1
    failover_on: tuple[int, ...] = (408, 480, 500, 502, 503, 504)

    def __repr__(self) -> str:
        return f"Carrier({self.name!r})"

    @property
    def proxies(self) -> tuple[str | None, ...]:
        """All ways to it, the first first; None: its domain itself."""
        return (self.outbound_proxy, *self.secondary_proxies)


class Budget(NamedTuple):
    """What may be called out in a sliding hour and day; None: no bound."""

    calls_per_hour: int | None = None
    calls_per_day: int | None = None
    minutes_per_hour: int | None = None
    minutes_per_day: int | None = None


NO_BUDGET = Budget()


@dataclass(frozen=True, slots=True)
class Account:
    """A customer."""

    id: str
    name: str = ""
    status: AccountStatus = AccountStatus.ACTIVE
    country: str = "DE"
    time_zone: str = "Europe/Berlin"
    area_code: str | None = None
    language: str = "de"
    email: str | None = None
    parallel_calls: int | None = None
    bare_numbers: str = "e164"
    """`e164`, `local` or `reject`: what digits without +, 00 or 0 mean."""
    clip_fallback: str = "own"
    """`own` or `refuse`: when an identity may not be presented."""
    allowed_destinations: tuple[str, ...] | None = None
    """E.164 prefixes; None: the home country; ("*",): everywhere."""
    emergency_number: str | None = None
    budget: Budget = NO_BUDGET
    night_percent: int = 100
    """Share of the budgets of the account, its trunks and seats that holds at night and at weekends."""
    max_call_minutes: int | None = None
    """None: the edge's own limit."""
    suspension: str = "bar"
    """What becomes of a suspended account: `bar` refuses calls, `end` also ends those that are up, `lock` also takes
    its registrations away. Emergency calls go in any case."""


@dataclass(frozen=True, slots=True)
class Ha1:
    """Digest HA1 values in lower-case hex (RFC 7616, RFC 8760); None where an algorithm is not stored."""

    md5: str | None = None
    sha256: str | None = None

    def __repr__(self) -> str:
        return "Ha1(...)"


@dataclass(frozen=True, slots=True)
class Trunk:
    """A customer's PBX; (account, name) is its key, `username` is unique everywhere."""

    account: str
    name: str
    mode: str = "register"
    """`register`, `gin` or `static`."""
    username: str | None = None
    ha1: Ha1 = Ha1()
    sources: tuple[str, ...] = ()
    """Addresses or networks of a static PBX; with a `certificate`: where it may come from, none: everywhere."""
    certificate: str | None = None
    """The name in the certificate that a static PBX shows over TLS (RFC 5922), in lower case."""
    address: str | None = None
    """SIP URI of a static PBX: where calls to it go."""
    profile: str = "sipconnect-1.1"
    number_format: NumberFormat = NumberFormat.E164_PLUS
    """How the called number is written towards the PBX."""
    called_in: str = "request-uri"
    """What names the called number, beside To: `request-uri`, `to` (nothing else) or `p-called-party-id`."""
    parallel_calls: int | None = None
    parallel_calls_in: int | None = None
    parallel_calls_out: int | None = None
    valid_from: datetime | None = None
    default_number: str | None = None
    clip_no_screening: bool = False
    srtp: str = "off"
    t38: str = "offer"
    max_contacts: int = 5
    budget: Budget = NO_BUDGET


@dataclass(frozen=True, slots=True)
class Seat:
    """A person's or device's line; `username` is unique everywhere."""

    username: str
    account: str
    trunk: str | None = None
    ha1: Ha1 = Ha1()
    name: str = ""
    extension: str | None = None
    primary_number: str | None = None
    external_numbers: tuple[str, ...] = ()
    present: str = "primary"
    """`primary`, `anonymous` or an external number."""
    reject_anonymous: bool = False
    max_contacts: int = 5
    srtp: str = "off"
    budget: Budget = NO_BUDGET


@dataclass(frozen=True, slots=True)
class NumberRow:
    """What single numbers, blocks and ranges share: who has the number and where it goes.

    `prefix` is the whole number of a single number, and the leading digits of a block or range; `digits` is how many
    follow (0 for a single number). A range without a value of its own has its block's. Only `routable` rows have a
    route of their own: a block says only who owns it.
    """

    prefix: str
    digits: int
    account: str
    carrier: str
    status: NumberStatus = NumberStatus.ACTIVE
    channels: int = 2
    route: Route = NO_ROUTE
    on_busy: Route | None = None
    on_no_answer: Route | None = None
    no_answer_after: int = 25
    on_unreachable: Route | None = None
    on_limit: Route | None = None
    cli_prefix: str | None = None
    valid_from: datetime | None = None
    served_account: str | None = None
    block: str | None = None
    """The prefix of the block that a range belongs to."""
    type: str = "geographic"

    @property
    def serving(self) -> str:
        """The account in whose PBX the number is used (cross-account numbers, domain rules F1 to F8)."""
        return self.served_account or self.account


@dataclass(frozen=True, slots=True)
class ExternalNumber:
    """A number the customer owns elsewhere and may present (CLIP no screening)."""

    number: str
    account: str
    status: str = "unverified"
    """`unverified`, `verified` or `revoked`."""
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FaxBox:
    """Where received faxes go; (account, name) is its key."""

    account: str
    name: str
    email: str
    pdf_password: str | None = None
    """In clear inside the process; encrypted at rest, never logged."""
    station_id: str | None = None

    def __repr__(self) -> str:
        return f"FaxBox({self.account!r}, {self.name!r})"


@dataclass(frozen=True, slots=True)
class Rows:
    """Everything the snapshot is built from, as the store loads it."""

    carriers: tuple[Carrier, ...] = ()
    accounts: tuple[Account, ...] = ()
    trunks: tuple[Trunk, ...] = ()
    seats: tuple[Seat, ...] = ()
    numbers: tuple[NumberRow, ...] = ()
    """Single numbers and ranges (routable)."""
    blocks: tuple[NumberRow, ...] = ()
    """Blocks: who owns them."""
    external_numbers: tuple[ExternalNumber, ...] = ()
    fax_boxes: tuple[FaxBox, ...] = ()
