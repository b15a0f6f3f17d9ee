"""name-addr and addr-spec: From, To, Contact, Route, P-Asserted-Identity ... (RFC 3261 section 20.10)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge.sip.errors import RemoteProtocolError
from edge.sip.params import EMPTY, Params, quote, split_quoted, unquote
from edge.sip.uri import Uri


@dataclass(frozen=True, slots=True)
class NameAddr:
    """A display name (None where there is none), a URI and header parameters."""

    uri: Uri
    display: str | None = None
    params: Params = EMPTY

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Parse one name-addr or addr-spec. Parameters after a bare addr-spec belong to the header (section 20)."""
        text = text.strip()
        bracket = _find_bracket(text)
        if bracket < 0:
            if text.startswith('"'):
                raise RemoteProtocolError("display name without an address")
            addr, _, tail = text.partition(";")
            return cls(Uri.parse(addr.strip()), None, Params.parse(tail))
        end = text.find(">", bracket)
        if end < 0:
            raise RemoteProtocolError("address without a closing bracket")
        display_raw = text[:bracket].strip()
        tail = text[end + 1 :].strip()
        if tail and not tail.startswith(";"):
            raise RemoteProtocolError("text after an address")
        return cls(Uri.parse(text[bracket + 1 : end].strip()), unquote(display_raw) if display_raw else None, Params.parse(tail[1:]))

    @classmethod
    def parse_list(cls, text: str) -> list[NameAddr]:
        """Parse a comma-separated list, as Contact, Route and P-Asserted-Identity allow."""
        return [cls.parse(part) for part in split_quoted(text, ",") if part]

    @property
    def tag(self) -> str | None:
        """The tag parameter (From and To)."""
        return self.params.get("tag")

    def with_tag(self, tag: str) -> NameAddr:
        """A copy with the tag set."""
        return replace(self, params=self.params.with_("tag", tag))

    def __str__(self) -> str:
        name = f"{quote(self.display)} " if self.display else ""
        return f"{name}<{self.uri}>{self.params}"


def _find_bracket(text: str) -> int:
    if '"' not in text:
        return text.find("<")
    quoted = False
    i = 0
    while i < len(text):
        c = text[i]
        if quoted and c == "\\":
            i += 1
        elif c == '"':
            quoted = not quoted
        elif c == "<" and not quoted:
            return i
        i += 1
    return -1
