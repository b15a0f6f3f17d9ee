"""Digest access authentication, both sides (RFC 7616, RFC 8760; RFC 2069 style without qop for old carriers)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge.sip.errors import RemoteProtocolError
from edge.sip.params import quote, unquote
from edge.sip.uri import Uri

_HASHES: Final[dict[str, str]] = {
    name: function
    for name, function in (("MD5", "md5"), ("SHA-256", "sha256"), ("SHA-512-256", "sha512_256"))
    if function in hashlib.algorithms_available
}
_NO_SECRET: Final = {name: "0" * (32 if name == "MD5" else 64) for name in _HASHES}
"""As long as a secret, so that an unknown user takes the work of a known one."""
_PARAM: Final = re.compile(r'\s*([A-Za-z0-9_*\-]+)\s*=\s*("(?:[^"\\]++|\\.)*+"|[^\s,"]+)\s*(?:,|$)', re.DOTALL)
_NC: Final = re.compile(r"[0-9A-Fa-f]{8}")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate or Proxy-Authenticate value. `realm`, `nonce`, `opaque` stand as between their quotes."""

    realm: str
    nonce: str
    algorithm: str = "MD5"
    """As it came; `MD5` where it is absent."""
    qop: tuple[str, ...] = ()
    """Lower case; empty for RFC 2069."""
    opaque: str | None = None
    stale: bool = False

    @classmethod
    def parse(cls, text: str) -> Challenge:
        """Raises RemoteProtocolError for another scheme than Digest and for a bad form."""
        params = _digest_params(text)
        if "realm" not in params or "nonce" not in params:
            raise RemoteProtocolError("challenge without realm or nonce")
        return cls(
            realm=params["realm"],
            nonce=params["nonce"],
            algorithm=params.get("algorithm", "MD5"),
            qop=tuple(q for q in (p.strip().lower() for p in params.get("qop", "").split(",")) if q),
            opaque=params.get("opaque"),
            stale=params.get("stale", "").lower() == "true",
        )

    def __str__(self) -> str:
        parts = [f'realm="{self.realm}"', f'nonce="{self.nonce}"', f"algorithm={self.algorithm}"]
        if self.qop:
            parts.append(f'qop="{",".join(self.qop)}"')
        if self.opaque is not None:
            parts.append(f'opaque="{self.opaque}"')
        if self.stale:
            parts.append("stale=true")
        return "Digest " + ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Credentials:
    """One Authorization or Proxy-Authorization value. `username` is without escapes, the rest as it came."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str = "MD5"
    cnonce: str | None = None
    nc: str | None = None
    """Eight hexadecimal digits; None without qop."""
    qop: str | None = None
    opaque: str | None = None

    @classmethod
    def parse(cls, text: str) -> Credentials:
        """Raises RemoteProtocolError(400) for another scheme than Digest and for a bad form."""
        params = _digest_params(text)
        try:
            found = cls(
                username=unquote(f'"{params["username"]}"'),
                realm=params["realm"],
                nonce=params["nonce"],
                uri=params["uri"],
                response=params["response"],
                algorithm=params.get("algorithm", "MD5"),
                cnonce=params.get("cnonce"),
                nc=params.get("nc"),
                qop=params.get("qop"),
                opaque=params.get("opaque"),
            )
        except KeyError as missing:
            raise RemoteProtocolError(f"credentials without {missing.args[0]}") from None
        if found.qop is not None and (found.cnonce is None or found.nc is None or not _NC.fullmatch(found.nc)):
            raise RemoteProtocolError("credentials with qop but without cnonce or nc")
        return found

    def __str__(self) -> str:
        parts = [
            f"username={quote(self.username)}",
            f'realm="{self.realm}"',
            f'nonce="{self.nonce}"',
            f'uri="{self.uri}"',
            f'response="{self.response}"',
            f"algorithm={self.algorithm}",
        ]
        if self.cnonce is not None:
            parts.append(f'cnonce="{self.cnonce}"')
        if self.qop is not None:
            parts += [f"qop={self.qop}", f"nc={self.nc}"]
        if self.opaque is not None:
            parts.append(f'opaque="{self.opaque}"')
        return "Digest " + ", ".join(parts)

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, {self.realm!r})"


def ha1(username: str, realm: str, password: str, algorithm: str) -> str:
    """The secret that stands for a password, in lower-case hex. ValueError for an algorithm we do not know."""
    return _hash(algorithm, f"{username}:{realm}:{password}")


def read_challenges(values: Iterable[str]) -> list[Challenge]:
    """The challenges among header values that we understand, in their order; others are ignored (RFC 8760 2.4)."""
    found: list[Challenge] = []
    for value in values:
        try:
            found.append(Challenge.parse(value))
        except RemoteProtocolError:
            continue
    return found


def answer(
    challenges: Sequence[Challenge],
    method: str,
    uri: str,
    username: str,
    password: str,
    cnonce: str,
    nc: int = 1,
    body: bytes = b"",
) -> str | None:
    """The Authorization (or Proxy-Authorization) value for the first challenge that we support; None for none.

    `nc` counts the requests sent with this nonce, from 1; `body` matters only where the peer insists on auth-int.
    """
    for challenge in challenges:
        base, sess = _split_algorithm(challenge.algorithm)
        qop = _choose_qop(challenge.qop)
        if base not in _HASHES or (challenge.qop and qop is None):
            continue
        secret = ha1(username, unquote(f'"{challenge.realm}"'), password, base)
        if sess:
            secret = _hash(base, f"{secret}:{challenge.nonce}:{cnonce}")
        count = f"{nc:08x}"
        response = _response(base, secret, method, uri, challenge.nonce, qop, count, cnonce, body)
        return str(
            Credentials(
                username=username,
                realm=challenge.realm,
                nonce=challenge.nonce,
                uri=uri,
                response=response,
                algorithm=challenge.algorithm,
                cnonce=cnonce if qop or sess else None,
                nc=count if qop else None,
                qop=qop,
                opaque=challenge.opaque,
            )
        )
    return None


def challenges(realm: str, nonce: str, algorithms: Sequence[str], stale: bool = False) -> list[str]:
    """WWW-Authenticate (or Proxy-Authenticate) values, one for each algorithm, best first (RFC 8760 section 2.3)."""
    return [str(Challenge(quote(realm)[1:-1], nonce, name, ("auth",), None, stale)) for name in algorithms]


def find_credentials(values: Iterable[str], realm: str) -> Credentials | None:
    """The Digest credentials for `realm` among header values; None where there are none (other schemes are ignored).

    Raises RemoteProtocolError(400) for Digest credentials of a bad form.
    """
    for value in values:
        if value[:7].lower() == "digest ":
            found = Credentials.parse(value)
            if unquote(f'"{found.realm}"') == realm:
                return found
    return None


def check(credentials: Credentials, method: str, ha1_by_algorithm: Mapping[str, str]) -> bool:
    """Whether the peer knew the secret, in a time that does not depend on how wrong it was.

    `ha1_by_algorithm` holds the algorithms that were offered, and no other, so that nobody can choose a weaker one
    (domain rule T7.2); empty for an unknown user, which takes as long. The nonce is checked apart (`auth.nonce`), and
    so is the URI (`matches_uri`).
    """
    name, sess = _split_algorithm(credentials.algorithm)
    secret = None if sess else next((s for n, s in ha1_by_algorithm.items() if n.upper() == name), None)
    supported = name in _HASHES and credentials.qop in (None, "auth")
    function = name if supported else "MD5"
    expected = _response(
        function,
        secret or _NO_SECRET[function],
        method,
        credentials.uri,
        credentials.nonce,
        "auth" if credentials.qop else None,
        credentials.nc or "",
        credentials.cnonce or "",
        b"",
    )
    given = credentials.response.lower().encode("utf-8", "surrogateescape")
    return hmac.compare_digest(expected.encode(), given) and supported and secret is not None


def matches_uri(credentials: Credentials, request_uri: str) -> bool:
    """Whether the digest was made for this Request-URI: the same text, or at least the same user at the same host.

    Phones differ in the parameters and the port they put into `uri` (RFC 8760 section 2.6 item 6 leaves room).
    """
    if credentials.uri == request_uri:
        return True
    try:
        a, b = Uri.parse(credentials.uri), Uri.parse(request_uri)
    except RemoteProtocolError:
        return False
    return a.decoded_user == b.decoded_user and a.host.lower() == b.host.lower()


def _digest_params(text: str) -> dict[str, str]:
    """auth-params by lower-case name; quoted values without their quotes, escapes left in."""
    scheme, _, rest = text.strip().partition(" ")
    if scheme.lower() != "digest":
        raise RemoteProtocolError("authentication scheme is not Digest")
    found: dict[str, str] = {}
    rest = rest.strip()
    at = 0
    while at < len(rest):
        match = _PARAM.match(rest, at)
        if match is None:
            raise RemoteProtocolError("bad authentication parameters")
        name, value = match.group(1).lower(), match.group(2)
        if name in found:
            raise RemoteProtocolError(f"authentication parameter {name[:20]} more than once")
        found[name] = value[1:-1] if value[0] == '"' else value
        at = match.end()
    return found


def _split_algorithm(name: str) -> tuple[str, bool]:
    upper = name.upper()
    return (upper[:-5], True) if upper.endswith("-SESS") else (upper, False)


def _choose_qop(offered: tuple[str, ...]) -> str | None:
    return next((q for q in ("auth", "auth-int") if q in offered), None)


def _hash(algorithm: str, text: str) -> str:
    return _hash_bytes(algorithm, text.encode("utf-8", "surrogateescape"))


def _hash_bytes(algorithm: str, data: bytes) -> str:
    function = _HASHES.get(algorithm.upper())
    if function is None:
        raise ValueError(f"digest algorithm {algorithm!r} is not supported")
    return hashlib.new(function, data, usedforsecurity=False).hexdigest()


def _response(
    algorithm: str, secret: str, method: str, uri: str, nonce: str, qop: str | None, nc: str, cnonce: str, body: bytes
) -> str:
    a2 = f"{method}:{uri}"
    if qop == "auth-int":
        a2 += f":{_hash_bytes(algorithm, body)}"
    ha2 = _hash(algorithm, a2)
    if qop is None:
        return _hash(algorithm, f"{secret}:{nonce}:{ha2}")
    return _hash(algorithm, f"{secret}:{nonce}:{nc}:{cnonce}:{qop}:{ha2}")
