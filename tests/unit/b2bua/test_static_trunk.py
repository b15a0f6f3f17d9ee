"""The way to PBXs that do not register: their address, their one source, or the connection that they hold open."""

from __future__ import annotations

import pytest

from config.model import Trunk
from edge.b2bua.static_trunk import static_way
from edge.sip.flow import Address, Flow
from edge.sip.uri import Uri
from edge.transport.certified import CertifiedPeers
from edge.transport.errors import ConnectError

LOCAL = Address("192.0.2.1", 5061)
REACHED = Flow("tls", LOCAL, Address("198.51.100.9", 5061), 1)


def opened(number: int, host: str = "198.51.100.9") -> Flow:
    return Flow("tls", LOCAL, Address(host, 40000 + number), number)


class Network:
    """Connects to everywhere, or nowhere, and remembers what it was asked for."""

    def __init__(self, up: bool = True) -> None:
        self.up = up
        self.asked: list[tuple[str, str | None]] = []

    async def __call__(self, uri: Uri, certificate: str | None = None) -> Flow:
        self.asked.append((str(uri), certificate))
        if not self.up:
            raise ConnectError("it is away")
        return REACHED


def pbx(*sources: str, certificate: str | None = None, address: str | None = None) -> Trunk:
    return Trunk("K1", "office", mode="static", sources=sources, certificate=certificate, address=address)


@pytest.mark.parametrize(
    ("trunk", "uri"),
    [
        (pbx("198.51.100.9"), "sip:198.51.100.9"),
        (pbx("198.51.100.0/24", "198.51.100.9"), "sip:198.51.100.9"),
        (pbx("198.51.100.9:5080"), "sip:198.51.100.9:5080"),
        (pbx("2001:db8::9"), "sip:[2001:db8::9]"),
        (pbx("[2001:db8::9]:5080"), "sip:[2001:db8::9]:5080"),
        (pbx("198.51.100.9", address="sip:pbx.example:5080;transport=tcp"), "sip:pbx.example:5080;transport=tcp"),
        (pbx("198.51.100.9", certificate="pbx.example", address="sip:198.51.100.9:5081"), "sip:198.51.100.9:5081"),
    ],
)
async def test_address(trunk: Trunk, uri: str) -> None:
    """The address as provisioned, else the first source that is one address, with its port if it has one."""
    network = Network()
    where, flow = await static_way(network, CertifiedPeers(), trunk)
    assert (str(where), flow, network.asked) == (uri, REACHED, [(uri, trunk.certificate)])


async def test_no_address() -> None:
    """A network is nowhere to call to."""
    with pytest.raises(ConnectError, match="give it an address"):
        await static_way(Network(), CertifiedPeers(), pbx("198.51.100.0/24"))


async def test_over_the_connection_that_it_opened() -> None:
    """The newest one with its name, from where it may come; also where its address cannot be reached."""
    peers = CertifiedPeers()
    peers.add(opened(1), ("pbx.example", "other.example"))
    peers.add(opened(2), ("pbx.example",))
    peers.add(opened(3, "203.0.113.66"), ("pbx.example",))
    bound = pbx("198.51.100.0/24", certificate="pbx.example")
    assert await static_way(Network(), peers, bound) == (Uri("sip", None, "pbx.example"), opened(2))
    free = pbx(certificate="pbx.example")
    assert (await static_way(Network(), peers, free))[1] == opened(3, "203.0.113.66")
    away = pbx("198.51.100.9", certificate="pbx.example", address="sip:198.51.100.9")
    assert await static_way(Network(up=False), peers, away) == (Uri("sip", None, "198.51.100.9"), opened(2))
    assert (await static_way(Network(), peers, away))[1] == REACHED
    peers.remove(opened(2), ("pbx.example",))
    assert (await static_way(Network(), peers, bound))[1] == opened(1)
    peers.remove(opened(1), ("pbx.example", "other.example"))
    with pytest.raises(ConnectError, match="no TLS connection open to us"):
        await static_way(Network(), peers, bound)
    with pytest.raises(ConnectError, match="it is away"):
        await static_way(Network(up=False), peers, away)
    assert peers.opened_by("other.example") == [] and peers.names_from("198.51.100.9") == []
    assert peers.names_from("203.0.113.66") == ["pbx.example"]
