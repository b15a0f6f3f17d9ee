"""Who hears nothing of a running edge (domain rule 7.4a): `domains`, `strangers`, `welcome_networks`, on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.edge import Edge
from peers.raw import Raw

pytestmark = pytest.mark.phones

STRANGER, WELCOME = "127.0.0.50", "127.0.0.60"


def ask(edge: Edge, method: str, host: str, address: str = STRANGER) -> str:
    """The beginning of the answer to a request; empty where none came."""
    with Raw(edge.server(), address=address) as raw:
        n = f"{method}{host}{raw.port}"
        raw.send(
            f"{method} sip:100@{host} SIP/2.0\r\nVia: SIP/2.0/UDP {address}:{raw.port};branch=z9hG4bK{n};rport\r\n"
            f"From: <sip:100@{host}>;tag=f\r\nTo: <sip:100@{host}>\r\nCall-ID: {n}\r\nCSeq: 1 {method}\r\n"
            f"Contact: <sip:100@{address}:{raw.port}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        )
        return raw.receive(0.25)[:11]


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    made = Edge(tmp_path / "edge", settings={"domains": ["sip.example"], "strangers": "register"})
    try:
        made.start()
        yield made
        made.stop()
    finally:
        made.discard()


def test_strangers_hear_what_the_settings_say(edge: Edge) -> None:
    """`register` and `domains`: an answer to a REGISTER of a domain of ours alone, in any case of letters. `silent`:
    nothing at all but to `welcome_networks`. Each silence is counted."""
    assert ask(edge, "REGISTER", "SIP.example") == "SIP/2.0 401"
    assert ask(edge, "REGISTER", edge.address) == ""
    for method in ("OPTIONS", "INVITE", "MESSAGE", "SUBSCRIBE", "REFER", "PUBLISH", "NOTIFY"):
        assert ask(edge, method, "sip.example") == "", method
    counted = edge.metrics()
    assert counted['sip_edge_guard_drops_total{reason="stranger"}'] >= 7
    assert counted['sip_edge_guard_drops_total{reason="unknown-domain"}'] >= 1

    edge.set(domains=[], strangers="silent", welcome_networks=[f"{WELCOME}/32"])
    edge.restart()
    for method in ("OPTIONS", "REGISTER", "INVITE"):
        assert ask(edge, method, "sip.example") == "", method
    assert ask(edge, "OPTIONS", "sip.example", WELCOME) == "SIP/2.0 200"
    assert ask(edge, "REGISTER", "sip.example", WELCOME) == "SIP/2.0 401"
