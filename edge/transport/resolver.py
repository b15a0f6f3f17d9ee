"""Next hops to addresses: RFC 3263 with NAPTR, SRV (RFC 2782), A and AAAA."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal, NamedTuple, Protocol

import aiodns
import pycares
import structlog

from edge.sip.flow import Address, Hop, Transport
from edge.transport.clock import Clock
from edge.transport.errors import ResolveError

RecordType = Literal["A", "AAAA", "SRV", "NAPTR"]

_PORTS: dict[Transport, int] = {"udp": 5060, "tcp": 5060, "tls": 5061}
_SRV_PREFIX: dict[Transport, str] = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp."}
_SERVICES: dict[str, Transport] = {"sip+d2u": "udp", "sip+d2t": "tcp", "sips+d2t": "tls"}
_NONE = (pycares.errno.ARES_ENODATA, pycares.errno.ARES_ENOTFOUND)
_LEAST_TTL = 5.0
_MOST_TTL = 3600.0
_NEGATIVE_TTL = 30.0
_OUTAGE_TTL = 10.0  # how long the last good answer is used before the servers are asked again
_MOST_NAMES = 4096
_MOST_NAMED = 100  # names that the log tells of while servers do not answer for them; peers choose some
_log = structlog.get_logger("dns")


@dataclass(frozen=True, slots=True)
class ResolvedHop:
    """An address to send to. `server_name` is the service domain before SRV, for SNI and the certificate check."""

    transport: Transport
    address: Address
    server_name: str
    rank: int = field(default=0, compare=False)
    """Its place among the priorities of NAPTR and SRV: who has the same is as good."""


class Record(NamedTuple):
    """A DNS record: `rank` is (priority, weight) of SRV and (order, preference) of NAPTR; `port` is SRV's.

    `target` is an address (A, AAAA) or a name; `service` is NAPTR's, in lower case.
    """

    target: str
    rank: tuple[int, int] = (0, 0)
    port: int = 0
    service: str = ""


class Answer(NamedTuple):
    """Records of one name and type, none where there are none, and the seconds for which that holds."""

    records: tuple[Record, ...]
    ttl: float


class Dns(Protocol):
    """Asks servers."""

    async def query(self, name: str, kind: RecordType) -> Answer:
        """The records; ResolveError (temporary) where no server answered."""
        ...


class CaresDns:
    """DNS through c-ares; `servers` as `host` or `host:port`, those of the system where none are given."""

    def __init__(self, servers: Sequence[str] | None = None, timeout: float = 2.0, tries: int = 2) -> None:
        """`timeout` seconds per try. To be made inside the running loop."""
        self._resolver = aiodns.DNSResolver(nameservers=servers, timeout=timeout, tries=tries)

    async def close(self) -> None:
        """Give up running queries."""
        await self._resolver.close()

    async def query(self, name: str, kind: RecordType) -> Answer:
        """See `Dns`."""
        try:
            if kind in ("A", "AAAA"):  # getaddrinfo also knows /etc/hosts
                family = socket.AF_INET6 if kind == "AAAA" else socket.AF_INET
                found = await self._resolver.getaddrinfo(name, family=family)
                nodes = [(_text(node.addr[0]), node.ttl) for node in found.nodes]
                return Answer(
                    tuple(Record(host) for host in dict.fromkeys(h for h, _ in nodes)), _least(t for _, t in nodes)
                )
            result = await self._resolver.query_dns(name, kind)
        except aiodns.error.DNSError as error:
            if error.args[0] in _NONE:
                return Answer((), _NEGATIVE_TTL)
            raise ResolveError(f"{kind} of {name}: {error.args[1]}", True) from error
        records: list[Record] = []
        ttls: list[float] = []
        for record in result.answer:
            data = record.data
            if isinstance(data, pycares.SRVRecordData):
                records.append(Record(data.target, (data.priority, data.weight), data.port))
            elif isinstance(data, pycares.NAPTRRecordData):
                if data.flags.lower() == "s" and not data.regexp:
                    records.append(Record(data.replacement, (data.order, data.preference), 0, data.service.lower()))
            else:
                continue
            ttls.append(record.ttl)
        return Answer(tuple(records), _least(ttls))


@dataclass(slots=True)
class _Cached:
    answer: Answer
    until: float


class Resolver:
    """Turns hops into addresses in the order to try them; remembers answers for their TTL.

    While no server answers, the last good answer stays in use. SRV weights are drawn anew for each call.
    """

    def __init__(
        self,
        dns: Dns,
        clock: Clock,
        transports: Sequence[Transport] = ("udp", "tcp", "tls"),
        ipv4: bool = True,
        ipv6: bool = True,
        rng: random.Random | None = None,
    ) -> None:
        """`transports`, `ipv4`, `ipv6`: what we have listeners for; the first transport is preferred without NAPTR."""
        self._dns = dns
        self._clock = clock
        self._transports = tuple(transports)
        families: tuple[tuple[RecordType, bool], ...] = (("A", ipv4), ("AAAA", ipv6))
        self._kinds = [kind for kind, wanted in families if wanted]
        self._rng = rng or random.Random()
        self._cache: dict[tuple[str, RecordType], _Cached] = {}
        self._asking: dict[tuple[str, RecordType], asyncio.Task[Answer]] = {}
        self._silent: set[tuple[str, RecordType]] = set()
        self.failures = 0
        """Queries that no server answered, since the start."""

    async def resolve(self, hop: Hop) -> list[ResolvedHop]:
        """Addresses of `hop`, best first, never empty; numeric hosts without any query. Raises ResolveError."""
        host = hop.host.rstrip(".").lower()
        server_name = hop.server_name or host
        if _is_numeric(host):
            transport = hop.transport or "udp"
            return [ResolvedHop(transport, Address(host, hop.port or _PORTS[transport]), server_name)]
        if hop.port is not None:  # section 4.2: a port means no SRV
            targets = [(hop.transport or "udp", host, hop.port, 0)]
        else:
            targets = await self._services(host, hop.transport)
        out: list[ResolvedHop] = []
        failure: ResolveError | None = None
        for transport, name, port, rank in targets:
            try:
                addresses = await self._addresses(name)
            except ResolveError as error:
                failure = error
                continue
            out += [ResolvedHop(transport, Address(address, port), server_name, rank) for address in addresses]
        if not out:
            raise failure or ResolveError(f"{host} has no address", False)
        return list(dict.fromkeys(out))

    async def _services(self, host: str, transport: Transport | None) -> list[tuple[Transport, str, int, int]]:
        """(transport, target, port, rank) by NAPTR and SRV, or the host itself (sections 4.1 and 4.2)."""
        if transport is not None:
            choices = [(transport, _SRV_PREFIX[transport] + host)]
        else:
            try:
                naptr = await self._ask(host, "NAPTR")
            except ResolveError:  # there are servers that know SRV and cannot be asked for NAPTR
                naptr = ()
            choices = [
                (_SERVICES[r.service], r.target)
                for r in sorted(naptr, key=lambda r: r.rank)
                if _SERVICES.get(r.service) in self._transports
            ] or [(t, _SRV_PREFIX[t] + host) for t in self._transports]
        answers = await asyncio.gather(*(self._ask(name, "SRV") for _, name in choices), return_exceptions=True)
        targets: list[tuple[Transport, str, int, int]] = []
        failure: BaseException | None = None
        for place, ((chosen, _), records) in enumerate(zip(choices, answers, strict=True)):
            if isinstance(records, BaseException):
                failure = records
                continue
            if len(records) == 1 and records[0].target in ("", "."):  # RFC 2782: decidedly not available
                continue
            targets += [
                (chosen, r.target.rstrip(".").lower(), r.port, (place << 16) + r.rank[0])
                for r in self._by_weight(records)
            ]
        if targets:
            return targets
        if failure is not None:
            raise failure
        if any(answers):
            raise ResolveError(f"{host} offers no SIP service", False)
        chosen = transport or "udp"
        return [(chosen, host, _PORTS[chosen], 0)]

    def _by_weight(self, records: Iterable[Record]) -> list[Record]:
        """RFC 2782: by priority, within one by weighted lot."""
        out: list[Record] = []
        left = sorted(records, key=lambda r: (r.rank[0], r.rank[1] != 0))
        while left:
            best = [r for r in left if r.rank[0] == left[0].rank[0]]
            lot = self._rng.randint(0, sum(r.rank[1] for r in best))
            for record in best:
                lot -= record.rank[1]
                if lot <= 0:
                    break
            out.append(record)
            left.remove(record)
        return out

    async def _addresses(self, name: str) -> list[str]:
        if _is_numeric(name):
            return [name]
        answers = await asyncio.gather(*(self._ask(name, kind) for kind in self._kinds), return_exceptions=True)
        found: list[str] = []
        failure: BaseException | None = None
        for answer in answers:
            if isinstance(answer, BaseException):
                failure = answer
            else:
                found += [record.target for record in answer]
        if not found and failure is not None:
            raise failure
        return found

    async def _ask(self, name: str, kind: RecordType) -> tuple[Record, ...]:
        key = (name, kind)
        cached = self._cache.get(key)
        if cached is not None and cached.until > self._clock.now():
            return cached.answer.records
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.ensure_future(self._dns.query(name, kind))
            task.add_done_callback(lambda done: self._asked(key, done))
        try:
            answer = await asyncio.shield(task)  # one caller's time limit must not end the query of the others
        except ResolveError:
            if cached is None:
                raise
            cached.until = self._clock.now() + _OUTAGE_TTL
            return cached.answer.records
        if len(self._cache) >= _MOST_NAMES:
            self._cache.clear()
        self._cache[key] = _Cached(answer, self._clock.now() + min(max(answer.ttl, _LEAST_TTL), _MOST_TTL))
        return answer.records

    def _asked(self, key: tuple[str, RecordType], done: asyncio.Task[Answer]) -> None:
        del self._asking[key]
        if done.cancelled():
            return
        error = done.exception()  # seen, also where all who waited for it have gone
        name, kind = key
        if error is None:
            if key in self._silent:
                self._silent.discard(key)
                _log.info("dns.answers_again", name=name, kind=kind)
        elif kind != "NAPTR":  # there are servers that never answer for that
            self.failures += 1
            if key not in self._silent and len(self._silent) < _MOST_NAMED:
                self._silent.add(key)
                _log.warning("dns.no_answer", name=name, kind=kind, detail=str(error), known=key in self._cache)


def _is_numeric(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _text(host: str | bytes) -> str:
    return host.decode() if isinstance(host, bytes) else host


def _least(ttls: Iterable[float]) -> float:
    return float(min(ttls, default=_NEGATIVE_TTL))
