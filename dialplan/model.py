"""Words of the dial plan: what a call attempt is, and what is decided about it. Nothing here knows SIP.

`decide(attempt, snapshot, now)` in `dialplan.engine` returns a RoutePlan or a Refusal, each with its Trace.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class SourceKind(StrEnum):
    CARRIER = "carrier"
    TRUNK = "trunk"
    SEAT = "seat"


class Source(NamedTuple):
    """Who places the call, after authentication. `account` is empty for a carrier; `name` is the carrier's or
    trunk's name or the seat's username."""

    kind: SourceKind
    name: str
    account: str = ""


class Called(NamedTuple):
    """A place where the called number may stand: `p-called-party-id`, `request-uri` or `to`, and its user part."""

    place: str
    user: str
    is_phone: bool = False
    """A tel URI, or `user=phone`: visual separators may be cut."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What the caller says of itself: input to be screened, never copied (domain rule 2.1.3)."""

    from_user: str = ""
    display: str = ""
    asserted: tuple[str, ...] = ()
    """User parts of P-Asserted-Identity."""
    preferred: tuple[str, ...] = ()
    """User parts of P-Preferred-Identity."""
    privacy: frozenset[str] = frozenset()
    """Values of Privacy in lower case: id, header, session, user, critical, none."""
    from_anonymous: bool = False
    """From says anonymous (RFC 3323: anonymous@anonymous.invalid). Not: From carries no number."""
    diversion: tuple[str, ...] = ()
    """User parts of Diversion / History-Info entries, newest first."""
    private_diversion: frozenset[str] = frozenset()
    """Those of them that want to stay unknown (RFC 5806 `privacy`, RFC 7044 section 10.1.2)."""


@dataclass(frozen=True, slots=True)
class CallAttempt:
    """A call as it arrives: who, what was called, what the caller claims."""

    source: Source
    called: tuple[Called, ...]
    """In the order in which the message has them; a carrier's `ddi_source` chooses among them."""
    caller: Caller = Caller()
    pick: float = 0.0
    """0 <= pick < 1: the draw that shares calls among carriers by weight. Randomness is an input."""
    passes_on: PassedOn | None = None
    """The party for whom the source calls: it transfers or forwards somebody else's call."""


class Reason(StrEnum):
    """Why a call is refused: one value for the SIP answer, the log line, the metric label and the record.

    `edge.sip.causes` maps each to a SIP status and a Q.850 cause; docs/refusals.md explains each to a support agent.
    """

    UNKNOWN_SOURCE = "unknown-source"
    NOT_AUTHENTICATED = "not-authenticated"
    ACCOUNT_SUSPENDED = "account-suspended"
    TRUNK_PLANNED = "trunk-planned"
    UNKNOWN_NUMBER = "unknown-number"
    NUMBER_PENDING = "number-pending"
    NUMBER_CANCELLED = "number-cancelled"
    NUMBER_NOT_YET_VALID = "number-not-yet-valid"
    NUMBER_OF_OTHER_CARRIER = "number-of-other-carrier"
    NO_ROUTE = "no-route"
    ROUTE_LOOP = "route-loop"
    REJECTED_BY_ROUTE = "rejected-by-route"
    NOT_REGISTERED = "not-registered"
    ADDRESS_INCOMPLETE = "address-incomplete"
    UNKNOWN_CODE = "unknown-code"
    DESTINATION_NOT_ALLOWED = "destination-not-allowed"
    CLI_NOT_AVAILABLE = "cli-not-available"
    CLI_NOT_ALLOWED = "cli-not-allowed"
    ANONYMOUS_REJECTED = "anonymous-rejected"
    CALLER_NOT_ALLOWED = "caller-not-allowed"
    NUMBER_LIMIT = "number-limit"
    TRUNK_LIMIT = "trunk-limit"
    ACCOUNT_LIMIT = "account-limit"
    CARRIER_LIMIT = "carrier-limit"
    BUDGET_EXHAUSTED = "budget-exhausted"
    NO_CARRIER = "no-carrier"
    TOO_MANY_HOPS = "too-many-hops"
    RATE_LIMITED = "rate-limited"
    MEDIA_NOT_ACCEPTABLE = "media-not-acceptable"
    SRTP_REQUIRED = "srtp-required"
    SRTP_NOT_POSSIBLE = "srtp-not-possible"
    BAD_REQUEST = "bad-request"
    MEDIA_FULL = "media-full"
    """The relay has no room for one more call."""
    UNAVAILABLE = "unavailable"
    """This edge cannot take the call: it drains, or its relay is away."""


