"""An office whose phones all come up at once, behind one address: no stranger's limit stands in their way."""

from __future__ import annotations

from pathlib import Path

import pytest
from peers.certificates import Certificate
from peers.edge import Edge
from peers.fixtures import Peers

pytestmark = pytest.mark.sipp
PHONES = 60
ADDRESS, NEW_ADDRESS = "127.0.0.67", "127.0.0.68"
PASSWORD = "desk-Pass-7351"
NUMBERS = {f"desk{n}": f"+4922838{600 + n}" for n in range(PHONES)}


def test_all_phones_of_an_office_register_at_once(folder: Path, certificate: Certificate) -> None:
    """All have asked before the first of them answers its challenge. So also after a restart of the edge, when the
    office has got another address."""
    peers = Peers(folder, certificate)
    edge = Edge(folder / "edge", settings={"guard_rate": 100, "guard_burst": 400})
    try:
        edge.start()
        edge.provision(document())
        for address in (ADDRESS, NEW_ADDRESS):
            trace = peers.sipp(
                "register_together", remote=edge.server(), address=address, calls=PHONES, rate=1000, timeout=20,
                pause=1000, lines=[f"{seat};[authentication username={seat} password={PASSWORD}]" for seat in NUMBERS],
            ).wait()  # fmt: skip
            messages = [m for m in trace if m.status or m.method == "REGISTER"]
            answers = [n for n, m in enumerate(messages) if m.direction == "out" and m.header("Authorization")]
            assert len({m.header("Call-ID") for m in messages[: answers[0]] if m.direction == "out"}) > PHONES // 2
            assert len(trace.responses(200, "REGISTER")) >= PHONES
            assert len([row for row in edge.rows("registrations") if address in str(row["contact"])]) == PHONES
            assert not edge.events("alarm.raised") and edge.metric("sip_edge_bans") == 0
            assert edge.metric("sip_edge_guard_drops_total") == 0
            edge.stop()
            if address == ADDRESS:
                edge.start()
    finally:
        peers.stop()
        edge.discard()


def document() -> dict[str, object]:
    return {
        "version": 1,
        "carriers": [
            {
                "name": "static", "mode": "static", "domain": "static.example",
                "outbound_proxy": "sip:127.0.0.69:5060;transport=udp", "sources": ["127.0.0.69"], "t38": "off",
            }
        ],
        "accounts": [
            {
                "id": "K1", "name": "Example", "status": "active", "country": "DE", "area_code": "228",
                "parallel_calls": 5, "emergency_number": NUMBERS["desk0"],
            }
        ],
        "seats": [
            {
                "username": seat, "account": "K1", "password": PASSWORD, "name": seat, "extension": number[-3:],
                "primary_number": number,
            }
            for seat, number in NUMBERS.items()
        ],
        "numbers": [
            {"number": number, "account": "K1", "carrier": "static", "route": {"seat": seat}}
            for seat, number in NUMBERS.items()
        ],
    }  # fmt: skip
