"""name-addr and addr-spec: From, To, Contact, Route, P-Asserted-Identity ... (RFC 3261 section 20.10)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from edge.sip.errors import RemoteProtocolError
from edge.sip.params import EMPTY, Params, quote, split_quoted, unquote
from edge.sip.uri import KEPT, Uri
from edge.sip.value import quick

_QUOTED_NAME: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


@quick
@dataclass(frozen=True, slots=True)
class NameAddr:
    """A display name (None where there is none), a URI and header parameters. The URI may be of any scheme."""

    uri: Uri
    display: str | None = None
    params: Params = EMPTY

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Parse one name-addr or addr-spec. Parameters after a bare addr-spec belong to the header (section 20).

        Raises RemoteProtocolError(400). A display name that ought to be quoted is taken as it is.
        """
        return _parse(text) if len(text) <= KEPT else _parse.__wrapped__(text)

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
        return NameAddr(self.uri, self.display, self.params.with_("tag", tag))

    def __str__(self) -> str:
        name = f"{quote(self.display)} " if self.display else ""
        return f"{name}<{self.uri}>{self.params}"


@lru_cache(maxsize=4096)
def _parse(text: str) -> NameAddr:
    # the results are kept, since all messages of a dialog have the same From, To and Contact
    text = text.strip()
    display: str | None = None
    if text.startswith('"'):
        name = _QUOTED_NAME.match(text)
        bracket = text.find("<", name.end()) if name else -1
        if bracket < 0:
            raise RemoteProtocolError("display name without its closing quote or an address")
    else:
        bracket = text.find("<")
        if bracket < 0:
            addr, _, tail = text.partition(";")
            if "?" in addr or "," in addr:
                raise RemoteProtocolError("address that needs angle brackets (RFC 3261 section 20)")
            return NameAddr(Uri.parse(addr.rstrip(), any_scheme=True), None, Params.parse(tail))
    if bracket:
        display = unquote(text[:bracket].rstrip())
    end = text.find(">", bracket)
    if end < 0:
        raise RemoteProtocolError("address without a closing bracket")
    uri = Uri.parse(text[bracket + 1 : end].strip(), any_scheme=True)
    if end + 1 == len(text):
        return NameAddr(uri, display)
    tail = text[end + 1 :].lstrip()
    if not tail.startswith(";"):
        raise RemoteProtocolError("text after an address")
    return NameAddr(uri, display, Params.parse(tail[1:]))
