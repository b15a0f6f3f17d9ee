"""Keeps floods, scanners and rubbish away from the parser (domain rules 7.3, 7.4, 7.12).

A source is an IPv4 address or an IPv6 /64. Nothing that a spoofed datagram can cause outlasts it: scanners and floods
are dropped packet by packet, and a ban is only ever asked for by those who saw the peer answer a challenge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network

Network = IPv4Network | IPv6Network

_SCANNERS = re.compile(
    rb"\r\n(?:user-agent|server)[ \t]*:[^\r\n]*"
    rb"(?:friendly-scanner|friendly-request|sipvicious|sip-scan|sundayddr|sipcli|sipsak|iwar|smap|vaxsipuseragent|pplsip)",
    re.IGNORECASE,
)
_HEAD = 2048  # bytes in which a scanner's User-Agent is looked for
_MOST_SOURCES = 65536


class Verdict(StrEnum):
    """What becomes of a datagram or connection; a label of a metric."""

    PASS = "pass"
    BANNED = "banned"
    RATE = "rate"
    SCANNER = "scanner"
    OVERSIZED = "oversized"
    GARBAGE = "garbage"
    CONNECTIONS = "connections"


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """`rate` datagrams per second and `burst` at once per source, `datagram` bytes, `connections` open per source."""

    rate: float = 100.0
    burst: float = 400.0
    datagram: int = 65535
    connections: int = 500


class _Source:
    __slots__ = ("banned_until", "exempt", "seen", "tokens")

    def __init__(self, tokens: float, now: float, exempt: bool) -> None:
        self.tokens = tokens
        self.seen = now
        self.exempt = exempt
        self.banned_until = 0.0


class Guard:
    """Decides before parsing; exempt networks (carriers) are never limited, so that nobody else can starve them."""

    def __init__(
        self,
        limits: GuardLimits | None = None,
        exempt: Iterable[Network] = (),
        refused: Callable[[Verdict], None] | None = None,
        known: Callable[[str], bool] | None = None,
    ) -> None:
        """`refused` hears of each datagram and connection that is turned away (a metric). `known` says whether somebody
        is registered at a host, or we are with it: an office full of phones sends more than a stranger may. It is asked
        for sources that are over the rate only."""
        self._refused = refused
        self._known = known
        self.limits = limits or GuardLimits()
        """May be replaced at any time."""
        self._exempt = tuple(exempt)
        self._sources: dict[str, _Source] = {}
        self._prefixes: dict[str, str] = {}  # IPv6 address -> its /64

    def exempt(self, networks: Iterable[Network]) -> None:
        """Replace the exempt networks."""
        self._exempt = tuple(networks)
        for key, source in self._sources.items():
            source.exempt = self._is_exempt(key)

    def admit(self, data: bytes, host: str, now: float) -> Verdict:
        """Whether a datagram from `host` is worth parsing."""
        source = self._source(host, now)
        if not source.exempt:
            if source.banned_until > now:
                return self._refuse(Verdict.BANNED)
            limits = self.limits
            tokens = min(limits.burst, source.tokens + (now - source.seen) * limits.rate)
            source.seen = now
            if tokens < 1.0:
                source.tokens = tokens
                if self._known is None or not self._known(host):
                    return self._refuse(Verdict.RATE)
            else:
                source.tokens = tokens - 1.0
        if len(data) > self.limits.datagram:
            return self._refuse(Verdict.OVERSIZED)
        if data and not 0x20 < data[0] < 0x7F and data[0] not in b"\r\n\0":
            return self._refuse(Verdict.GARBAGE)
        if not source.exempt and not data.startswith(b"SIP/") and _SCANNERS.search(data, 0, _HEAD):
            return self._refuse(Verdict.SCANNER)
        return Verdict.PASS

    def admit_connection(self, host: str, already: int, now: float) -> Verdict:
        """Whether a peer with `already` open connections may have another."""
        source = self._source(host, now)
        if source.exempt:
            return Verdict.PASS
        if source.banned_until > now:
            return self._refuse(Verdict.BANNED)
        return self._refuse(Verdict.CONNECTIONS) if already >= self.limits.connections else Verdict.PASS

    def ban(self, host: str, seconds: float, now: float) -> None:
        """Hear nothing from `host` for `seconds`; without effect on exempt networks."""
        source = self._source(host, now)
        source.banned_until = max(source.banned_until, now + seconds)

    def unban(self, host: str) -> bool:
        """Lift a ban; False where there was none."""
        source = self._sources.get(self.source_of(host))
        if source is None or not source.banned_until:
            return False
        source.banned_until = 0.0
        return True

    def banned(self, now: float) -> list[tuple[str, float]]:
        """Sources under a ban and the seconds it has to go."""
        return [
            (key, s.banned_until - now) for key, s in self._sources.items() if s.banned_until > now and not s.exempt
        ]

    def source_of(self, host: str) -> str:
        """What is counted as one source: an IPv4 address, or the /64 of an IPv6 address."""
        if ":" not in host:
            return host
        prefix = self._prefixes.get(host)
        if prefix is None:
            if len(self._prefixes) >= _MOST_SOURCES:
                self._prefixes.clear()
            address = IPv6Address(host)
            mapped = address.ipv4_mapped
            prefix = str(mapped) if mapped else str(IPv6Network((int(address) >> 64 << 64, 64)))
            self._prefixes[host] = prefix
        return prefix

    def _source(self, host: str, now: float) -> _Source:
        key = self.source_of(host) if ":" in host else host
        source = self._sources.get(key)
        if source is None:
            if len(self._sources) >= _MOST_SOURCES:
                self._forget(now)
            source = self._sources[key] = _Source(self.limits.burst, now, self._is_exempt(key))
        return source

    def _is_exempt(self, key: str) -> bool:
        source = ip_network(key)
        return any(n.version == source.version and n.overlaps(source) for n in self._exempt)

    def _forget(self, now: float) -> None:
        """Drop sources whose bucket is full again; under a flood of spoofed sources the oldest ones without a ban."""
        idle = self.limits.burst / self.limits.rate
        old = [key for key, s in self._sources.items() if s.banned_until <= now and s.seen + idle <= now]
        if not old:
            old = [key for key, s in self._sources.items() if s.banned_until <= now][: _MOST_SOURCES // 4]
        for key in old or list(self._sources)[: _MOST_SOURCES // 4]:
            del self._sources[key]

    def _refuse(self, verdict: Verdict) -> Verdict:
        if self._refused is not None:
            self._refused(verdict)
        return verdict
