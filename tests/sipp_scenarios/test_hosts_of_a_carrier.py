"""A carrier whose name leads to several hosts, one of which takes no calls (RFC 3263 section 4.3), with a real DNS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.certificates import Certificate
from peers.edge import Edge
from peers.fixtures import Peers
from peers.names import Names
from peers.ports import take_port
from peers.switchboard import Switchboard

pytestmark = pytest.mark.sipp
FIRST, SECOND, PHONE = "127.0.0.61", "127.0.0.62", "127.0.0.63"
NUMBER, SOMEBODY = "+4922838601", "+4930123456"
PASSWORD = "alice-Pass-7351"


class Hosts:
    """An edge, and a carrier with two hosts in its SRV records."""

    def __init__(self, folder: Path, certificate: Certificate) -> None:
        self.peers = Peers(folder, certificate)
        port = take_port()
        self.first, self.second = Switchboard(FIRST, port), Switchboard(SECOND, port)
        folder.mkdir(parents=True, exist_ok=True)
        self.names = Names(
            folder,
            [
                f"--srv-host=_sip._udp.many.example,one.many.example,{port},10",
                f"--srv-host=_sip._udp.many.example,two.many.example,{port},20",
                f"--host-record=one.many.example,{FIRST}",
                f"--host-record=two.many.example,{SECOND}",
            ],
        )
        self.edge = Edge(folder / "edge", settings={"dns_servers": self.names.server})
        self.edge.start()
        self.edge.provision(DOCUMENT)
        self.edge.wait_carrier("many", "up")

    def call(self) -> None:
        """Alice calls somebody; the second host answers."""
        answering = self.peers.sipp("uas_answer", address=SECOND)
        self.second.target = (SECOND, answering.port)
        self.peers.sipp(
            "uac_phone", remote=self.edge.server(), called=SOMEBODY, challenge=401, username="alice",
            password=PASSWORD, address=PHONE, caller="alice",
        ).wait()  # fmt: skip
        answering.wait()

    def stop(self) -> None:
        for part in (self.peers, self.names, self.first, self.second):
            part.stop()
        self.edge.discard()


DOCUMENT = {
    "version": 1,
    "carriers": [
        {
            "name": "many",
            "mode": "static",
            "domain": "many.example",
            "outbound_proxy": "sip:many.example;transport=udp",
            "sources": [FIRST, SECOND],
            "t38": "off",
        }
    ],
    "accounts": [
        {
            "id": "K1", "name": "Example", "status": "active", "country": "DE", "area_code": "228",
            "parallel_calls": 5, "emergency_number": NUMBER,
        }
    ],
    "seats": [
        {
            "username": "alice", "account": "K1", "password": PASSWORD, "name": "Alice", "extension": "11",
            "primary_number": NUMBER,
        }
    ],
    "numbers": [{"number": NUMBER, "account": "K1", "carrier": "many", "route": {"seat": "alice"}}],
}  # fmt: skip


@pytest.fixture
def hosts(folder: Path, certificate: Certificate) -> Iterator[Hosts]:
    made = Hosts(folder, certificate)
    try:
        yield made
    finally:
        made.stop()


def test_calls_go_on_to_the_next_host(hosts: Hosts) -> None:
    """One that says nothing is left after some seconds and asked last from then on; one that says 503 at once, and is
    left alone for its Retry-After. To the caller it is one call, in the books one target that was tried."""
    edge = hosts.edge
    hosts.call()
    assert len(hosts.first.calls) == 1
    (left,) = edge.events("host.left")
    assert (left["host"], left["detail"]) == (f"udp {FIRST}:{hosts.first.port}", "no answer")
    assert "no answer, asked last" in edge.command("carriers").stdout

    hosts.call()
    assert len(hosts.first.calls) == 1, "the silent host is asked last"
    shown = edge.command("why", str(edge.events("call.finished")[0]["call"])).stdout
    assert f"at udp {FIRST}:{hosts.first.port}: no answer" in shown and f"at udp {SECOND}:{hosts.second.port}" in shown


def test_a_host_that_says_503_is_left_alone(hosts: Hosts) -> None:
    """RFC 3261 section 21.5.4: not a call for as long as Retry-After says."""
    edge = hosts.edge
    hosts.first.refusal = "503 Service Unavailable\r\nRetry-After: 120"
    for _ in range(2):
        hosts.call()
    assert len(hosts.first.calls) == 1
    assert "503, left alone for" in edge.command("carriers").stdout
    assert [event["outcome"] for event in edge.events("call.finished")] == ["answered"] * 2
    assert not any("attempts" in event for event in edge.events("call.finished")), "one target was tried"
