"""Large requests move from UDP to TCP and back where TCP is not taken (RFC 3261 section 18.1.1)."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from edge.sip.events import RequestReceived
from edge.sip.flow import Address, Flow, Transport
from edge.transport.driver import Driver, Listener
from edge.transport.errors import ConnectError
from edge.transport.size import LARGEST_DATAGRAM, REMEMBERED, Sizes

from .shell import node, port, request

UDP = Flow("udp", Address("127.0.0.1", 5060), Address("192.0.2.1", 5060))
TCP = UDP._replace(transport="tcp", connection=7)


class FakeDriver:
    """Connects, refuses, or does nothing."""

    def __init__(self, peer: str, listens: bool = True) -> None:
        self.peer = peer
        self.asked = 0
        self.clock = 0.0
        self.listens = listens

    def now(self) -> float:
        return self.clock

    def bound(self, transport: Transport) -> list[Address]:
        return [UDP.local] if self.listens else []

    async def flow_to(self, hop: object) -> Flow:
        self.asked += 1
        if self.peer == "refuses":
            raise ConnectError("refused")
        if self.peer == "silent":
            await asyncio.sleep(30)
        return TCP


def sizes(peer: str, listens: bool = True) -> tuple[Sizes, FakeDriver]:
    driver = FakeDriver(peer, listens)
    return Sizes(cast(Driver, driver)), driver


@pytest.mark.looptime
async def test_only_large_requests_move() -> None:
    """1300 bytes are a datagram, one more are not; what is on a connection stays there."""
    found, driver = sizes("takes")
    assert await found.fitting(UDP, LARGEST_DATAGRAM) is UDP and driver.asked == 0
    assert await found.fitting(UDP, LARGEST_DATAGRAM + 1) is TCP
    assert await found.fitting(TCP, 9000) is TCP and driver.asked == 1


@pytest.mark.looptime
async def test_edge_that_cannot_be_answered_over_tcp_does_not_move() -> None:
    """Our Contact has to be reachable over the same transport."""
    found, driver = sizes("takes", listens=False)
    assert await found.fitting(UDP, 9000) is UDP and driver.asked == 0


@pytest.mark.looptime
@pytest.mark.parametrize("peer", ["refuses", "silent"])
async def test_peer_without_tcp_gets_datagrams(peer: str) -> None:
    """After a reset at once, after silence within a second; and the next call does not wait for it again."""
    found, driver = sizes(peer)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await found.fitting(UDP, 9000) is UDP
    assert loop.time() - began <= 1.01
    assert await found.fitting(UDP, 9000) is UDP and driver.asked == 1
    driver.clock += REMEMBERED + 1
    driver.peer = "takes"
    assert await found.fitting(UDP, 9000) is TCP


async def test_over_real_sockets() -> None:
    """The connection goes to the same address and port, and carries the request."""
    async with node("udp") as ours, node("tcp") as theirs:
        listening = Listener("tcp", Address("127.0.0.1", port()), Address("127.0.0.1", 0))
        ours.driver._advertised.add("tcp", listening.bind, listening.bind)
        udp = Flow("udp", ours.address, theirs.address)
        flow = await Sizes(ours.driver).fitting(udp, 2000)
        assert flow.transport == "tcp"
        ours.driver.send_request(request(body=b"x" * 2000), flow)
        event = await theirs.heard(RequestReceived)
        assert isinstance(event, RequestReceived) and len(event.request.body) == 2000
        nobody = udp._replace(remote=Address("127.0.0.1", port()))
        assert await Sizes(ours.driver).fitting(nobody, 2000) is nobody
