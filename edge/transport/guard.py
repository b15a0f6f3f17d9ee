"""Keeps floods, scanners and rubbish away from the parser (domain rules 7.3, 7.4, 7.12).

A source is an IPv4 address or an IPv6 /64. Nothing that a spoofed datagram can cause outlasts it: scanners and floods
are dropped packet by packet, and a ban is only ever asked for by those who saw the peer answer a challenge (but for
short ones of places where nobody is registered, see `edge.inbound.steps.sweeps`).

Three kinds of senders: exempt ones (carriers and static trunks of the provisioning) are never limited; known ones
(somebody is registered there, or we are) have ten times the rate; strangers have the rate, and share one bucket, so
that any number of forged addresses leaves time for the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

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
    FLOOD = "flood"
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """`rate` messages per second and `burst` at once per source, `datagram` bytes, `connections` open per source.

    `strangers` is what all strangers together may send over one transport in a second, `connects` how many connections
    one source may open in a second, `all_connects` all strangers together.
    """

    rate: float = 100.0
    burst: float = 400.0
    datagram: int = 65535
    connections: int = 500
    strangers: float = 300.0
    connects: float = 20.0
    all_connects: float = 200.0


_KNOWN_TIMES = 10.0
"""How much more than a stranger a known source may send."""
_KNOWN_FOR = 1.0
"""Seconds for which a source that is known stays so without being looked up again."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    seen: float = 0.0

    def take(self, rate: float, burst: float, now: float, cost: float = 1.0) -> bool:
        tokens = min(burst, self.tokens + (now - self.seen) * rate)
        self.seen = now
        if tokens < cost:
            self.tokens = tokens
            return False
        self.tokens = tokens - cost
        return True


@dataclass(slots=True)
class _Source:
    exempt: bool
    messages: _Bucket
    connects: _Bucket | None = None
    banned_until: float = 0.0
    known_until: float = 0.0
    reason: str = ""


