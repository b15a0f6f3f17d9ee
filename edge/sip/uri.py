"""SIP and tel URIs (RFC 3261 section 19.1, RFC 3966)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import unquote as percent_decode

from edge.sip.errors import RemoteProtocolError
from edge.sip.params import EMPTY, Params

_SCHEMES = ("sip", "sips", "tel")


@dataclass(frozen=True, slots=True)
class Uri:
    """A `sip:`, `sips:` or `tel:` URI.

    `user` and `headers` are kept as they came (percent-encoded); `decoded_user` is what a person reads. A tel URI has
    its number in `user` and an empty `host`. IPv6 hosts are kept without their brackets.
    """

    scheme: str
    user: str | None
    host: str
    port: int | None = None
    params: Params = EMPTY
    password: str | None = None
    headers: str = ""

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Parse an addr-spec. Raises RemoteProtocolError: 416 for an unknown scheme, 400 for a bad form."""
        scheme, colon, rest = text.partition(":")
        scheme = scheme.strip().lower()
        if not colon:
            raise RemoteProtocolError("URI without a scheme", 400)
        if scheme not in _SCHEMES:
            raise RemoteProtocolError(f"URI scheme {scheme[:20]!r} is not supported", 416)
        if any(c in rest for c in " \t\r\n<>"):
            raise RemoteProtocolError("URI with blanks or brackets inside")
        if scheme == "tel":
            number, _, tail = rest.partition(";")
            if not number:
                raise RemoteProtocolError("tel URI without a number")
            return cls("tel", number, "", None, Params.parse(tail))
        # the user part may hold ";" and "?" (RFC 3261 section 19.1.2): the last "@" before a header part ends it
        user: str | None = None
        password: str | None = None
        at = rest.rfind("@", 0, rest.find("?", max(rest.find("@"), 0)) if "?" in rest[rest.find("@") + 1 :] else len(rest))
        if at >= 0:
            userinfo, rest = rest[:at], rest[at + 1 :]
            user, pw_colon, pw = userinfo.partition(":")
            if pw_colon:
                password = pw
        rest, _, headers = rest.partition("?")
        hostport, _, tail = rest.partition(";")
        host, port = parse_hostport(hostport)
        return cls(scheme, user, host, port, Params.parse(tail), password, headers)

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
        """The URI without header part and without parameters that only mean something to a Contact (method, headers)."""
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
        if self.scheme == "tel":
            return f"tel:{self.user}{self.params}"
        out = [self.scheme, ":"]
        if self.user is not None:
            out.append(self.user)
            if self.password is not None:
                out += [":", self.password]
            out.append("@")
        out.append(format_host(self.host))
        if self.port is not None:
            out.append(f":{self.port}")
        out.append(str(self.params))
        if self.headers:
            out += ["?", self.headers]
        return "".join(out)


_NEVER_ALONE = frozenset({"transport", "user", "ttl", "method", "maddr"})


def _decoded(text: str | None) -> str | None:
    return percent_decode(text) if text and "%" in text else text


def _dialled(user: str | None) -> str:
    return "".join(c for c in (user or "").lower() if c not in "-.()")


def _same_params(a: Params, b: Params, strict: bool) -> bool:
    left = {n.lower(): (v or "").lower() for n, v in a.items()}
    right = {n.lower(): (v or "").lower() for n, v in b.items()}
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
    text = text.strip()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise RemoteProtocolError("IPv6 address without a closing bracket")
        port_text = rest.lstrip(":") if rest.startswith(":") else ""
        if rest and not rest.startswith(":"):
            raise RemoteProtocolError("text after an IPv6 address")
    elif text.count(":") > 1:
        host, port_text = text, ""
    else:
        host, _, port_text = text.partition(":")
        host, port_text = host.strip(), port_text.strip()
    if not host:
        raise RemoteProtocolError("no host")
    if not port_text:
        return host, None
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and 0 < int(port_text) < 65536):
        raise RemoteProtocolError("port out of range")
    return host, int(port_text)


def encode_user(text: str) -> str:
    """`text` percent-encoded as the user part of a SIP URI (RFC 3261 section 25.1 `user`)."""
    if text.isalnum() and text.isascii():
        return text
    out: list[str] = []
    for byte in text.encode():
        c = chr(byte)
        out.append(c if (c.isascii() and c.isalnum()) or c in "-_.!~*'()&=+$,;?/" else f"%{byte:02X}")
    return "".join(out)
