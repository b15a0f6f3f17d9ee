"""Bytes to messages (RFC 3261 section 7): the header block is split into lines and no further.

Lines end in CRLF; a bare CR or LF in the header block is refused, so that we and the next element can never see
different headers in the same bytes. Typed views of header fields are made by whoever asks the message for them.
"""

from __future__ import annotations

import re
from typing import Final

from edge.sip.errors import RemoteProtocolError
from edge.sip.headers import COMPACT, Headers, field_key, field_name
from edge.sip.message import Request, Response
from edge.sip.params import split_quoted

MAX_MESSAGE: Final = 65536
"""Bytes of a whole message; what is longer is answered with 513 (RFC 3261 section 21.5.7)."""
MAX_FIELDS: Final = 200
"""Header fields of a message."""
MAX_VIAS: Final = 70
"""Via values of a message: as many as Max-Forwards lets a request travel."""

_Field = tuple[str, str, str]

_NOT_TOKEN: Final = re.compile(r"[^A-Za-z0-9\-.!%*_+`'~]")
_FOLD: Final = re.compile(r"\r\n[ \t]+")

_COMMON: Final = (
    "accept", "accept-contact", "accept-encoding", "accept-language", "alert-info", "allow", "allow-events",
    "also", "authorization", "call-id", "call-info", "contact", "content-disposition", "content-encoding",
    "content-language", "content-length", "content-type", "cseq", "date", "diversion", "error-info", "event",
    "expires", "flow-timer", "from", "geolocation", "history-info", "identity", "in-reply-to", "max-forwards",
    "mime-version", "min-expires", "min-se", "organization", "p-access-network-info", "p-asserted-identity",
    "p-associated-uri", "p-called-party-id", "p-charging-vector", "p-early-media", "p-preferred-identity",
    "path", "priority", "privacy", "proxy-authenticate", "proxy-authorization", "proxy-require", "rack",
    "reason", "record-route", "refer-sub", "refer-to", "referred-by", "reject-contact", "remote-party-id",
    "replaces", "reply-to", "request-disposition", "require", "retry-after", "route", "rseq", "server",
    "service-route", "session-expires", "session-id", "subject", "subscription-state", "supported",
    "target-dialog", "timestamp", "to", "unsupported", "user-agent", "user-to-user", "via", "warning",
    "www-authenticate",
)  # fmt: skip
_KEYS: Final[dict[str, str]] = {
    spelling: key
    for key in _COMMON
    for spelling in (key, field_name(key), "-".join(p.capitalize() for p in key.split("-")))
} | {spelling: key for short, key in COMPACT.items() for spelling in (short, short.upper())}
"""Spellings met every day → key; a fixed table, so that odd names cannot fill memory."""


def parse_message(data: bytes) -> Request | Response:
    """The message in a datagram, or in one frame of a stream.

    Empty lines before it are skipped, bytes after Content-Length are cut (RFC 3261 section 18.3); the message does not
    keep Content-Length, which is a property of its body. Raises RemoteProtocolError: 400, 505 or 513 with `request`
    set, or status None for what cannot be answered.
    """
    start = 0
    if data.startswith((b"\r", b"\n")):
        start = len(data) - len(data.lstrip(b"\r\n"))
    end = data.find(b"\r\n\r\n", start, start + MAX_MESSAGE)
    fault: tuple[int, str] | None = None
    if end < 0:
        end = min(len(data), start + MAX_MESSAGE)
        fault = (400, "the header block does not end")
        body = b""
    else:
        body = data[end + 4 :]
        if len(data) - start > MAX_MESSAGE:
            fault = (513, f"message of {len(data)} bytes")
    head = data[start:end].decode("utf-8", "surrogateescape")
    if "\r\n " in head or "\r\n\t" in head:
        head = _FOLD.sub(" ", head)
    lines = head.split("\r\n")
    breaks = len(lines) - 1
    if head.count("\n") != breaks or head.count("\r") != breaks:
        fault = fault or (400, "bare CR or LF in the header block")
        lines = [line.replace("\r", " ").replace("\n", " ") for line in lines]
    if breaks > MAX_FIELDS:
        fault = fault or (400, f"{breaks} header fields")
        del lines[MAX_FIELDS + 1 :]

    fields: list[_Field] = []
    add = fields.append
    known = _KEYS
    length: str | None = None
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        key = known.get(name)
        if key is None:
            name = name.rstrip(" \t")
            if not colon or not name or _NOT_TOKEN.search(name):
                fault = fault or (400, "a header line is no header field")
                continue
            key = field_key(name)
        elif not colon:
            fault = fault or (400, "a header line is no header field")
            continue
        if key == "content-length":
            if length is not None:
                fault = fault or (400, "Content-Length more than once")
            length = value.strip(" \t")
            continue
        add((key, name, value.strip(" \t")))

    if len(fields) + head.count(",") > MAX_VIAS and fault is None and _via_count(fields) > MAX_VIAS:
        fault = (400, "too many Via values")
    if length is not None and fault is None:
        if not (length.isascii() and length.isdigit() and len(length) <= 10):
            fault = (400, "Content-Length is not a number")
        elif (size := int(length)) != len(body):
            if size > len(body):
                fault = (400, f"body of {len(body)} bytes where Content-Length says {size}")
            body = body[:size]

    headers = Headers.of_raw(fields)
    line = lines[0]
    if line[:4].upper() == "SIP/":
        return _response(line, headers, body, fault)
    method, _, rest = line.partition(" ")
    uri, _, version = rest.rpartition(" ")
    if not method or _NOT_TOKEN.search(method):
        raise RemoteProtocolError("not a SIP message", None)
    if version != "SIP/2.0" or not uri or " " in uri or "\t" in uri:
        fault = _request_line_fault(uri, version) or fault
    request = Request(method, uri, headers, body)
    if fault is not None:
        raise _owed(request, *fault)
    return request


def _request_line_fault(uri: str, version: str) -> tuple[int, str] | None:
    if version.upper() != "SIP/2.0":
        if version[:4].upper() == "SIP/" and uri and " " not in uri:
            return 505, "SIP version is not 2.0"
        return 400, "bad request line"
    return (400, "bad request line") if not uri or " " in uri or "\t" in uri else None


def _response(line: str, headers: Headers, body: bytes, fault: tuple[int, str] | None) -> Response:
    version, _, rest = line.partition(" ")
    code, _, reason = rest.partition(" ")
    if version.upper() != "SIP/2.0" or not (len(code) == 3 and code.isascii() and code.isdigit() and "1" <= code < "7"):
        raise RemoteProtocolError("bad status line", None)
    if fault is not None:
        raise RemoteProtocolError(f"response: {fault[1]}", None)
    return Response(int(code), reason, headers, body)


def _owed(request: Request, status: int, detail: str) -> RemoteProtocolError:
    """The error for a broken request: with a status only where there is a Via to send a response to."""
    error = RemoteProtocolError(detail, None)
    if request.method == "ACK" or "via" not in request.headers:
        return error
    try:
        _ = request.top_via
    except RemoteProtocolError:
        return error
    error.status = status
    error.request = request
    return error


def _via_count(fields: list[_Field]) -> int:
    return sum(len(split_quoted(value, ",")) for key, _, value in fields if key == "via")