class Guard:
    """Decides before parsing; exempt networks (carriers) are never limited, so that nobody else can starve them."""

    def __init__(
        self,
        limits: GuardLimits | None = None,
        exempt: Iterable[Network] = (),
        refused: Callable[[Verdict], None] | None = None,
        known: Callable[[str], bool] | None = None,
        welcome: Iterable[Network] | None = None,
    ) -> None:
        """`refused` hears of each datagram and connection that is turned away (a metric). `known` says whether somebody
        is registered at a host, or we are with it: an office full of phones sends more than a stranger may. `welcome`:
        the networks that strangers may come from; all others hear nothing. None: everywhere."""
        self._refused = refused
        self._known = known
        self.welcome = None if welcome is None else tuple(welcome)
        self.limits = limits or GuardLimits()
        """May be replaced at any time."""
        self._exempt: tuple[Network, ...] = ()
        self._exempt_hosts: frozenset[str] = frozenset()
        self._sources: dict[str, _Source] = {}
        self._prefixes: dict[str, str] = {}  # IPv6 address -> its /64
        self._strangers = {kind: _Bucket(self.limits.strangers) for kind in ("datagrams", "streams")}
        self._connects = _Bucket(self.limits.all_connects)
        self.on_ban: Callable[[str], None] = lambda source: None
        """Called with a source (`source_of`) whenever it is banned: its open connections are to be closed."""
        self.exempt(exempt)

    def exempt(self, networks: Iterable[Network]) -> None:
        """Replace the exempt networks."""
        networks = tuple(networks)
        # most carriers have single addresses: a look-up instead of a walk
        self._exempt_hosts = frozenset(str(n.network_address) for n in networks if n.version == 4 and n.prefixlen == 32)
        self._exempt = tuple(n for n in networks if n.version == 6 or n.prefixlen != 32)
        for key, source in self._sources.items():
            source.exempt = self._is_exempt(key)

    def admit(self, data: bytes, host: str, now: float) -> Verdict:
        """Whether a datagram from `host` is worth parsing."""
        source = self._source(host, now)
        known = source.exempt
        if not known:
            if source.banned_until > now:
                return self._refuse(Verdict.BANNED)
            known = source.known_until > now or self._is_known(source, host, now)
            refused = self._over(source, known, host, "datagrams", 1.0, now)
            if refused is not None:
                return self._refuse(refused)
        if len(data) > self.limits.datagram:
            return self._refuse(Verdict.OVERSIZED)
        if data and not 0x20 < data[0] < 0x7F and data[0] not in b"\r\n\0":
            return self._refuse(Verdict.GARBAGE)
        if not source.exempt and not data.startswith(b"SIP/") and _SCANNERS.search(data, 0, _HEAD):
            return self._refuse(Verdict.SCANNER)
        return Verdict.PASS

    def admit_stream(self, host: str, size: int, now: float) -> Verdict:
        """Whether `size` bytes that came over a connection from `host` are worth reading; a connection that brought too
        many is to be closed. Counted as messages of 400 bytes."""
        source = self._source(host, now)
        if source.exempt:
            return Verdict.PASS
        if source.banned_until > now:
            return self._refuse(Verdict.BANNED)
        known = source.known_until > now or self._is_known(source, host, now)
        refused = self._over(source, known, host, "streams", 1.0 + size // 400, now)
        return Verdict.PASS if refused is None else self._refuse(refused)

    def admit_connection(self, host: str, already: int, now: float, crowded: bool = False) -> Verdict:
        """Whether a peer with `already` open connections may have another. `crowded`: few are left, and those are for
        senders that are known."""
        source = self._source(host, now)
        if source.exempt:
            return Verdict.PASS
        if source.banned_until > now:
            return self._refuse(Verdict.BANNED)
        limits = self.limits
        known = source.known_until > now or self._is_known(source, host, now)
        if not known and not self._is_welcome(host):
            return self._refuse(Verdict.STRANGER)
        if already >= limits.connections or (crowded and not known):
            return self._refuse(Verdict.CONNECTIONS)
        rate = limits.connects * (_KNOWN_TIMES if known else 1.0)
        if source.connects is None:
            source.connects = _Bucket(rate * 5, now)
        if not source.connects.take(rate, rate * 5, now):
            return self._refuse(Verdict.RATE)
        if not known and not self._connects.take(limits.all_connects, limits.all_connects, now):
            return self._refuse(Verdict.FLOOD)
        return Verdict.PASS

    def _over(self, source: _Source, known: bool, host: str, kind: str, cost: float, now: float) -> Verdict | None:
        limits = self.limits
        if known:
            if source.messages.take(limits.rate * _KNOWN_TIMES, limits.burst * _KNOWN_TIMES, now, cost):
                return None
            return Verdict.RATE
        if self.welcome is not None and not self._is_welcome(host):
            return Verdict.STRANGER
        if not source.messages.take(limits.rate, limits.burst, now, cost):
            return Verdict.RATE
        if not self._strangers[kind].take(limits.strangers, limits.strangers, now, cost):
            return Verdict.FLOOD
        return None

    def is_known(self, host: str, now: float) -> bool:
        """Whether a host is no stranger: exempt, or somebody is registered there, or we are."""
        source = self._source(host, now)
        return source.exempt or source.known_until > now or self._is_known(source, host, now)

    def _is_known(self, source: _Source, host: str, now: float) -> bool:
        if self._known is None or not self._known(host):
            return False
        if source.known_until == 0.0:
            source.messages.tokens = self.limits.burst * _KNOWN_TIMES
        source.known_until = now + _KNOWN_FOR
        return True

    def _is_welcome(self, host: str) -> bool:
        if self.welcome is None:
            return True
        address = ip_address(host.partition("%")[0])
        return any(address in network for network in self.welcome)

    def ban(self, host: str, seconds: float, now: float, reason: str = "") -> None:
        """Hear nothing from `host` for `seconds`; without effect on exempt networks. `reason` is for operators."""
        source = self._source(host, now)
        if source.banned_until < now + seconds:
            source.banned_until = now + seconds
            source.reason = reason
        if not source.exempt:
            self.on_ban(self.source_of(host))

    def unban(self, host: str, reason: str | None = None) -> bool:
        """Lift the ban of a host or source, with `reason` only one that has it; False where there was none."""
        source = self._sources.get(host if "/" in host else self.source_of(host))
        if source is None or not source.banned_until or (reason is not None and source.reason != reason):
            return False
        source.banned_until = 0.0
        return True

    def banned(self, now: float) -> list[tuple[str, float, str]]:
        """Sources under a ban, the seconds it has to go, and why."""
        return [
            (key, s.banned_until - now, s.reason)
            for key, s in self._sources.items()
            if s.banned_until > now and not s.exempt
        ]

    def source_of(self, host: str) -> str:
        """What is counted as one source: an IPv4 address, or the /64 of an IPv6 address."""
        if ":" not in host:
            return host
        prefix = self._prefixes.get(host)
        if prefix is None:
            if len(self._prefixes) >= _MOST_SOURCES:
                self._prefixes.clear()
            address = IPv6Address(host.partition("%")[0])
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
            source = self._sources[key] = _Source(self._is_exempt(key), _Bucket(self.limits.burst, now))
        return source

    def is_exempt(self, host: str) -> bool:
        """Whether a host is a carrier's or static trunk's."""
        return self._is_exempt(self.source_of(host))

    def _is_exempt(self, key: str) -> bool:
        if key in self._exempt_hosts:
            return True
        if not self._exempt:
            return False
        source = ip_network(key)
        return any(n.version == source.version and n.overlaps(source) for n in self._exempt)

    def _forget(self, now: float) -> None:
        """Drop sources whose bucket is full again; under a flood of spoofed sources the oldest ones without a ban."""
        idle = self.limits.burst / self.limits.rate
        old = [key for key, s in self._sources.items() if s.banned_until <= now and s.messages.seen + idle <= now]
        if not old:
            old = [key for key, s in self._sources.items() if s.banned_until <= now][: _MOST_SOURCES // 4]
        for key in old or list(self._sources)[: _MOST_SOURCES // 4]:
            del self._sources[key]

    def _refuse(self, verdict: Verdict) -> Verdict:
        if self._refused is not None:
            self._refused(verdict)
        return verdict
