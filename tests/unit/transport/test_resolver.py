"""RFC 3263 and RFC 2782: from a hop to addresses, with caching, outages, and c-ares against a server on loopback."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import cast

import pytest
from structlog.testing import capture_logs

from edge.sip.flow import Hop, Transport
from edge.transport.errors import ResolveError
from edge.transport.resolver import Answer, CaresDns, Record, RecordType, ResolvedHop, Resolver

from .shell import port


class HandClock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    def utcnow(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


class Zone:
    """A name server made of a dict; `down` names what it does not answer, "*" for everything."""

    def __init__(self, records: dict[tuple[str, RecordType], list[Record]], ttl: float = 60) -> None:
        self.records = records
        self.ttl = ttl
        self.down: set[str] = set()
        self.asked: list[tuple[str, RecordType]] = []

    async def query(self, name: str, kind: RecordType) -> Answer:
        self.asked.append((name, kind))
        if self.down & {"*", name, kind}:
            raise ResolveError(f"{kind} of {name}: timeout", True)
        return Answer(tuple(self.records.get((name, kind), [])), self.ttl)


def resolver(zone: Zone, clock: HandClock | None = None, ipv4: bool = True, ipv6: bool = True) -> Resolver:
    return Resolver(zone, clock or HandClock(), ipv4=ipv4, ipv6=ipv6, rng=random.Random(7))


def srv(target: str, priority: int = 10, weight: int = 0, number: int = 5060) -> Record:
    return Record(target, (priority, weight), number)


def naptr(target: str, service: str, order: int, preference: int = 0) -> Record:
    return Record(target, (order, preference), 0, service)


def hops(found: list[ResolvedHop]) -> list[str]:
    return [f"{hop.transport} {hop.address}" for hop in found]


@pytest.mark.parametrize(
    ("hop", "expected"),
    [
        (Hop(None, "192.0.2.9", None), "udp 192.0.2.9:5060"),
        (Hop("tcp", "192.0.2.9", None), "tcp 192.0.2.9:5060"),
        (Hop("tls", "192.0.2.9", None), "tls 192.0.2.9:5061"),
        (Hop("tls", "2001:db8::1", 5099), "tls [2001:db8::1]:5099"),
    ],
)
async def test_numeric_host_needs_no_query(hop: Hop, expected: str) -> None:
    """RFC 3263 4.1, 4.2: an address is used as it is, over UDP (TLS for sips) where no transport is named."""
    zone = Zone({})
    assert hops(await resolver(zone).resolve(hop)) == [expected]
    assert zone.asked == []


async def test_port_means_no_srv() -> None:
    """RFC 3263 4.2: with a port only addresses are looked up."""
    zone = Zone({("sip.example", "A"): [Record("192.0.2.1")], ("sip.example", "AAAA"): [Record("2001:db8::1")]})
    assert hops(await resolver(zone).resolve(Hop("tcp", "SIP.example.", 5070))) == [
        "tcp 192.0.2.1:5070",
        "tcp [2001:db8::1]:5070",
    ]
    assert {kind for _, kind in zone.asked} == {"A", "AAAA"}


TELEKOM: dict[tuple[str, RecordType], list[Record]] = {
    ("tel.example", "NAPTR"): [
        naptr("_sip._udp.tel.example", "sip+d2u", 30),
        naptr("_sips._tcp.tel.example", "sips+d2t", 10),
        naptr("_sip._tcp.tel.example", "sip+d2t", 20),
        naptr("_ws.tel.example", "sips+d2w", 5),
    ],
    ("_sips._tcp.tel.example", "SRV"): [
        srv("h2-edns.example", 20, 0, 5061),
        srv("h1-edns.example", 10, 0, 5061),
        srv("h3-edns.example", 30, 0, 5061),
    ],
    ("_sip._tcp.tel.example", "SRV"): [srv("h1-edns.example")],
    ("h1-edns.example", "A"): [Record("192.0.2.1")],
    ("h2-edns.example", "A"): [Record("192.0.2.2")],
    ("h3-edns.example", "A"): [Record("192.0.2.3")],
}


async def test_naptr_then_srv_then_address() -> None:
    """RFC 3263 4.1, domain 1.3-12: order of NAPTR, priorities 10, 20, 30 of SRV; unknown services are passed over."""
    found = await resolver(Zone(dict(TELEKOM))).resolve(Hop(None, "tel.example", None))
    assert hops(found) == [
        "tls 192.0.2.1:5061",
        "tls 192.0.2.2:5061",
        "tls 192.0.2.3:5061",
        "tcp 192.0.2.1:5060",
    ]
    ranks = [hop.rank for hop in found]
    assert ranks == sorted(ranks) and len(set(ranks)) == 4, "none is as good as another"
    assert {hop.server_name for hop in found} == {"tel.example"}, "domain 1.3-13: not the SRV target"


async def test_named_transport_skips_naptr() -> None:
    """RFC 3263 4.1: the transport of the URI or of the configuration is binding."""
    zone = Zone(dict(TELEKOM))
    assert hops(await resolver(zone).resolve(Hop("tcp", "tel.example", None))) == ["tcp 192.0.2.1:5060"]
    assert ("tel.example", "NAPTR") not in zone.asked


async def test_server_name_of_the_hop_is_kept() -> None:
    """An outbound proxy found under another name is still checked against the service domain."""
    zone = Zone({("proxy.example", "A"): [Record("192.0.2.1")]})
    (found,) = await resolver(zone).resolve(Hop("tls", "proxy.example", 5061, "tel.example"))
    assert found.server_name == "tel.example"


async def test_without_naptr_all_transports_are_tried_by_srv() -> None:
    """RFC 3263 4.1: SRV of each transport that we have."""
    zone = Zone({("_sip._tcp.x.example", "SRV"): [srv("h.example")], ("h.example", "A"): [Record("192.0.2.4")]})
    assert hops(await resolver(zone).resolve(Hop(None, "x.example", None))) == ["tcp 192.0.2.4:5060"]


@pytest.mark.parametrize(("transport", "expected"), [(None, "udp 192.0.2.5:5060"), ("tls", "tls 192.0.2.5:5061")])
async def test_without_srv_the_host_itself(transport: Transport | None, expected: str) -> None:
    """RFC 3263 4.2: no SRV records: the address of the name at the default port."""
    zone = Zone({("x.example", "A"): [Record("192.0.2.5")]})
    assert hops(await resolver(zone).resolve(Hop(transport, "x.example", None))) == [expected]


async def test_name_without_address_is_an_error_that_will_stay() -> None:
    """A typing error in a carrier's name is told from an outage."""
    with pytest.raises(ResolveError, match=r"nowhere\.example has no address") as error:
        await resolver(Zone({})).resolve(Hop("udp", "nowhere.example", None))
    assert not error.value.temporary


