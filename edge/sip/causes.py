"""Why a call ended, in the words of SIP and of the telephone network (Q.850; RFC 3398, RFC 4497, RFC 3326)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from edge.sip.params import Params, quote, split_quoted

CAUSE_NAMES: Final[Mapping[int, str]] = MappingProxyType({
    1: "Unallocated number", 2: "No route to transit network", 3: "No route to destination",
    6: "Channel unacceptable", 16: "Normal call clearing", 17: "User busy", 18: "No user responding",
    19: "No answer from user", 20: "Subscriber absent", 21: "Call rejected", 22: "Number changed",
    23: "Redirection to new destination", 24: "Call rejected due to feature at the destination",
    25: "Exchange routing error", 26: "Non-selected user clearing", 27: "Destination out of order",
    28: "Invalid number format", 29: "Facility rejected", 30: "Response to STATUS ENQUIRY", 31: "Normal, unspecified",
    34: "No circuit or channel available", 38: "Network out of order", 41: "Temporary failure",
    42: "Switching equipment congestion", 43: "Access information discarded",
    44: "Requested circuit or channel not available", 47: "Resource unavailable, unspecified",
    50: "Requested facility not subscribed", 55: "Incoming calls barred within CUG",
    57: "Bearer capability not authorized", 58: "Bearer capability not presently available",
    63: "Service or option not available", 65: "Bearer capability not implemented",
    69: "Requested facility not implemented", 70: "Only restricted digital information available",
    79: "Service or option not implemented", 87: "User not member of CUG", 88: "Incompatible destination",
    95: "Invalid message", 96: "Mandatory information element missing", 97: "Message type non-existent",
    99: "Information element non-existent", 100: "Invalid information element contents",
    102: "Recovery on timer expiry", 111: "Protocol error, unspecified", 127: "Interworking, unspecified",
})  # fmt: skip
"""Q.850 cause values and what they say."""

_CAUSE_OF_STATUS: Final[Mapping[int, int]] = MappingProxyType({
    400: 41, 401: 21, 402: 21, 403: 21, 404: 1, 405: 63, 406: 79, 407: 21, 408: 102, 410: 22, 413: 127, 414: 127,
    415: 79, 416: 127, 420: 127, 421: 127, 423: 127, 433: 24, 480: 18, 481: 41, 482: 25, 483: 25, 484: 28, 485: 1,
    486: 17, 487: 16, 488: 65, 500: 41, 501: 79, 502: 38, 503: 41, 504: 102, 505: 127, 513: 127, 580: 47,
    600: 17, 603: 21, 604: 1, 606: 65, 607: 21, 608: 21,
})  # fmt: skip

_STATUS_OF_CAUSE: Final[Mapping[int, int]] = MappingProxyType({
    1: 404, 2: 404, 3: 404, 17: 486, 18: 408, 19: 480, 20: 480, 21: 603, 22: 410, 23: 410, 24: 433, 25: 483, 26: 404,
    27: 502, 28: 484, 29: 501, 31: 480, 34: 503, 38: 503, 41: 503, 42: 503, 47: 503, 55: 403, 57: 403, 58: 503,
    63: 503, 65: 488, 69: 501, 70: 488, 79: 501, 87: 403, 88: 503, 102: 504, 111: 500, 127: 500,
})  # fmt: skip

REFUSALS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType({
    "unknown-source": (403, 21),
    "not-authenticated": (401, 21),
    "account-suspended": (403, 21),
    "trunk-planned": (403, 21),
    "unknown-number": (404, 1),
    "number-pending": (404, 1),
    "number-cancelled": (404, 1),
    "number-not-yet-valid": (404, 1),
    "number-of-other-carrier": (404, 1),
    "no-route": (404, 3),
    "route-loop": (482, 25),
    "rejected-by-route": (403, 21),
    "not-registered": (480, 20),
    "address-incomplete": (484, 28),
    "unknown-code": (404, 1),
    "destination-not-allowed": (403, 21),
    "cli-not-available": (403, 21),
    "cli-not-allowed": (403, 21),
    "anonymous-rejected": (433, 24),
    "caller-not-allowed": (403, 21),
    "number-limit": (486, 17),
    "trunk-limit": (486, 17),
    "account-limit": (486, 17),
    "carrier-limit": (503, 34),
    "budget-exhausted": (403, 21),
    "no-carrier": (503, 38),
    "too-many-hops": (483, 25),
    "rate-limited": (503, 42),
    "media-not-acceptable": (488, 65),
    "srtp-required": (488, 65),
    "srtp-not-possible": (488, 65),
    "bad-request": (400, 111),
    "media-full": (503, 34),
    "unavailable": (503, 41),
})  # fmt: skip
"""`dialplan.model.Reason` value → (SIP status, Q.850 cause). Limits never answer 600 or 603 (domain rule 5.1.9)."""


def cause_of_status(status: int) -> int:
    """The Q.850 cause of a final response (RFC 3398 section 8.2.6.1); 16 for 2xx, 31 where there is no better."""
    return 16 if 200 <= status < 300 else _CAUSE_OF_STATUS.get(status, 31)


def status_of_cause(q850: int) -> int:
    """The final response to a set-up that failed with a Q.850 cause (RFC 3398 section 7.2.4.1); 500 for unlisted ones.

    Cause 16, which ends a call and refuses none, gives 480.
    """
    return 480 if q850 == 16 else _STATUS_OF_CAUSE.get(q850, 500)


def reason_header(q850: int, text: str | None = None) -> str:
    """A Reason value (RFC 3326): `Q.850;cause=17;text="User busy"`; `text` defaults to the cause's name."""
    words = CAUSE_NAMES.get(q850) if text is None else text
    return f"Q.850;cause={q850};text={quote(words)}" if words else f"Q.850;cause={q850}"


def answered_elsewhere(header: str | None) -> bool:
    """Whether a Reason value or list says that somebody else took the call: `SIP;cause=200` (RFC 3326 section 2)."""
    if not header or "200" not in header:
        return False
    for value in split_quoted(header, ","):
        protocol, _, tail = value.partition(";")
        if protocol.strip().upper() == "SIP" and (Params.parse(tail).get("cause") or "").strip() == "200":
            return True
    return False


def parse_reason(header: str | None) -> int | None:
    """The Q.850 cause (0 to 127) in a Reason value or list; None where there is none that can be read."""
    if not header:
        return None
    for value in split_quoted(header, ","):
        protocol, _, tail = value.partition(";")
        if protocol.strip().upper() == "Q.850":
            cause = (Params.parse(tail).get("cause") or "").strip()
            if cause.isascii() and cause.isdigit() and len(cause) <= 3 and int(cause) <= 127:
                return int(cause)
    return None
