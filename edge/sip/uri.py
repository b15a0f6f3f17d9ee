"""SIP and tel URIs (RFC 3261 section 19.1, RFC 3966)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final
from urllib.parse import unquote as percent_decode

from edge.sip.errors import RemoteProtocolError
from edge.sip.params import EMPTY, Params
from edge.sip.value import quick

_HOSTPORT: Final = r"(?:([A-Za-z0-9._\-]+)|\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\])"
"""A name or IPv4 address, or an IPv6 address in its brackets (RFC 5118 section 4.2): groups 1 and 2."""

_SIP: Final = re.compile(
    rf"""(?:([^\x00-\x20\x7f<>"@:]*)(?::([^\x00-\x20\x7f<>"@]*))?@)?
    {_HOSTPORT}(?::([0-9]{{0,5}}))?
    (;[^\x00-\x20\x7f<>"@?]*)?
    (?:\?([^\x00-\x20\x7f<>"]*))?""",
    re.VERBOSE,
)
"""What follows `sip:`. An "@" must be escaped everywhere else (section 25.1), so the first one ends the user part:
before it ";" and "?" belong to the user, after it they begin parameters and headers (which may hold a careless "@")."""

KEPT: Final = 300
"""Characters of a text whose parsed form is kept: longer ones would let strangers fill the memory."""

_OPAQUE: Final = re.compile(r'[^\x00-\x20\x7f<>"]+')
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.\-]*")
_SENT_BY: Final = re.compile(_HOSTPORT + r"\s*(?::\s*([0-9]{0,5}))?")


@quick
@dataclass(frozen=True, slots=True)
class Uri:
    """A `sip:`, `sips:` or `tel:` URI.

    `user` and `headers` are kept as they came (percent-encoded); `decoded_user` is what a person reads. A tel URI has
    its number in `user` and an empty `host`. IPv6 hosts are kept without their brackets. A URI of another scheme
    (which only an address may have) is opaque: all after the scheme is in `user`, and `host` is empty.
    """

    scheme: str
    user: str | None
    host: str
    port: int | None = None
    params: Params = EMPTY
    password: str | None = None
    headers: str = ""

    @classmethod
    def parse(cls, text: str, *, any_scheme: bool = False) -> Uri:
        """Parse an addr-spec. Raises RemoteProtocolError: 416 for an unknown scheme, 400 for a bad form.

        With `any_scheme` a URI of a scheme we do not know is opaque instead (`From: <http://...>` is well formed).
        """
        return _parse(text, any_scheme) if len(text) <= KEPT else _parse.__wrapped__(text, any_scheme)

    @property
    def decoded_user(self) -> str:
        """The user part with percent-encoding undone; "" where there is none."""
        return percent_decode(self.user) if self.user and "%" in self.user else (self.user or "")

    @property
    def transport(self) -> str | None:
        """The `transport` parameter in lower case."""
        value = self.params.get("transport")
        return value.lower() if value else None

    def bare(self) -> Uri:
        """As a Request-URI may be: without header part and `method` parameter (RFC 3261 section 19.1.5)."""
        if not self.headers and "method" not in self.params:
            return self
        return replace(self, headers="", params=self.params.without("method"))

    def equivalent(self, other: Uri) -> bool:
        """Whether both mean the same (RFC 3261 section 19.1.4; tel: RFC 3966 section 5).

        An absent port is not 5060, and `transport`, `user`, `ttl`, `method` and `maddr` must be in both or in neither;
        other parameters count only where both have them.
        """
        if self.scheme != other.scheme or self.port != other.port or self.host.lower() != other.host.lower():
            return False
        if self.scheme == "tel":
            if _dialled(self.user) != _dialled(other.user):
                return False
        elif _decoded(self.user) != _decoded(other.user) or _decoded(self.password) != _decoded(other.password):
            return False
        if self.params != other.params and not _same_params(self.params, other.params, self.scheme == "tel"):
            return False
        return self.headers == other.headers or _header_set(self.headers) == _header_set(other.headers)

    def __str__(self) -> str:
        params = str(self.params) if self.params else ""
        if not self.host:
            return f"{self.scheme}:{self.user}{params}"
        port = f":{self.port}" if self.port is not None else ""
        tail = f"{format_host(self.host)}{port}{params}{f'?{self.headers}' if self.headers else ''}"
        if self.user is None:
            return f"{self.scheme}:{tail}"
        if self.password is not None:
            return f"{self.scheme}:{self.user}:{self.password}@{tail}"
        return f"{self.scheme}:{self.user}@{tail}"


@lru_cache(maxsize=4096)
def _parse(text: str, any_scheme: bool) -> Uri:
    # the results are kept, since the same contacts and numbers come all the time
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    if scheme != "sip" and scheme != "sips":
        if not colon or not _SCHEME.fullmatch(scheme) or not _OPAQUE.fullmatch(rest):
            raise RemoteProtocolError("not a URI")
        return _of_other(scheme, rest, any_scheme)
    match = _SIP.fullmatch(rest)
    if match is None:
        raise RemoteProtocolError("bad SIP URI")
    user, password, host, ipv6, port, params, headers = match.groups()
    return Uri(
        scheme,
        user,
        host or ipv6,
        _port(port) if port else None,
        Params.parse(params) if params else EMPTY,
        password,
        headers or "",
    )


def _of_other(scheme: str, rest: str, any_scheme: bool) -> Uri:
    if scheme == "tel":
        number, _, tail = rest.partition(";")
        if not number:
            raise RemoteProtocolError("tel URI without a number")
        return Uri("tel", number, "", None, Params.parse(tail))
    if not any_scheme:
        raise RemoteProtocolError(f"URI scheme {scheme[:20]!r} is not supported", 416)
    return Uri(scheme, rest, "")


_NEVER_ALONE: Final = frozenset({"transport", "user", "ttl", "method", "maddr"})
_RESERVED_ESCAPE: Final = re.compile(r"%(?=3B|2F|3F|3A|40|26|3D|2B|24|2C|25)", re.IGNORECASE)


def _decoded(text: str | None) -> str | None:
    """Escapes undone, but for reserved characters, which are not equivalent to their escaped form (section 19.1.4)."""
    if not text or "%" not in text:
        return text
    return percent_decode(_RESERVED_ESCAPE.sub("%25", text), errors="surrogateescape")


def _dialled(user: str | None) -> str:
    return "".join(c for c in (user or "").lower() if c not in "-.()")


def _same_params(a: Params, b: Params, strict: bool) -> bool:
    left = {(_decoded(n) or "").lower(): (_decoded(v) or "").lower() for n, v in a.items()}
    right = {(_decoded(n) or "").lower(): (_decoded(v) or "").lower() for n, v in b.items()}
    if strict:
        return left == right
    return all(
        left[n] == right[n] if n in left and n in right else n not in _NEVER_ALONE for n in left.keys() | right.keys()
    )


def _header_set(text: str) -> frozenset[tuple[str, str]]:
    pairs = (part.partition("=") for part in text.split("&"))
    return frozenset((percent_decode(n).lower(), percent_decode(v)) for n, _, v in pairs)


def format_host(host: str) -> str:
    """`host` for a URI or Via: IPv6 addresses get their brackets."""
    return f"[{host}]" if ":" in host else host


def parse_hostport(text: str) -> tuple[str, int | None]:
    """Split `host[:port]`, `[v6]:port`. Raises RemoteProtocolError where there is no host or the port is none."""
    match = _SENT_BY.fullmatch(text.strip())
    if match is None:
        raise RemoteProtocolError("bad host or port")
    host, ipv6, port = match.groups()
    return host or ipv6, _port(port) if port else None


def _port(text: str) -> int:
    number = int(text)
    if not 0 < number < 65536:
        raise RemoteProtocolError("port out of range")
    return number


def encode_user(text: str) -> str:
    """`text` percent-encoded as the user part of a SIP URI (RFC 3261 section 25.1 `user`)."""
    if text.isalnum() and text.isascii():
        return text
    out: list[str] = []
    for byte in text.encode("utf-8", "surrogateescape"):
        c = chr(byte)
        out.append(c if (c.isascii() and c.isalnum()) or c in "-_.!~*'()&=+$,;?/" else f"%{byte:02X}")
    return "".join(out)
