"""Who sends a request, by where it comes from (domain rules 1.3-16, T1.25)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from config.model import Carrier, Rows, Trunk
from config.snapshot import Snapshot
from edge.inbound.steps import identify
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


class FakeCertificates:
    """What the peers of connections have shown, by the number of the connection."""

    def __init__(self, shown: dict[int, tuple[str, ...]]) -> None:
        self._shown = shown

    def certified(self, flow: Flow) -> tuple[str, ...]:
        return self._shown.get(flow.connection, ())

    def now(self) -> float:
        return 1000.0


def identifier(
    registered: Flow | None = None,
    domains: frozenset[str] = frozenset(),
    trunks: tuple[Trunk, ...] = (FIXED, REGISTERING),
    shown: dict[int, tuple[str, ...]] | None = None,
) -> Identifier:
    made = Identifier(FakeCarriers(), lambda flow: flow == registered, FakeCertificates(shown or {}), domains)
    made.apply(Snapshot(Rows(trunks=trunks)))
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


HERE = "198.51.100.99"
NORTH = Trunk("K1", "north", mode="static", sources=(HERE,), certificate="north.example")
SOUTH = Trunk("K2", "south", mode="static", sources=(HERE,), certificate="south.example")
ROVING = Trunk("K3", "roving", mode="static", certificate="roving.example")


@pytest.mark.parametrize(
    ("transport", "host", "shown", "sender", "remedy"),
    [
        ("tls", HERE, ("north.example",), NORTH, ""),
        ("tls", HERE, ("other.example", "south.example"), SOUTH, ""),
        ("tls", "192.0.2.200", ("roving.example",), ROVING, ""),
        ("tls", HERE, ("roving.example",), ROVING, ""),
        ("tls", "203.0.113.1", ("roving.example",), ROVING, ""),
        ("tls", HERE, ("west.example",), None, "set certificate of the trunk"),
        ("tls", HERE, (), None, "let the PBX show its certificate"),
        ("tls", "192.0.2.200", ("north.example",), None, "add 192.0.2.200 to the sources of trunk north"),
        ("tls", "192.0.2.200", ("west.example",), None, "set certificate of the trunk"),
        ("tls", "192.0.2.200", (), None, ""),
        ("tcp", HERE, (), None, "let the PBX use TLS"),
        ("udp", HERE, (), None, "let the PBX use TLS"),
    ],
)
def test_by_certificate(
    transport: str,
    host: str,
    shown: tuple[str, ...],
    sender: Trunk | None,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trunks with certificates are told apart by them alone, also at one address; their sources only narrow this. What
    is wrong is said with the remedy, once."""
    warned: list[str] = []
    said = SimpleNamespace(warning=lambda event, **fields: warned.append(f"{event} {fields['remedy']}"))
    monkeypatch.setattr(identify, "_log", said)
    known = identifier(trunks=(NORTH, SOUTH, ROVING), shown={7: shown})
    flow = Flow(transport, LOCAL, Address(host, 40000), 0 if transport == "udp" else 7)  # type: ignore[arg-type]
    assert known.identify(request(), flow) == known.identify(request(), flow) == sender
    assert [line.startswith("trunk.wrong_certificate") and remedy in line for line in warned] == (
        [True] if remedy else []
    )


def test_whose_certificate_it_is() -> None:
    """Who shows a trunk's certificate is no stranger; who shows another of the same authority is."""
    known = identifier(trunks=(NORTH,), shown={7: ("north.example",), 8: ("west.example",)})
    flow = Flow("tls", LOCAL, Address("192.0.2.200", 40000), 7)
    assert known.shows_certificate(flow) and not known.shows_certificate(flow._replace(connection=8))


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
