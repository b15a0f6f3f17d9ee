"""Customers' PBXs that are known by their certificates (RFC 5922): whole calls each way over TLS, two PBXs at one
address, and what becomes of those with a wrong certificate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from peers import tones
from peers.certificates import Certificate, issue
from peers.edge import Edge
from peers.fixtures import Peers
from peers.phone import Account
from peers.pjsua import Pjsua
from peers.ports import take_port
from peers.process import poll

pytestmark = pytest.mark.phones

HERE, THERE = "127.0.0.81", "127.0.0.82"
NORTH, SOUTH, ABROAD = "+4922838601", "+4922838602", "+4915112345678"


@dataclass
class Yard:
    """An edge whose TLS listener asks for certificates of `authority`, and PBXs at one address that have such."""

    folder: Path
    edge: Edge
    peers: Peers
    authority: trustme.CA
    carrier_port: int

    def pbx(self, name: str, port: int, authority: trustme.CA | None = None, tone: int = 440) -> Pjsua:
        """A PBX whose certificate names `name`.example."""
        shown = issue(self.folder / f"{name}-{port}", f"{name}.example", authority=authority or self.authority)
        account = Account(name, "not-asked-for", self.edge.server("tls"), "tls", "edge.example")
        trusted = self.folder / "authority.pem"
        return self.peers.pjsua(
            account, address=HERE, register=False, sip_port=port, certificate=shown, ca_file=trusted, tone=tone
        )

    def carrier(self) -> Pjsua:
        """A static carrier that answers by hand."""
        account = Account("carrier", "not-asked-for", self.edge.server(), domain="c.example")
        return self.peers.pjsua(account, address=THERE, register=False, sip_port=self.carrier_port, tone=2150)

    def provision(self, north_at: int) -> None:
        """Calls to north go to its address, those to south over the connection that it holds open."""
        trunk = {"account": "K1", "mode": "static", "sources": [HERE]}
        address = f"sip:{HERE}:{north_at};transport=tls"
        number = {"account": "K1", "carrier": "c"}
        self.edge.provision(
            {
                "version": 1,
                "carriers": [
                    {
                        "name": "c",
                        "mode": "static",
                        "domain": "c.example",
                        "sources": [THERE],
                        "t38": "off",
                        "outbound_proxy": f"sip:{THERE}:{self.carrier_port}",
                    }
                ],
                "accounts": [{"id": "K1", "name": "K1", "area_code": "228"}],
                "trunks": [
                    {
                        "name": "north",
                        "certificate": "north.example",
                        "address": address,
                        "default_number": NORTH,
                        **trunk,
                    },
                    {"name": "south", "certificate": "south.example", "default_number": SOUTH, **trunk},
                ],
                "numbers": [
                    {"number": NORTH, "route": {"trunk": "north"}, **number},
                    {"number": SOUTH, "route": {"trunk": "south"}, **number},
                ],
            }
        )


@pytest.fixture
def yard(folder: Path, peers: Peers) -> Iterator[Yard]:
    authority = trustme.CA()
    certificate: Certificate = issue(folder / "edge-certificate", "edge.example", "127.0.0.1", authority=authority)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    edge = Edge(folder / "edge", certificate=certificate)
    tls = {"transport": "tls", "host": edge.address, "port": edge.tls_port, "client_certificates": "optional"}
    edge.set(
        listeners=[f"udp:{edge.address}:{edge.port}", tls],
        tls_client_ca_file=str(certificate.authority),
        strangers="register",
    )
    try:
        edge.start()
        yield Yard(folder, edge, peers, authority, take_port())
    finally:
        edge.discard()


def talk(caller: Pjsua, called: Pjsua, target: str) -> None:
    """A whole call, in which each hears the other."""
    mark, own = called.mark, caller.mark
    caller.dial(target)
    called.wait_incoming(after=mark)
    called.answer()
    caller.wait_established(after=own)
    called.wait_established(after=mark)
    tones.talk()
    caller.hangup()
    called.wait_closed(after=mark)
    caller.wait_closed(after=own)


def test_two_pbxs_at_one_address(yard: Yard) -> None:
    """Each is its own trunk. Calls to one go to its address, where it has to prove its name; those to the other over
    the connection that it opened."""
    port = take_port()
    yard.provision(port)
    carrier = yard.carrier()
    north = yard.pbx("north", port, tone=440)
    south = yard.pbx("south", take_port(), tone=1010)
    mark = yard.edge.mark
    talk(south, carrier, ABROAD)
    talk(carrier, north, f"sip:{NORTH}@{yard.edge.server()}")
    talk(carrier, south, f"sip:{SOUTH}@{yard.edge.server()}")
    talk(north, carrier, ABROAD)
    yard.peers.stop_phones()
    for recording, tone in zip(carrier.recordings, (1010, 440, 1010, 440), strict=True):
        tones.assert_heard(recording, tone)
    for recording in (*north.recordings, *south.recordings):
        tones.assert_heard(recording, 2150)
    assert north.trace.requests("INVITE", "in")[0].text.startswith(f"INVITE sip:{NORTH}@{HERE}:{port};transport=tls ")
    assert south.trace.requests("INVITE", "in")[0].text.startswith(f"INVITE sip:{SOUTH}@south.example ")
    offered = [str(event["source"]) for event in yard.edge.events("call.offered", mark)]
    assert offered == ["trunk south", "carrier c", "carrier c", "trunk north"]
    yard.edge.assert_at_rest(mark)


def test_wrong_certificates(yard: Yard) -> None:
    """Of another name: no trunk, and no calls are sent to it. Of another authority: no connection. Each is in the log
    with the trunk and the remedy."""
    port, mark = take_port(), yard.edge.mark
    yard.provision(port)
    thief = yard.pbx("thief", port)
    thief.dial(ABROAD)
    assert thief.wait_closed().startswith(("401", "403", "408"))
    (warned,) = yard.edge.events("trunk.wrong_certificate", mark)
    assert warned["certified"] == ["thief.example"] and "K1/north: north.example" in warned["wanted"]  # type: ignore[operator]
    assert "set certificate of the trunk" in str(warned["remedy"])

    carrier = yard.carrier()
    carrier.dial(f"sip:{NORTH}@{yard.edge.server()}")
    assert carrier.wait_closed().startswith("480")
    assert not thief.trace.requests("INVITE", "in")
    why = "not good for north.example: it names thief.example"
    poll(lambda: any(why in line for line in yard.edge.lines[mark:]), "the edge says why the PBX is not called")

    forged = yard.pbx("north", take_port(), trustme.CA())
    forged.dial(ABROAD)
    forged.wait_closed()
    assert not carrier.trace.requests("INVITE", "in")
    poll(lambda: bool(yard.edge.events("tls.handshake_failed", mark)), "the edge tells of the handshake")
    failed = yard.edge.events("tls.handshake_failed", mark)[0]
    assert failed["peer"] == "trunk K1/north" and "tls_client_ca_file" in str(failed["remedy"])
    yard.edge.assert_at_rest(mark)