class Step(NamedTuple):
    """One line of a decision: the rule that spoke (its number in docs/dialplan.md) and what it said in plain words."""

    rule: str
    text: str


@dataclass(slots=True)
class Trace:
    """How a decision came to be, step by step, for support agents."""

    steps: list[Step] = field(default_factory=list)

    def add(self, rule: str, text: str) -> None:
        """Append a step."""
        self.steps.append(Step(rule, text))


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call is not put through. `detail` is for operators: no secrets, numbers only where privacy allows."""

    reason: Reason
    detail: str = ""
    status: int | None = None
    """A SIP status that provisioning demands (route `reject: 404`); else the reason's own."""
    level: str | None = None
    """For limits: number, trunk, account or carrier."""
    limit: int | None = None
    used: int | None = None
    trace: Trace = field(default_factory=Trace)
    account: str | None = None
    """The account that is served, as far as it is known."""
    number: str | None = None
    """The number meant: E.164 with +, an extension or a bare code, as far as it is known."""


class Direction(StrEnum):
    INBOUND = "inbound"
    OUTBOUND = "outbound"
    INTERNAL = "internal"
    EMERGENCY = "emergency"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, as the far side may know it; `edge.b2bua.identity_headers` writes it for each profile.

    `presented` is what is displayed (E.164 with +, an extension on internal calls, None where unknown or withheld);
    `network` is the number we answer for (None towards seats and trunks, and where unknown).
    """

    presented: str | None = None
    network: str | None = None
    display: str = ""
    anonymous: bool = False
    diversion: tuple[str, ...] = ()
    """E.164 numbers that forwarded the call, newest first; empty for one that wants to stay unknown."""
    diversion_reason: str = "unconditional"
    """Why the newest of them forwarded it (RFC 5806): unconditional, user-busy, no-answer, unavailable, unknown."""


class PassedOn(NamedTuple):
    """The party of a call that its seat or trunk sends on, by a transfer or a 3xx answer."""

    party: Identity
    """As the plan of its call knew it; `diversion` are those that forwarded it before."""
    called_us: bool = True
    """False where the source had called that party: nobody calls with its number."""
    reason: str = "unconditional"
    """Why (RFC 5806), see `Identity.diversion_reason`."""


class TargetKind(StrEnum):
    SEAT = "seat"
    TRUNK = "trunk"
    CARRIER = "carrier"
    FAX = "fax"


@dataclass(frozen=True, slots=True)
class Target:
    """One place to try. `user` is the user part of the Request-URI as the far side wants it (empty for a seat, whose
    contacts say it)."""

    kind: TargetKind
    name: str
    account: str = ""
    user: str = ""
    identity: Identity = Identity()
    claims: tuple[ChannelClaim, ...] = ()
    """Channels that this target needs beyond the plan's (a carrier's)."""


class ChannelClaim(NamedTuple):
    """A channel that the call needs: level `number`, `trunk`, `account` or `carrier`; direction `in`, `out` or
    `total`; `key` names the row; `units` of `limit` (None: counted, never refused). Direction `cps` is not held: a
    call begins, at most `limit` in any second."""

    level: str
    key: str
    direction: str
    limit: int | None
    units: int = 1


class Outcome(StrEnum):
    """How a target ended, where a number may have a next route."""

    BUSY = "busy"
    NO_ANSWER = "no-answer"
    UNREACHABLE = "unreachable"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """Where a call goes. Targets are tried one after the other while their failure is a failover cause."""

    direction: Direction
    targets: tuple[Target, ...]
    called: str
    """The number meant: E.164 with +, an extension, or a bare code or emergency number."""
    account: str
    """The account that is served."""
    billed_account: str
    caller: Identity = Identity()
    """The caller as known to us, for records (privacy applies)."""
    claims: tuple[ChannelClaim, ...] = ()
    no_answer_after: int | None = None
    """Seconds of ringing until the next route; None: the edge's own answer timer."""
    number: str | None = None
    """`prefix` of the NumberRow that routed an inbound call."""
    visited: tuple[str, ...] = ()
    """Routes taken so far, so that next routes cannot loop."""
    allow_failover: bool = True
    trace: Trace = field(default_factory=Trace)


Decision = RoutePlan | Refusal