async def test_service_that_is_decidedly_not_there() -> None:
    """RFC 2782: a target of "." says that the service is not available at this domain."""
    zone = Zone({("_sip._udp.x.example", "SRV"): [srv(".")], ("x.example", "A"): [Record("192.0.2.5")]})
    with pytest.raises(ResolveError, match="offers no SIP service"):
        await resolver(zone).resolve(Hop("udp", "x.example", None))


async def test_weights_are_drawn_within_a_priority() -> None:
    """RFC 2782: three to one within priority 10, weight 0 hardly ever first, priority 20 never before 10."""
    zone = Zone(
        {
            ("_sip._udp.x.example", "SRV"): [
                srv("192.0.2.20", 20, 100),
                srv("192.0.2.1", 10, 750),
                srv("192.0.2.2", 10, 250),
                srv("192.0.2.3", 10, 0),
            ],
        }
    )
    resolve = resolver(zone)
    first: Counter[str] = Counter()
    for _ in range(2000):
        found = [hop.address.host for hop in await resolve.resolve(Hop("udp", "x.example", None))]
        assert len(found) == 4 and found[3] == "192.0.2.20"
        first[found[0]] += 1
    assert 1400 < first["192.0.2.1"] < 1600 and first["192.0.2.3"] < 20
    assert zone.asked.count(("_sip._udp.x.example", "SRV")) == 1


