"""From an INVITE to a `CallAttempt`: what the dial plan needs, read from the message. Pure."""

from __future__ import annotations

from itertools import pairwise
from urllib.parse import unquote

from dialplan.model import CallAttempt, Called, Caller, Source
from edge.sip.address import NameAddr
from edge.sip.errors import RemoteProtocolError
from edge.sip.message import Request
from edge.sip.uri import Uri

_ANONYMOUS_HOST = "anonymous.invalid"
_HIDES_HISTORY = frozenset(("history", "header", "session"))
"""Of the whole request: every entry of History-Info is private (RFC 7044 section 10.1.2, RFC 4244 section 3.2)."""
_NONE: frozenset[str] = frozenset()
"""One for all calls: even an empty one has 216 bytes."""


def read_attempt(request: Request, source: Source, pick: float) -> CallAttempt:
    """The attempt that this INVITE is; `pick` (0 <= pick < 1) is its draw among carriers.

    Raises RemoteProtocolError(400, 416) for URIs that cannot be read."""
    called: list[Called] = []
    if "p-called-party-id" in request.headers:
        for address in _addresses(request, "p-called-party-id")[:1]:
            called.append(_called("p-called-party-id", address.uri))
    called.append(_called("request-uri", request.parsed_uri()))
    called.append(_called("to", request.to.uri))
    return CallAttempt(source, tuple(called), _caller(request), pick)


def _called(place: str, uri: Uri) -> Called:
    if uri.scheme == "tel":
        return Called(place, uri.decoded_user, True)
    user = uri.user or ""
    if ";" in user:
        user = user.partition(";")[0]
    return Called(place, unquote(user) if "%" in user else user, uri.params.get("user") == "phone")


def _caller(request: Request) -> Caller:
    headers = request.headers
    from_ = request.from_
    privacy = _NONE
    if "privacy" in headers:
        privacy = frozenset(v for t in headers.tokens("privacy") for part in t.split(";") if (v := part.strip()))
    user = from_.uri.decoded_user
    display = from_.display or ""
    # "unavailable" or nobody at all is a caller whose number is not known, not one who withholds it
    anonymous = (
        from_.uri.host.lower() == _ANONYMOUS_HOST
        or user.lower() in ("anonymous", "restricted")
        or display.lower() == "anonymous"
    )
    if not anonymous and "remote-party-id" in headers:
        # the elder form of P-Asserted-Identity says it in the entry itself (draft-ietf-sip-privacy-04)
        anonymous = any(_is_private(a) for a in _addresses(request, "remote-party-id"))
    diversion: list[str] = []
    private = _NONE
    hidden = not _HIDES_HISTORY.isdisjoint(privacy)
    if "diversion" in headers:
        forwarders = _addresses(request, "diversion")
        diversion = [a.uri.decoded_user for a in forwarders]
        private = frozenset(a.uri.decoded_user for a in forwarders if hidden or _is_private(a))
    elif "history-info" in headers:
        history = _addresses(request, "history-info")
        users = [a.uri.decoded_user for a in history]
        # Oldest first in RFC 7044; the last entry is the current target. One with the same user as the next is no
        # diversion: the network only sent the call to a contact of that user.
        diversion = [a for a, b in pairwise(users) if a.lstrip("+") != b.lstrip("+")][::-1]
        private = frozenset(a.uri.decoded_user for a in history if hidden or _is_private(a))
    return Caller(
        from_user=user,
        display=display,
        asserted=_users(request, "p-asserted-identity"),
        preferred=_users(request, "p-preferred-identity"),
        privacy=privacy,
        from_anonymous=anonymous,
        diversion=tuple(diversion),
        private_diversion=private,
    )


def _is_private(forwarder: NameAddr) -> bool:
    """Whether an entry of Diversion (RFC 5806 section 4), Remote-Party-ID or History-Info (RFC 7044 section 10.1.2) is
    not to be shown."""
    said = (forwarder.params.get("privacy") or "off").strip('"').lower()
    asked = forwarder.uri.headers.lower()
    return said in ("full", "uri") or ("privacy=" in asked and "privacy=none" not in asked)


def _users(request: Request, key: str) -> tuple[str, ...]:
    if key not in request.headers:
        return ()
    return tuple(a.uri.decoded_user for a in _addresses(request, key))


def _addresses(request: Request, key: str) -> list[NameAddr]:
    """The addresses of a header that only informs: a broken one is as good as none."""
    try:
        return request.addresses(key)
    except RemoteProtocolError:
        return []
