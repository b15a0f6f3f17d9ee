"""Requests and responses (RFC 3261 section 7): raw headers, typed views made when somebody asks."""

from __future__ import annotations

from typing import NamedTuple

from edge.sip.address import NameAddr
from edge.sip.errors import LocalProtocolError, RemoteProtocolError
from edge.sip.fields.via import Via
from edge.sip.headers import Headers
from edge.sip.params import first_value
from edge.sip.uri import Uri


class CSeq(NamedTuple):
    """RFC 3261 section 20.16."""

    number: int
    method: str


class Message:
    """What requests and responses share.

    Typed views (`top_via`, `cseq`, `from_`, `to`, `contacts`) parse when asked and raise RemoteProtocolError(400)
    for a bad or missing field. `top_via`, `cseq`, `from_` and `to` keep their result for as long as the field has the
    same text, and do not look at it again before a header changes. Header text is UTF-8 with `surrogateescape`, so that
    bytes that are none leave as they came.
    """

    __slots__ = ("_cseq", "_from", "_to", "_via", "body", "headers")

    headers: Headers
    body: bytes

    def __init__(self, headers: Headers | None = None, body: bytes = b"") -> None:
        self.headers = headers if headers is not None else Headers()
        self.body = body
        self._cseq: tuple[int, str, CSeq] | None = None
        self._from: tuple[int, str, NameAddr] | None = None
        self._to: tuple[int, str, NameAddr] | None = None
        self._via: tuple[int, str, Via] | None = None

    def need(self, key: str) -> str:
        """The first value of `key`; RemoteProtocolError(400) where it is missing."""
        for k, _, value in self.headers.raw():
            if k == key:
                return value
        raise RemoteProtocolError(f"{key} is missing")

    def read(self, from_: str, to: str, cseq: str) -> None:
        """Read From, To and CSeq, whose text whoever validates a message has just come by. RemoteProtocolError."""
        changes = self.headers.changes
        self._from = changes, from_, NameAddr.parse(from_)
        self._to = changes, to, NameAddr.parse(to)
        self._cseq = changes, cseq, self._read_cseq(cseq)

    @property
    def call_id(self) -> str:
        return self.need("call-id")

    @property
    def cseq(self) -> CSeq:
        seen, changes = self._cseq, self.headers.changes
        if seen is not None and seen[0] == changes:
            return seen[2]
        text = self.need("cseq")
        value = seen[2] if seen is not None and seen[1] is text else self._read_cseq(text)
        self._cseq = changes, text, value
        return value

    def _read_cseq(self, text: str) -> CSeq:
        number, _, method = text.partition(" ")
        method = method.strip(" \t")
        if not (len(number) <= 10 and number.isascii() and number.isdigit() and method) or " " in method:
            number, method = self._odd_cseq()
        value = int(number)
        if value >= 2**31:
            raise RemoteProtocolError("CSeq is too large")
        return CSeq(value, method)

    def _odd_cseq(self) -> tuple[str, str]:
        """CSeq with tabs between its parts or zeros before its number."""
        # not at the other characters that Python takes for white space
        parts = self.need("cseq").replace("\t", " ").split(" ")
        parts = [part for part in parts if part]
        number = parts[0].lstrip("0") or "0" if parts else ""
        if len(parts) != 2 or len(number) > 10 or not (number.isascii() and number.isdigit()):
            raise RemoteProtocolError("bad CSeq")
        return number, parts[1]

    @property
    def top_via(self) -> Via:
        seen, changes = self._via, self.headers.changes
        if seen is not None and seen[0] == changes:
            return seen[2]
        text = self.need("via")
        value = seen[2] if seen is not None and seen[1] is text else Via.parse(first_value(text))
        self._via = changes, text, value
        return value

    @property
    def from_(self) -> NameAddr:
        seen, changes = self._from, self.headers.changes
        if seen is not None and seen[0] == changes:
            return seen[2]
        text = self.need("from")
        value = seen[2] if seen is not None and seen[1] is text else NameAddr.parse(text)
        self._from = changes, text, value
        return value

    @property
    def to(self) -> NameAddr:
        seen, changes = self._to, self.headers.changes
        if seen is not None and seen[0] == changes:
            return seen[2]
        text = self.need("to")
        value = seen[2] if seen is not None and seen[1] is text else NameAddr.parse(text)
        self._to = changes, text, value
        return value

    def set_top_via(self, value: Via, text: str) -> None:
        """Replace the first Via field by `text`, which begins with `value`."""
        self.headers.replace_first("via", text)
        self._via = self.headers.changes, text, value

    def set_from(self, value: NameAddr) -> None:
        """Replace From."""
        text = str(value)
        self.headers.set("From", text)
        self._from = self.headers.changes, text, value

    def set_to(self, value: NameAddr) -> None:
        """Replace To."""
        text = str(value)
        self.headers.set("To", text)
        self._to = self.headers.changes, text, value

    @property
    def contacts(self) -> list[NameAddr]:
        """All contacts, in order; `*` is not among them. Each is a SIP or tel URI, else RemoteProtocolError(416)."""
        found = [a for v in self.headers.get_all("contact") if v != "*" for a in NameAddr.parse_list(v)]
        for contact in found:
            if not contact.uri.host and contact.uri.scheme != "tel":
                raise RemoteProtocolError(f"Contact of scheme {contact.uri.scheme[:20]!r}", 416)
        return found

    def addresses(self, key: str) -> list[NameAddr]:
        """All addresses of a list header (Route, Record-Route, P-Asserted-Identity ...), in order."""
        return [a for v in self.headers.get_all(key) for a in NameAddr.parse_list(v)]

    def integer(self, key: str) -> int | None:
        """A header that is a number, possibly with parameters (Expires, Max-Forwards, Min-SE); None where absent."""
        value = self.headers.get(key)
        if value is None:
            return None
        digits = value.partition(";")[0].strip()
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 10:
            raise RemoteProtocolError(f"{key} is not a number")
        return int(digits)

    @property
    def content_type(self) -> str | None:
        """Media type in lower case without parameters."""
        value = self.headers.get("content-type")
        return value.partition(";")[0].strip().lower() if value is not None else None

    def start_line(self) -> str:
        raise NotImplementedError

    def to_bytes(self) -> bytes:
        """The message for the wire; Content-Length is made from the body.

        Raises LocalProtocolError where the start line would break in two.
        """
        start = self.start_line()
        if "\n" in start or "\r" in start:
            raise LocalProtocolError("line break in a start line")
        lines = [start]
        lines += [f"{name}: {value}" for key, name, value in self.headers.raw() if key != "content-length"]
        lines.append(f"Content-Length: {len(self.body)}\r\n\r\n")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


class Request(Message):
    """A request; `uri` is the Request-URI as it came."""

    __slots__ = ("_uri", "method", "uri")

    def __init__(self, method: str, uri: str, headers: Headers | None = None, body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.method = method
        self.uri = uri
        self._uri: tuple[str, Uri] | None = None

    def parsed_uri(self) -> Uri:
        """The Request-URI; RemoteProtocolError 416 or 400."""
        if self._uri is None or self._uri[0] is not self.uri:
            self._uri = self.uri, Uri.parse(self.uri)
        return self._uri[1]

    def start_line(self) -> str:
        return f"{self.method} {self.uri} SIP/2.0"

    def __repr__(self) -> str:
        return f"<{self.method} {self.uri}>"


class Response(Message):
    """A response."""

    __slots__ = ("reason", "status")

    def __init__(self, status: int, reason: str, headers: Headers | None = None, body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.status = status
        self.reason = reason

    def start_line(self) -> str:
        return f"SIP/2.0 {self.status} {self.reason}"

    def __repr__(self) -> str:
        return f"<{self.status} {self.reason}>"
