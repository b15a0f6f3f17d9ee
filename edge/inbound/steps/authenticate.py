"""Is the sender who it says: digest of seats and trunks (RFC 3261 section 22, RFC 7616, RFC 8760; rules 7.4, 7.5).

Known and unknown users get the same challenge after the same work. Requests are challenged with 401: we are their end,
no proxy (RFC 3261 section 22.2).

Who guesses is refused as that user from that source, and banned by source where nobody is known to be good
(`edge.inbound.steps.guesses`). A user is never banned everywhere: anybody could lock any customer out. Guessing one
user from many places is told to `alarm` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from config.model import Ha1, Seat, Trunk
from config.snapshot import Snapshot
from dialplan.model import Reason, Refusal
from edge.inbound.steps.failures import Failures
from edge.inbound.steps.guesses import Guesses
from edge.inbound.steps.offers import Device, Offers
from edge.inbound.steps.sweeps import BAN, Sweeps
from edge.observability.logging import get_logger
from edge.sip.auth.digest import Credentials, challenges, check, find_credentials, matches_uri
from edge.sip.auth.nonce import Nonces, NonceVerdict
from edge.sip.build import response_to
from edge.sip.flow import Flow
from edge.sip.message import Request, Response

_log = get_logger("authenticate")
_NOBODY: Final = Ha1()
_WRONG: Final = "wrong passwords"
_NAME: Final = 64
"""Characters of a name that are remembered and told of who guesses: names are as long as strangers like."""


class Bans(Protocol):
    """What is needed of the guard."""

    def source_of(self, host: str) -> str:
        """What is counted as one source."""
        ...

    def ban(self, host: str, seconds: float, now: float, reason: str = "") -> None:
        """Hear nothing from `host` for `seconds`."""
        ...

    def unban(self, host: str, reason: str | None = None) -> bool:
        """Lift a ban, with `reason` only one that has it; False where there was none."""
        ...

    def is_known(self, host: str, now: float) -> bool:
        """Whether the host is no stranger: a carrier, or somebody is registered there."""
        ...


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The sender knows the password."""

    who: Seat | Trunk


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send this 401. Nothing in it tells whether the user exists."""

    response: Response


Result = Authenticated | Challenge | Refusal


@dataclass(frozen=True, slots=True)
class DigestSettings:
    """`algorithms` best first: SHA-256 and MD5 are what provisioning stores. Phones take the first that they know, and
    those that choke on two are offered MD5 alone (`edge.inbound.steps.offers`)."""

    realm: str
    algorithms: tuple[str, ...] = ("SHA-256", "MD5")


class Authenticator:
    """Checks digests and bans who guesses. `failed` hears the kind of each failure (a metric)."""

    def __init__(
        self,
        settings: DigestSettings,
        nonces: Nonces,
        bans: Bans,
        failed: Callable[[str], None] = lambda kind: None,
        alarm: Callable[[str, str], None] = lambda kind, user: None,
    ) -> None:
        """`alarm` hears of a user whose password is guessed from many places, and of sweeps (with the source)."""
        self._realm = settings.realm
        self.offer(settings.algorithms)
        self._nonces = nonces
        self._bans = bans
        self._failed = failed
        self._guesses = Guesses()
        self._guessed = Failures()
        self._alarm = alarm
        self._sweeps = Sweeps()

    def offer(self, algorithms: Sequence[str]) -> None:
        """Offer and accept these from now on, best first. Raises ValueError on one that is not known."""
        unknown = [a for a in algorithms if a not in _STORED]
        if unknown or not algorithms:
            raise ValueError(f"digest algorithms are {' and '.join(_STORED)}, not {', '.join(unknown) or 'none'}")
        self._algorithms = algorithms
        self._offers = Offers(algorithms)
        self._by_name = {a.upper(): a for a in algorithms}

    def authenticate(self, request: Request, flow: Flow, snapshot: Snapshot, now: float) -> Result:
        """Who sent `request`, by its credentials for our realm. Raises RemoteProtocolError(400) for broken ones."""
        headers = request.headers
        given = find_credentials(headers.get_all("authorization"), self._realm)
        if given is None:
            given = find_credentials(headers.get_all("proxy-authorization"), self._realm)
        if given is None or given.algorithm.upper() not in self._by_name:  # T7.1, T7.2: as if there were none
            self._swept(request, flow, now)
            return self._challenge(request, flow, now, self._offers.to(self._device(request, flow), now))
        host = flow.remote.host
        source = self._bans.source_of(host)
        self._offers.answered(self._device(request, flow))
        username = given.username
        same = (self._by_name[given.algorithm.upper()],)
        if self._guesses.refused(source, username[:_NAME], now):
            if self._nonces.genuine(given.nonce, host):
                self._ban(flow, username, self._guesses.insisted(source, now), now)
            return Refusal(Reason.NOT_AUTHENTICATED, "too many failed attempts", status=403)
        if not self._nonces.genuine(given.nonce, host):
            self._failed("stale")
            return self._challenge(request, flow, now, same, stale=True)
        who: Seat | Trunk | None = snapshot.seats.get(username) or snapshot.trunk_by_username(username)
        if isinstance(who, Trunk) and who.mode == "static":
            who = None
        secrets = self._secrets(who.ha1 if who is not None else _NOBODY)
        right = check(given, request.method, secrets) and matches_uri(given, request.uri)
        if who is None or not right:
            self._count(request, flow, given, "unknown-user" if who is None else "wrong-password", now)
            return self._challenge(request, flow, now, same)
        verdict = self._nonces.accept(given.nonce, host, given.nc, now)
        if verdict is not NonceVerdict.FRESH:
            self._failed("replay" if verdict is NonceVerdict.REPLAYED else "stale")
            return self._challenge(request, flow, now, same, stale=True)
        self._sweeps.answered(source)
        self._guesses.knew(source, username[:_NAME], now)
        return Authenticated(who)

    def provisioned(self, old: Snapshot, new: Snapshot) -> None:
        """Passwords may have changed: what failed against another one, or before there was one, is no guess."""
        for source, user in self._guesses.remembered():
            if _ha1(old, user) != _ha1(new, user):
                self._guesses.pardon(source, user)
                if self._guesses.release(source) and self._bans.unban(source, _WRONG):
                    _log.warning("ban.lifted", remote=source, username=user)

    def pardon(self, source: str, username: str | None = None) -> bool:
        """Forget what was counted against a source, or against a user from there (an operator lifts a ban); False where
        nothing was."""
        return self._guesses.pardon(source, username)

    def locked(self, now: float) -> list[tuple[str, str, float]]:
        """Sources, the users that are refused from there, and the seconds this has to go."""
        return self._guesses.locked(now)

    def _device(self, request: Request, flow: Flow) -> Device:
        user = request.from_.uri.user or ""
        return self._bans.source_of(flow.remote.host), user, request.headers.get("user-agent") or ""

    def _challenge(
        self, request: Request, flow: Flow, now: float, algorithms: Sequence[str], stale: bool = False
    ) -> Challenge:
        response = response_to(request, 401)
        nonce = self._nonces.issue(flow.remote.host, now)
        for value in challenges(self._realm, nonce, algorithms, stale):
            response.headers.add("WWW-Authenticate", value)
        return Challenge(response)

    def _secrets(self, ha1: Ha1) -> dict[str, str]:
        secrets: dict[str, str] = {}
        for algorithm in self._algorithms:
            value = _STORED[algorithm](ha1)
            if value is not None:
                secrets[algorithm] = value
        return secrets

    def _swept(self, request: Request, flow: Flow, now: float) -> None:
        host = flow.remote.host
        user = (request.from_ if request.method != "REGISTER" else request.to).uri.user or ""
        source = self._bans.source_of(host)
        if self._sweeps.asked(source, user, now) and not self._is_good(host, source, now):
            self._bans.ban(host, BAN, now, "asked for many users")
            self._alarm("sweep", source)

    def _count(self, request: Request, flow: Flow, given: Credentials, kind: str, now: float) -> None:
        self._failed(kind)
        host = flow.remote.host
        source = self._bans.source_of(host)
        username = given.username[:_NAME]
        refused, whole = self._guesses.failed(source, username, now)
        if self._guessed.failed(username, now) is not None:
            self._alarm("guessing", username)
        _log.info("authentication.failed", remote=str(flow), username=username, kind=kind, method=request.method)
        if refused is not None:
            _log.warning(
                "authentication.banned", remote=str(flow), username=username, seconds=int(refused), whole=False
            )
        self._ban(flow, username, whole, now)

    def _ban(self, flow: Flow, username: str, seconds: float | None, now: float) -> None:
        host = flow.remote.host
        if seconds is None or self._is_good(host, self._bans.source_of(host), now):
            return
        self._bans.ban(host, seconds, now, _WRONG)
        _log.warning(
            "authentication.banned", remote=str(flow), username=username[:_NAME], seconds=int(seconds), whole=True
        )

    def _is_good(self, host: str, source: str, now: float) -> bool:
        """Whether silence would hit somebody who did nothing: a carrier, a trunk, a phone."""
        return self._bans.is_known(host, now) or self._guesses.is_good(source, now)


def _ha1(snapshot: Snapshot, username: str) -> Ha1 | None:
    who = snapshot.seats.get(username) or snapshot.trunk_by_username(username)
    return None if who is None else who.ha1


_STORED: Final[dict[str, Callable[[Ha1], str | None]]] = {"SHA-256": lambda h: h.sha256, "MD5": lambda h: h.md5}
