"""Two edges that share a database count a number's channels together, on the wire (domain rules T5.3 to T5.5)."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.edge import Edge
from peers.ports import take_port
from peers.process import poll

from config.embedded import EmbeddedPostgres

pytestmark = pytest.mark.phones

NUMBER = "+4930123456"
CARRIER, PBX = "127.0.0.61", "127.0.0.62"
SDP = "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"


class Phone(asyncio.DatagramProtocol):
    """A PBX that rings for every INVITE, answers CANCEL, and never picks up."""

    def __init__(self) -> None:
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport) or hasattr(transport, "sendto")
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        text = data.decode()
        if text.startswith("INVITE "):
            self._answer(text, "180 Ringing", addr)
        elif text.startswith("CANCEL "):
            self._answer(text, "200 OK", addr)
            self._answer(text.replace(" CANCEL\r\n", " INVITE\r\n"), "487 Request Terminated", addr)
        elif text.startswith(("OPTIONS ", "BYE ")):
            self._answer(text, "200 OK", addr)

    def _answer(self, request: str, status: str, addr: tuple[str, int]) -> None:
        kept = [line for line in request.split("\r\n") if re.match(r"(?i)(via|from|call-id|cseq):", line)]
        to = next(line for line in request.split("\r\n") if line.lower().startswith("to:"))
        to = to if ";tag=" in to else f"{to};tag=pbx"
        assert self.transport is not None
        lines = [f"SIP/2.0 {status}", *kept, to, f"Contact: <sip:pbx@{addr[0]}>", "Content-Length: 0", "", ""]
        self.transport.sendto("\r\n".join(lines).encode(), addr)


class Burst(asyncio.DatagramProtocol):
    """A carrier that sends many INVITEs at once and repeats each until it hears a response (RFC 3261 17.1.1.2)."""

    def __init__(self, edges: list[tuple[str, int]], calls: int, run: int) -> None:
        self.edges = edges
        self.final: dict[str, int] = {}
        self.ringing: dict[str, tuple[str, int]] = {}
        self.heard: set[str] = set()
        self.run = run
        self.calls = [f"{run}-{n}" for n in range(calls)]
        self.transport: asyncio.DatagramTransport | None = None
        self.changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        text = data.decode()
        match = re.search(r"(?i)\r\ncall-id: *(\S+)", text)
        status = re.match(r"SIP/2\.0 (\d+)", text)
        if match is None or status is None:
            return
        call, code = match[1], int(status[1])
        self.heard.add(call)
        if "INVITE" not in text.split("CSeq:")[1].split("\r\n")[0]:
            return
        if 180 <= code < 200:
            self.ringing[call] = addr
        elif code >= 200:
            self.final[call] = code
            self._send("ACK", call, addr, tag=re.search(r"(?i)\r\nto:[^\r]*;tag=([^;\s]+)", text))
        self.changed.set()

    def _send(self, method: str, call: str, addr: tuple[str, int], tag: re.Match[str] | None = None) -> None:
        assert self.transport is not None
        port = self.transport.get_extra_info("sockname")[1]
        body = SDP.format(host=CARRIER) if method == "INVITE" else ""
        lines = [
            f"{method} sip:{NUMBER}@{addr[0]} SIP/2.0",
            f"Via: SIP/2.0/UDP {CARRIER}:{port};branch=z9hG4bK{call}",
            f"From: <sip:+496990009001@{CARRIER}>;tag=c{call}",
            f"To: <sip:{NUMBER}@{addr[0]}>" + (f";tag={tag[1]}" if tag else ""),
            f"Call-ID: {call}",
            f"CSeq: 1 {method}",
            f"Contact: <sip:carrier@{CARRIER}:{port}>",
            "Max-Forwards: 70",
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        self.transport.sendto(("\r\n".join(lines) + "\r\n\r\n" + body).encode(), addr)

    def _edge(self, call: str) -> tuple[str, int]:
        return self.edges[int(call.rpartition("-")[2]) % len(self.edges)]

    async def invite_all(self) -> None:
        """All INVITEs; return when each has a final answer or rings."""
        async with asyncio.timeout(40):
            while not all(c in self.final or c in self.ringing for c in self.calls):
                for call in self.calls:
                    if call not in self.heard:
                        self._send("INVITE", call, self._edge(call))
                again = asyncio.get_running_loop().time() + 0.5
                while (left := again - asyncio.get_running_loop().time()) > 0:
                    self.changed.clear()
                    try:
                        await asyncio.wait_for(self.changed.wait(), left)
                    except TimeoutError:
                        break
                    if all(c in self.final or c in self.ringing for c in self.calls):
                        return

    async def hang_up(self, edges: list[tuple[str, int]]) -> None:
        """CANCEL what rings at one of `edges`, until all have their 487."""
        async with asyncio.timeout(20):
            while left := [c for c, a in self.ringing.items() if c not in self.final and a in edges]:
                for call in left:
                    self._send("CANCEL", call, self.ringing[call])
                self.changed.clear()
                try:
                    await asyncio.wait_for(self.changed.wait(), 0.3)
                except TimeoutError:
                    pass


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Edge, Edge, int]]:
    """Two running edges on one database, and the port of the PBX behind the number."""
    folder = tmp_path_factory.mktemp("pair")
    database = EmbeddedPostgres(folder / "database")
    url = asyncio.run(database.start())
    pbx = take_port()
    edges = [Edge(Path(folder) / name, database_url=url, settings={"edge_name": name}) for name in ("one", "two")]
    try:
        done = edges[0].command("migrate", "up")
        assert done.returncode == 0, done.stderr
        edges[0].provision(
            {
                "version": 1,
                "carriers": [
                    {"name": "c", "mode": "static", "domain": "c.example", "transport": "udp", "sources": [CARRIER]}
                ],
                "accounts": [{"id": "K1", "name": "K1", "country": "DE", "parallel_calls": 50}],
                "trunks": [{"name": "pbx", "account": "K1", "mode": "static", "sources": [f"{PBX}"]}],
                "numbers": [
                    {"number": NUMBER, "account": "K1", "carrier": "c", "channels": 2, "route": {"trunk": "pbx"}}
                ],
            }
        )
        for edge in edges:
            edge.start()
        yield edges[0], edges[1], pbx
    finally:
        for edge in edges:
            edge.discard()
        asyncio.run(database.stop())


async def _peers(burst: Burst) -> tuple[asyncio.DatagramTransport, asyncio.DatagramTransport]:
    loop = asyncio.get_running_loop()
    phone, _ = await loop.create_datagram_endpoint(Phone, local_addr=(PBX, 5060))
    carrier, _ = await loop.create_datagram_endpoint(lambda: burst, local_addr=(CARRIER, 0))
    carrier.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    return phone, carrier


def _used(edge: Edge) -> float:
    return edge.metrics().get('sip_edge_channels_in_use{level="number"}', 0)


@pytest.mark.parametrize("run", [1, 2, 3])
async def test_two_of_a_thousand(pair: tuple[Edge, Edge, int], run: int) -> None:
    """1,000 simultaneous INVITEs over both edges at a number with 2 channels: 2 ring, 998 are busy, nothing leaks."""
    one, two, _ = pair
    addresses = [(one.address, one.port), (two.address, two.port)]
    burst = Burst(addresses, 1000, run)
    phone, carrier = await _peers(burst)
    try:
        await burst.invite_all()
        ringing = [c for c in burst.ringing if c not in burst.final]
        assert len(ringing) == 2
        assert sorted(set(burst.final.values())) == [486] and len(burst.final) == 998
        await burst.hang_up(addresses)
    finally:
        phone.close()
        carrier.close()
    for edge in (one, two):
        await asyncio.to_thread(poll, lambda edge=edge: _used(edge) == 0, "all channels are given back")


async def test_a_dead_edge_gives_its_channels_back(pair: tuple[Edge, Edge, int]) -> None:
    """One edge is killed with a call ringing: the other admits exactly one more at first, both within 30 s (T5.5)."""
    one, two, _ = pair
    first = Burst([(one.address, one.port)], 1, 11)
    phone, carrier = await _peers(first)
    second = Burst([(two.address, two.port)], 50, 12)
    loop = asyncio.get_running_loop()
    other, _ = await loop.create_datagram_endpoint(lambda: second, local_addr=(CARRIER, 0))
    third = Burst([(two.address, two.port)], 1, 13)
    last, _ = await loop.create_datagram_endpoint(lambda: third, local_addr=(CARRIER, 0))
    try:
        async with asyncio.timeout(10):
            while not first.ringing:  # the other edge may only just be giving its channels back
                first.calls, first.heard = [f"11-{2 * len(first.final)}"], set()
                await first.invite_all()
                assert set(first.final.values()) <= {486}
        await asyncio.to_thread(one.kill)
        await second.invite_all()
        assert len([c for c in second.ringing if c not in second.final]) == 1, "the dead edge's call still counts"

        began = loop.time()
        while True:
            third.calls, third.heard = [f"13-{len(third.final)}"], set()
            await third.invite_all()
            if third.calls[0] not in third.final:
                break
            assert loop.time() - began < 32, "the dead edge's channel did not come back"
            third.changed.clear()
            try:
                await asyncio.wait_for(third.changed.wait(), 1.0)
            except TimeoutError:
                pass
        await second.hang_up([(two.address, two.port)])
        await third.hang_up([(two.address, two.port)])
    finally:
        for transport in (phone, carrier, other, last):
            transport.close()
    await asyncio.to_thread(one.start)
