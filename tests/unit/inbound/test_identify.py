"""Who sends a request, by where it comes from (domain rules 1.3-16, T1.25)."""

from __future__ import annotations

import pytest

from config.model import Carrier, Rows, Trunk
from config.snapshot import Snapshot
from edge.inbound.steps.identify import Identifier
from edge.sip.flow import Address, Flow
from edge.sip.headers import Headers
from edge.sip.message import Request

LOCAL = Address("192.0.2.1", 5060)
PHONE = Flow("udp", LOCAL, Address("198.51.100.7", 40000))
CARRIER_FLOW = Flow("udp", LOCAL, Address("203.0.113.1", 5060))
PBX_FLOW = Flow("udp", LOCAL, Address("198.51.100.99", 5060))
CARRIER = Carrier("telekom")
FIXED = Trunk("K1", "fixed", mode="static", sources=("198.51.100.99", "nonsense", "198.51.100.0/24"))
REGISTERING = Trunk("K1", "hq", mode="register", username="hq", sources=("203.0.113.77",))


class FakeCarriers:
    """One registered flow, one trusted host."""

    def registered_over(self, request: Request, flow: Flow) -> Carrier | None:
        return CARRIER if flow == CARRIER_FLOW else None

    def identify(self, request: Request, flow: Flow) -> Carrier | None:
        return CARRIER if flow.remote.host == "203.0.113.1" else None


def identifier(registered: Flow | None = None, domains: frozenset[str] = frozenset()) -> Identifier:
    made = Identifier(FakeCarriers(), lambda flow: flow == registered, domains)
    made.apply(Snapshot(Rows(trunks=(FIXED, REGISTERING))))
    return made


def request(method: str = "INVITE", uri: str = "sip:+4930123@192.0.2.1", *headers: tuple[str, str]) -> Request:
    return Request(method, uri, Headers(headers))


@pytest.mark.parametrize(
    ("flow", "sender"),
    [
        (CARRIER_FLOW, CARRIER),
        (Flow("udp", LOCAL, Address("203.0.113.1", 5090)), CARRIER),
        (PBX_FLOW, FIXED),
        (Flow("tcp", LOCAL, Address("198.51.100.5", 33333), 7), FIXED),
        (Flow("udp", LOCAL, Address("192.0.2.200", 5060)), None),
        (Flow("udp", LOCAL, Address("203.0.113.77", 5060)), None),
    ],
    ids=[
        "registered flow",
        "source of a carrier",
        "static trunk",
        "network of a trunk",
        "stranger",
        "sources need static",
    ],
)
def test_by_source(flow: Flow, sender: Carrier | Trunk | None) -> None:
    """A carrier by flow or source, a static trunk by source, all others have to authenticate."""
    assert identifier().identify(request(), flow) == sender


def test_register_always_authenticates() -> None:
    """Nobody registers with us by address alone."""
    assert identifier().identify(request("REGISTER"), PBX_FLOW) is None


def test_registered_phone_behind_a_trusted_address() -> None:
    """A customer behind the address of a carrier or PBX stays a customer."""
    flow = Flow("udp", LOCAL, Address("203.0.113.1", 7777))
    assert identifier(registered=flow).identify(request(), flow) is None


def test_who_brings_a_password_is_asked_for_it() -> None:
    """Credentials are checked, not passed over because of the address."""
    bearing = request("INVITE", "sip:x@192.0.2.1", ("Authorization", "Digest ..."))
    assert identifier().identify(bearing, PBX_FLOW) is None


@pytest.mark.parametrize(
    ("uri", "foreign"),
    [
        ("sip:100@edge.example", False),
        ("sip:100@EDGE.example:5060", False),
        ("tel:+4930123", False),
        ("sip:100@192.0.2.1", True),
        ("sip:100@1.1.1.1", True),
        ("nonsense", False),
    ],
)
def test_foreign_domains(uri: str, foreign: bool) -> None:
    """Rule 7.4a: who names no domain of ours is a scanner; with no domains configured nobody is."""
    assert identifier(domains=frozenset({"edge.example"})).is_foreign(request("INVITE", uri)) is foreign
    assert not identifier().is_foreign(request("INVITE", uri))
