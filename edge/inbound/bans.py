"""Bans as operators see them: of whole sources (the guard), and of a user from one source (the authenticator).

They live in this process: a restart lifts them, and the next failures bring them again. What is to stay out for good
belongs into the firewall (docs/security.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

from edge.inbound.steps.authenticate import Authenticator
from edge.observability.logging import get_logger
from edge.transport.guard import Guard

_log = get_logger("bans")
LONGEST = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Ban:
    """`user` None: the whole source."""

    source: str
    user: str | None
    until: datetime
    reason: str


class Bans:
    """All bans of this edge."""

    def __init__(
        self,
        guard: Guard,
        authenticator: Authenticator,
        now: Callable[[], float],
        utcnow: Callable[[], datetime],
    ) -> None:
        self._guard = guard
        self._authenticator = authenticator
        self._now = now
        self._utcnow = utcnow

    def listed(self) -> Sequence[Ban]:
        """All that run, the longest first."""
        now, utc = self._now(), self._utcnow()
        found = [Ban(source, None, utc + timedelta(seconds=s), why) for source, s, why in self._guard.banned(now)]
        found += [
            Ban(source, user, utc + timedelta(seconds=s), "wrong passwords")
            for source, user, s in self._authenticator.locked(now)
        ]
        return sorted(found, key=lambda ban: ban.until, reverse=True)

    def count(self) -> dict[str, int]:
        """How many run, by what is banned (source, user)."""
        now = self._now()
        return {"source": len(self._guard.banned(now)), "user": len(self._authenticator.locked(now))}

    def add(self, source: str, how_long: timedelta) -> str:
        """Ban a source by hand; what is banned (an address, or the /64 of an IPv6 address). Raises ValueError."""
        host = _host(source)
        if not timedelta(0) < how_long <= LONGEST:
            raise ValueError(f"a ban lasts at most {LONGEST.days} days; for longer use the firewall")
        if self._guard.is_exempt(host):
            raise ValueError(f"{source} is an address of a carrier or static trunk: remove it there first")
        self._guard.ban(host, how_long.total_seconds(), self._now(), "by an operator")
        banned = self._guard.source_of(host)
        _log.warning("ban.added", remote=banned, seconds=int(how_long.total_seconds()))
        return banned

    def lift(self, source: str, user: str | None) -> bool:
        """Lift a ban and forget the failures behind it, of `user` from this source or of the source with all its
        users; False where there was none. Raises ValueError."""
        host = _host(source)
        key = self._guard.source_of(host)
        lifted = False
        if user is not None:
            lifted = self._authenticator.pardon(key, user)
        else:
            lifted = self._guard.unban(host)
            lifted |= self._authenticator.pardon(key)
        if lifted:
            _log.warning("ban.lifted", remote=key, username=user)
        return lifted


def _host(source: str) -> str:
    try:
        if "/" in source:
            network = ip_network(source)
            if network.prefixlen != (64 if network.version == 6 else 32):
                raise ValueError
            return str(network.network_address)
        return str(ip_address(source))
    except ValueError:
        raise ValueError(f"{source!r} is no source: write an IP address, or an IPv6 network of 64 bits") from None