async def test_families_that_we_have_no_listener_for_are_not_asked() -> None:
    """An address that cannot be reached is no hop."""
    zone = Zone({("x.example", "A"): [Record("192.0.2.1")], ("x.example", "AAAA"): [Record("2001:db8::1")]})
    assert hops(await resolver(zone, ipv6=False).resolve(Hop("udp", "x.example", 5060))) == ["udp 192.0.2.1:5060"]
    assert hops(await resolver(zone, ipv4=False).resolve(Hop("udp", "x.example", 5060))) == ["udp [2001:db8::1]:5060"]


async def test_answers_are_kept_for_their_ttl() -> None:
    """Domain 1.3-12: re-resolve at TTL, not before; answers of nothing are kept too."""
    clock, zone = HandClock(), Zone({("x.example", "A"): [Record("192.0.2.1")]}, ttl=60)
    resolve = resolver(zone, clock)
    for _ in range(3):
        await resolve.resolve(Hop("udp", "x.example", None))
    assert Counter(zone.asked).most_common(1)[0][1] == 1
    zone.records[("x.example", "A")] = [Record("192.0.2.2")]
    clock.at += 59
    assert hops(await resolve.resolve(Hop("udp", "x.example", 5060))) == ["udp 192.0.2.1:5060"]
    clock.at += 2
    assert hops(await resolve.resolve(Hop("udp", "x.example", 5060))) == ["udp 192.0.2.2:5060"]


async def test_outage_keeps_the_last_good_answer() -> None:
    """A DNS outage after the TTL does not end calls; when the servers are back the new answer is taken."""
    clock, zone = HandClock(), Zone(dict(TELEKOM))
    resolve = resolver(zone, clock)
    good = await resolve.resolve(Hop(None, "tel.example", None))
    zone.down = {"*"}
    clock.at += 7200
    with capture_logs() as told:
        assert await resolve.resolve(Hop(None, "tel.example", None)) == good
    named = [(line["name"], line["kind"]) for line in told if line["event"] == "dns.no_answer" and line["known"]]
    assert ("h1-edns.example", "A") in named and len(named) == len(set(named)) == resolve.failures
    asked = len(zone.asked)
    assert await resolve.resolve(Hop(None, "tel.example", None)) == good
    assert len(zone.asked) == asked, "a dead server is not asked for each call"
    zone.down = set()
    zone.records[("h1-edns.example", "A")] = [Record("192.0.2.11")]
    clock.at += 11
    with capture_logs() as told:
        assert hops(await resolve.resolve(Hop(None, "tel.example", None)))[0] == "tls 192.0.2.11:5061"
    again = [(line["name"], line["kind"]) for line in told if line["event"] == "dns.answers_again"]
    assert sorted(again) == sorted(named)


async def test_outage_without_any_answer_is_temporary() -> None:
    """Nothing was ever known: the caller hears that it may try later."""
    zone = Zone({})
    zone.down = {"*"}
    with pytest.raises(ResolveError, match="timeout") as error:
        await resolver(zone).resolve(Hop(None, "x.example", None))
    assert error.value.temporary


async def test_partial_outages_leave_what_works() -> None:
    """A server that knows no NAPTR, no IPv6, or one SRV target less, still leads somewhere."""
    zone = Zone(
        {
            ("_sip._udp.x.example", "SRV"): [srv("gone.example", 5), srv("h.example", 10)],
            ("h.example", "A"): [Record("192.0.2.4")],
        }
    )
    zone.down = {"NAPTR", "AAAA", "gone.example"}
    assert hops(await resolver(zone).resolve(Hop(None, "x.example", None))) == ["udp 192.0.2.4:5060"]


async def test_simultaneous_calls_share_one_query() -> None:
    """A hundred calls at start-up ask once, and one that gives up does not take the answer from the others."""
    zone = Zone({("x.example", "A"): [Record("192.0.2.1")]})
    resolve = resolver(zone)
    tasks = [asyncio.ensure_future(resolve.resolve(Hop("udp", "x.example", 5060))) for _ in range(100)]
    asyncio.get_running_loop().call_soon(tasks[0].cancel)
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(isinstance(f, list) and hops(f) == ["udp 192.0.2.1:5060"] for f in found[1:])
    assert Counter(zone.asked)[("x.example", "A")] == 1


