"""Bulk registration at a carrier (RFC 6140): one registration, and every number of the trunk is called over it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from peers.certificates import Certificate
from peers.edge import Edge
from peers.fixtures import Peers
from peers.ports import take_port
from peers.process import poll

pytestmark = pytest.mark.sipp
CARRIER, PHONE = "127.0.0.65", "127.0.0.66"
NUMBERS = {"alice": "+4922838601", "bobby": "+4922838677"}
PASSWORD = "trunk-Pass-7351"


def test_numbers_are_called_over_one_registration(folder: Path, certificate: Certificate) -> None:
    """`Require: gin` and a Contact with `bnc` and no user; the carrier puts the called number there (section 7.1)."""
    peers = Peers(folder, certificate)
    edge = Edge(folder / "edge")
    carrier = peers.sipp("uas_bulk_registrar", address=CARRIER, username="bulk", password=PASSWORD)
    try:
        edge.start()
        edge.provision(document(carrier.uri_host))
        edge.wait_carrier("bulk", "registered")
        contact = carrier.trace.requests("REGISTER", "in")[-1].header("Contact")
        found = re.fullmatch(r"<sip:([^@;>]+)((;[^>]*)?);bnc((;[^>]*)?)>.*", contact)
        assert found is not None, contact
        host, parameters = found[1], found[2] + found[4]
        for seat, number in NUMBERS.items():
            phone = {"address": PHONE, "port": take_port()}
            peers.sipp("register", remote=edge.server(), username=seat, password=PASSWORD, **phone).wait()
            waiting = peers.sipp("uas_answer", **phone)
            caller = peers.sipp(
                "uac_basic",
                remote=host,
                address=CARRIER,
                called=number,
                caller="+4930123456",
                uri_parameters=parameters,
            ).wait()
            assert [m.status for m in caller.responses(method="INVITE")][-1] == 200
            assert waiting.wait().requests("INVITE", "in")[0].text.startswith("INVITE sip:sipp@")
        poll(lambda: len(edge.events("call.finished")) == len(NUMBERS), "both calls are in the log", 5)
        ended = edge.events("call.finished")
        assert [(e["called"], e["source_name"], e["outcome"]) for e in ended] == [
            (masked(number), "bulk", "answered") for number in NUMBERS.values()
        ]
        edge.stop()
        carrier.wait()
    finally:
        peers.stop()
        edge.discard()


def masked(number: str) -> str:
    """A number as the log has it (domain rule 7.10)."""
    return number[:-3] + "xxx"


def document(carrier: str) -> dict[str, object]:
    return {
        "version": 1,
        "carriers": [
            {
                "name": "bulk", "mode": "register", "gin": True, "domain": "bulk.example",
                "outbound_proxy": f"sip:{carrier};transport=udp", "username": "bulk", "auth_username": "bulk",
                "password": PASSWORD, "t38": "off",
            }
        ],
        "accounts": [
            {
                "id": "K1", "name": "Example", "status": "active", "country": "DE", "area_code": "228",
                "parallel_calls": 5, "emergency_number": NUMBERS["alice"],
            }
        ],
        "seats": [
            {
                "username": seat, "account": "K1", "password": PASSWORD, "name": seat, "extension": str(10 + nth),
                "primary_number": number,
            }
            for nth, (seat, number) in enumerate(NUMBERS.items())
        ],
        "numbers": [
            {"number": number, "account": "K1", "carrier": "bulk", "route": {"seat": seat}}
            for seat, number in NUMBERS.items()
        ],
    }  # fmt: skip
