"""What RFC 3261 demands of a message that could be parsed (sections 8.1.1, 8.1.3, 8.2, 16.3)."""

from __future__ import annotations

from typing import Final

from edge.sip.errors import RemoteProtocolError
from edge.sip.ids import BRANCH_COOKIE
from edge.sip.message import Message, Request, Response
from edge.sip.params import split_quoted

_MANDATORY: Final = frozenset({"from", "to", "call-id", "cseq"})
_SINGLE: Final = _MANDATORY | {"max-forwards", "content-type"}
_NO_REQUIRE: Final = frozenset({"ACK", "CANCEL"})


def validate_request(request: Request, supported: frozenset[str] | None = None) -> None:
    """Refuse a request that the layers above must not see; they can then trust Via, From, To, Call-ID and CSeq.

    Raises RemoteProtocolError with `request` set: 400, 416, 483 (an initial INVITE that may go no further; a request
    that ends here is processed as usual), 420 with its Unsupported field where `supported` option tags (lower case)
    are given and Require or Proxy-Require names another; None, to be dropped, for an ACK or without a usable Via.

    A From without tag and a Via without branch are let through: RFC 2543 peers send them.
    """
    try:
        if "via" not in request.headers:
            raise RemoteProtocolError("Via is missing", None)
        branch = request.top_via.branch
        if branch == BRANCH_COOKIE:
            raise RemoteProtocolError("branch without anything after its cookie")
        _check_fields(request)
        if request.cseq.method != request.method:
            raise RemoteProtocolError("CSeq is of another method")
        if request.parsed_uri().headers:
            raise RemoteProtocolError("Request-URI with header fields")
        hops = request.integer("max-forwards")
        if hops is not None and hops > 255:
            raise RemoteProtocolError("Max-Forwards is not 0 to 255")
        if hops == 0 and request.method == "INVITE" and request.to.tag is None:
            raise RemoteProtocolError("Max-Forwards is used up", 483)
        if supported is not None and request.method not in _NO_REQUIRE:
            _check_extensions(request, supported)
    except RemoteProtocolError as error:
        if request.method == "ACK":
            error.status = None
        if error.status is not None:
            error.request = request
        raise


def validate_response(response: Response) -> None:
    """Refuse a response that no transaction of ours can have asked for: RemoteProtocolError with status None.

    A response with more than one Via was meant for somebody else (section 8.1.3.3).
    """
    try:
        vias = response.headers.get_all("via")
        if len(vias) != 1 or ("," in vias[0] and len(split_quoted(vias[0], ",")) != 1):
            raise RemoteProtocolError("response with none or several Via values")
        _ = response.top_via
        _check_fields(response)
    except RemoteProtocolError as error:
        error.status = None
        raise


def _check_fields(message: Message) -> None:
    seen: dict[str, str] = {}
    for key, _, value in message.headers.raw():
        if key in _SINGLE:
            if key in seen:
                raise RemoteProtocolError(f"{key} more than once")
            seen[key] = value
        elif key == "via" and "," in value and not all(split_quoted(value, ",")):
            raise RemoteProtocolError("empty Via value")
    if not seen.keys() >= _MANDATORY:
        raise RemoteProtocolError(f"{', '.join(sorted(_MANDATORY - seen.keys()))} missing")
    if not seen["call-id"]:
        raise RemoteProtocolError("empty Call-ID")
    message.read(seen["from"], seen["to"], seen["cseq"])


def _check_extensions(request: Request, supported: frozenset[str]) -> None:
    for key in ("require", "proxy-require"):
        unknown = [tag for tag in request.headers.tokens(key) if tag not in supported]
        if unknown:
            raise RemoteProtocolError(
                f"{key} of {', '.join(unknown)[:80]}", 420, headers=(("Unsupported", ", ".join(unknown)),)
            )