# c-ares against a name server on loopback

_TYPES = {1: "A", 28: "AAAA", 33: "SRV", 35: "NAPTR"}


def _name(text: str) -> bytes:
    return b"".join(bytes([len(p)]) + p.encode() for p in text.split(".") if p) + b"\0"


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


WIRE = {
    ("tel.example", "NAPTR"): [
        struct.pack("!HH", 10, 5) + _text("s") + _text("SIP+D2T") + _text("") + _name("_sip._tcp.tel.example"),
        struct.pack("!HH", 5, 5) + _text("u") + _text("E2U+sip") + _text("!^.*$!sip:x@y!") + _name("."),
    ],
    ("_sip._tcp.tel.example", "SRV"): [struct.pack("!HHH", 10, 7, 5070) + _name("h.tel.example")],
    ("h.tel.example", "A"): [socket.inet_aton("192.0.2.77")],
    ("h.tel.example", "AAAA"): [socket.inet_pton(socket.AF_INET6, "2001:db8::77")],
}


class NameServer(asyncio.DatagramProtocol):
    """Answers from WIRE, NXDOMAIN elsewhere, SERVFAIL where the name begins with "broken"."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, at = [], 12
        while length := data[at]:
            labels.append(data[at + 1 : at + 1 + length].decode().lower())
            at += 1 + length
        kind = _TYPES.get(struct.unpack("!H", data[at + 1 : at + 3])[0], "?")
        question = data[12 : at + 5]
        name = ".".join(labels)
        answers = WIRE.get((name, kind), [])
        code = 2 if name.startswith("broken") else 0 if any(n == name for n, _ in WIRE) else 3
        out = data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(answers), 0, 0) + question
        for rdata in answers:
            out += b"\xc0\x0c" + data[at + 1 : at + 5] + struct.pack("!IH", 120, len(rdata)) + rdata
        self.transport.sendto(out, addr)


@asynccontextmanager
async def name_server() -> AsyncIterator[CaresDns]:
    number = port()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        NameServer, local_addr=("127.0.0.1", number)
    )
    dns = CaresDns([f"127.0.0.1:{number}"], timeout=0.5, tries=1)
    try:
        yield dns
    finally:
        await dns.close()
        transport.close()


async def test_cares_reads_all_record_types() -> None:
    """The wire formats of NAPTR, SRV, A and AAAA, their TTL, and a NAPTR that is not for us (flag u)."""
    async with name_server() as dns:
        answer = await dns.query("tel.example", "NAPTR")
        assert answer.records == (Record("_sip._tcp.tel.example", (10, 5), 0, "sip+d2t"),)
        assert 0 < answer.ttl <= 120
        found = await Resolver(dns, HandClock()).resolve(Hop(None, "tel.example", None))
        assert hops(found) == ["tcp 192.0.2.77:5070", "tcp [2001:db8::77]:5070"]
        assert {hop.server_name for hop in found} == {"tel.example"}


async def test_cares_tells_nothing_from_no_answer() -> None:
    """NXDOMAIN and empty answers are answers; SERVFAIL and silence are outages."""
    async with name_server() as dns:
        assert (await dns.query("nowhere.example", "SRV")).records == ()
        assert (await dns.query("h.tel.example", "SRV")).records == ()
        assert (await dns.query("nowhere.example", "A")).records == ()
        for kind in ("SRV", "A"):
            with pytest.raises(ResolveError) as error:
                await dns.query("broken.example", kind)
            assert error.value.temporary
    dead = CaresDns([f"127.0.0.1:{port()}"], timeout=0.1, tries=1)
    with pytest.raises(ResolveError) as error:
        await dead.query("tel.example", "SRV")
    assert error.value.temporary
    await dead.close()


async def test_localhost_is_found_without_a_name_server() -> None:
    """/etc/hosts counts: laboratories and containers name their peers there."""
    dns = CaresDns([f"127.0.0.1:{port()}"], timeout=0.1, tries=1)
    assert Record("127.0.0.1") in (await dns.query("localhost", "A")).records
    await dns.close()
