"""Answers to a carrier's challenges (RFC 3261 section 22, RFC 7616, RFC 8760), without locking an account. Pure."""

from __future__ import annotations

from enum import StrEnum

from edge.sip.auth.digest import Challenge, answer, find_credentials, read_challenges
from edge.sip.errors import RemoteProtocolError
from edge.sip.ids import IdSource
from edge.sip.message import Request, Response
from edge.sip.params import unquote

_SIDES = (("www-authenticate", "authorization"), ("proxy-authenticate", "proxy-authorization"))
_FIELD = {"authorization": "Authorization", "proxy-authorization": "Proxy-Authorization"}


class Judgement(StrEnum):
    """What a 401 or 407 means; the values are words for an operator."""

    RETRY = "challenge"
    """Send the request again, with the credentials that `apply` adds."""
    REFUSED = "user or password refused"
    UNSUPPORTED = "no challenge that can be answered (scheme, algorithm or qop)"
    NO_PASSWORD = "challenged, but no password is provisioned"


class _Known:
    """The newest challenges of one realm, one per algorithm, and how often their nonce was used."""

    __slots__ = ("challenges", "used")

    def __init__(self, challenges: list[Challenge]) -> None:
        self.challenges = challenges
        self.used = 0


class Login:
    """Credentials for one carrier and one purpose (its registration, or calls), with the nonces it gave us."""

    __slots__ = ("_ids", "_known", "_password", "_username")

    def __init__(self, username: str, password: str | None, ids: IdSource) -> None:
        self._username = username
        self._password = password
        self._ids = ids
        self._known: dict[tuple[str, str], _Known] = {}

    def __repr__(self) -> str:
        return f"Login({self._username!r})"

    def apply(self, request: Request) -> None:
        """Add credentials for every realm that challenged us before; those that are there already are replaced."""
        if not self._known or self._password is None:
            return
        request.headers.remove("authorization")
        request.headers.remove("proxy-authorization")
        for (side, _), known in self._known.items():
            known.used += 1
            value = answer(
                known.challenges,
                request.method,
                request.uri,
                self._username,
                self._password,
                self._ids.token(),
                known.used,
                request.body,
            )
            if value is not None:
                request.headers.add(_FIELD[side], value)

    @property
    def realms(self) -> frozenset[str]:
        """Realms that challenged us, without escapes."""
        return frozenset(unquote(f'"{realm}"') for _, realm in self._known)

    def judge(self, request: Request, response: Response) -> Judgement:
        """What to make of a 401 or 407 to `request`, and learn its challenges.

        Credentials are sent once per nonce: a fresh nonce that is refused means a wrong password, and trying on would
        lock the account (T1.21). A nonce of an earlier request may have run out, and `stale` says so itself.
        """
        if self._password is None:
            return Judgement.NO_PASSWORD
        found = False
        for key, side in _SIDES:
            realms: dict[str, list[Challenge]] = {}
            for challenge in read_challenges(response.headers.get_all(key)):
                realms.setdefault(challenge.realm, []).append(challenge)
            for realm, challenges in realms.items():
                if answer(challenges, "", "", "", "", "") is None:
                    continue
                found = True
                if self._refused(request, side, realm, challenges):
                    self._known.clear()
                    return Judgement.REFUSED
                self._known[side, realm] = _Known(challenges)
        return Judgement.RETRY if found else Judgement.UNSUPPORTED

    def _refused(self, request: Request, side: str, realm: str, challenges: list[Challenge]) -> bool:
        try:
            sent = find_credentials(request.headers.get_all(side), unquote(f'"{realm}"'))
        except RemoteProtocolError:
            sent = None
        if sent is None:
            return False
        if sent.nonce == challenges[0].nonce:
            return True
        known = self._known.get((side, realm))
        same = known is not None and known.challenges[0].nonce == sent.nonce
        first_use = int(sent.nc, 16) == 1 if sent.nc is not None else same and known is not None and known.used == 1
        if not first_use:
            return False
        # stale is no refusal, unless the nonce that it speaks of was itself the answer to a stale one
        return not challenges[0].stale or (same and known is not None and known.challenges[0].stale)
