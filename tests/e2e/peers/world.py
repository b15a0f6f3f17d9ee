"""A small telephone world around one edge: a customer with seats, a static carrier, and three that we register with.

    phones 127.0.0.31...          edge 127.0.0.1          carriers 127.0.0.20 (SIPp), 127.0.0.21 (Kamailio)
                                                          network behind Kamailio: 127.0.0.22 (SIPp)

Each side has addresses of its own, so that any of them found in the other side's messages is a leak.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from peers.certificates import Certificate
from peers.edge import Edge
from peers.fixtures import Peers, artifacts, keep
from peers.messages import Seen, Trace
from peers.phone import Account, Phone
from peers.ports import take_port
from peers.sipp import Sipp
from peers.switchboard import Switchboard

STATIC_ADDRESS = "127.0.0.20"
KAMAILIO_ADDRESS = "127.0.0.21"
NETWORK_ADDRESS = "127.0.0.22"
PHONE_ADDRESS = "127.0.0.31"
STRANGER_ADDRESS = "127.0.0.40"
GUESSER_ADDRESS = "127.0.0.41"
"""Where wrong passwords come from: whoever guesses is locked out, and his neighbours with him."""

SOMEBODY = "+4930123456"
"""A number in the world, reached over any carrier."""

SEATS = {
    # name: (extension, number); the number belongs to the carrier that its calls go out over
    "alice": ("201", "+4922838601"),
    "bobby": ("202", "+4922838602"),
    "carol": ("203", "+4930555101"),
    "david": ("204", "+4930555201"),
    "erika": ("205", "+4930555301"),
}
FORWARDED = "+4930555190"
"""Our number that is forwarded to SOMEBODY."""
UNASSIGNED = "+4922838677"
"""A number in our block that nobody has."""
REGISTERED_CARRIERS = {"carol": "udp", "david": "tcp", "erika": "tls"}
"""Seat to the transport of the carrier that its number belongs to."""


def password(name: str) -> str:
    return f"{name}-Pass-7351"


class World:
    """The edge with its carriers, for all tests of a module; `peers` are those of the test that runs."""

    def __init__(self, folder: Path, certificate: Certificate, peers: Peers) -> None:
        self.peers = peers
        self.allowed = ""
        """A pattern of error lines in the edge's log that the running test causes on purpose."""
        self.switchboard = Switchboard(STATIC_ADDRESS, take_port())
        self.network_port = take_port()
        self.edge = Edge(folder / "edge", certificate=certificate)
        self.kamailio = peers.kamailio(
            {f"user-{transport}": password(transport) for transport in REGISTERED_CARRIERS.values()},
            address=KAMAILIO_ADDRESS,
            domain="carrier.example",
            certificate=certificate,
            numbers={SEATS[seat][1]: f"line-{transport}" for seat, transport in REGISTERED_CARRIERS.items()}
            | {FORWARDED: "line-udp"},
            network=f"sip:{NETWORK_ADDRESS}:{self.network_port}",
        )

    def start(self) -> None:
        """Start the edge, provision it, and wait until it has registered with its carriers."""
        self.edge.start()
        self.edge.provision(document(self))
        for transport in REGISTERED_CARRIERS.values():
            self.edge.wait_carrier(f"network-{transport}", "registered")

    def account(self, seat: str, transport: str = "udp") -> Account:
        """How a phone of this seat registers."""
        return Account(seat, password(seat), self.edge.server(transport), transport, expires=300)

    def phone(self, kind: str, seat: str, transport: str = "udp", **options: object) -> Phone:
        """A registered phone of this kind and seat."""
        options.setdefault("address", PHONE_ADDRESS)
        phone = self.peers.phone(kind, self.account(seat, transport), **options)
        phone.wait_registered()
        return phone

    def carrier_calls(self, scenario: str, called: str, **options: object) -> Sipp:
        """The static carrier calls `called` with a scenario of the calling kind."""
        options = {"caller": SOMEBODY, "from_host": "static.example", **options}
        return self.peers.sipp(scenario, remote=self.edge.server(), address=STATIC_ADDRESS, called=called, **options)

    def carrier_answers(self, scenario: str, **options: object) -> Sipp:
        """The static carrier waits for our call with a scenario of the answering kind."""
        answering = self.peers.sipp(scenario, address=STATIC_ADDRESS, **options)
        self.switchboard.target = (STATIC_ADDRESS, answering.port)
        return answering

    def network_calls(self, scenario: str, called: str, **options: object) -> Sipp:
        """Somebody behind the registered carriers calls one of our numbers."""
        options = {"caller": SOMEBODY, "host": self.kamailio.domain, **options}
        return self.peers.sipp(
            scenario, remote=self.kamailio.server(), address=NETWORK_ADDRESS, called=called, **options
        )

    def network_answers(self, scenario: str, **options: object) -> Sipp:
        """Somebody behind the registered carriers waits for our call."""
        return self.peers.sipp(scenario, address=NETWORK_ADDRESS, port=self.network_port, **options)

    def register(self, seat: str, **options: object) -> Trace:
        """SIPp registers as this seat (scenario `register`); what it saw."""
        options = {"username": seat, "password": password(seat), "address": PHONE_ADDRESS, **options}
        return self.peers.sipp("register", remote=self.edge.server(), **options).wait()

    def sipp_phone(self, seat: str, scenario: str, transport: str = "udp", **options: object) -> Sipp:
        """SIPp registers as this seat, alone, then waits for calls with a scenario of the answering kind."""
        port = take_port()
        common = {"address": PHONE_ADDRESS, "port": port, "transport": transport}
        self.register(seat, contact="*", expires=0)
        self.register(seat, **common)
        return self.peers.sipp(scenario, **common, **options)

    def stop(self) -> None:
        """End the edge, which must take its registrations back."""
        self.edge.stop()
        for transport in REGISTERED_CARRIERS.values():
            assert self.kamailio.registered(f"line-{transport}") == [], "the edge left its registration behind"


@pytest.fixture(scope="module")
def standing_world(request: pytest.FixtureRequest, certificate: Certificate) -> Iterator[World]:
    """The edge and its carriers, for one module."""
    with artifacts(request) as folder:
        started = Peers(folder, certificate)
        world = World(folder, certificate, started)
        try:
            world.start()
            yield world
            world.stop()
        finally:
            world.edge.discard()
            world.switchboard.stop()
            started.stop()


@pytest.fixture
def world(
    request: pytest.FixtureRequest, standing_world: World, folder: Path, certificate: Certificate
) -> Iterator[World]:
    """The world with peers of this test; at its end the edge must be at rest (`Edge.assert_at_rest`)."""
    edge = standing_world.edge
    mark = edge.mark
    standing_world.peers = Peers(folder, certificate)
    standing_world.allowed = ""
    try:
        yield standing_world
    finally:
        standing_world.peers.stop()
    try:
        edge.assert_at_rest(mark, standing_world.allowed)
    except AssertionError:
        keep(request.node)
        raise


def document(world: World) -> dict[str, object]:
    """The provisioning document of this world."""
    carriers: list[dict[str, object]] = [
        {
            "name": "static",
            "mode": "static",
            "domain": "static.example",
            "outbound_proxy": f"sip:{STATIC_ADDRESS}:{world.switchboard.port};transport=udp",
            "sources": [STATIC_ADDRESS],
            "priority": 10,
            "t38": "off",
        }
    ]
    numbers: list[dict[str, object]] = []
    for seat, transport in REGISTERED_CARRIERS.items():
        carriers.append(
            {
                "name": f"network-{transport}",
                "mode": "register",
                "domain": world.kamailio.domain,
                "outbound_proxy": f"sip:{world.kamailio.server(transport)};transport={transport}",
                "username": f"line-{transport}",
                "auth_username": f"user-{transport}",
                "password": password(transport),
                "expires": 120,
                "priority": 20,
                "t38": "off",
            }
        )
        numbers.append(
            {
                "number": SEATS[seat][1],
                "account": "K1",
                "carrier": f"network-{transport}",
                "route": {"seat": seat},
            }
        )
    numbers.append(
        {"number": FORWARDED, "account": "K1", "carrier": "network-udp", "route": {"forward": SOMEBODY}, "channels": 4}
    )
    return {
        "version": 1,
        "carriers": carriers,
        "accounts": [
            {
                "id": "K1",
                "name": "Example",
                "status": "active",
                "country": "DE",
                "area_code": "228",
                "parallel_calls": 50,
                "emergency_number": "+4922838600",
            }
        ],
        "seats": [
            {
                "username": seat,
                "account": "K1",
                "password": password(seat),
                "name": seat.capitalize(),
                "extension": extension,
                "primary_number": number,
            }
            for seat, (extension, number) in SEATS.items()
        ],
        "blocks": [
            {
                "prefix": "+49228386",
                "digits": 2,
                "account": "K1",
                "carrier": "static",
                "channels": 5,
                "ranges": [
                    {"prefix": SEATS["alice"][1], "route": {"seat": "alice"}},
                    {"prefix": SEATS["bobby"][1], "route": {"seat": "bobby"}},
                ],
            }
        ],
        "numbers": numbers,
    }


def assert_nothing_crossed(caller: Trace, called: Trace, *more: str) -> None:
    """Assert that neither side saw anything that only the other side has: addresses, ids, tags, contacts, user agents.

    `more`: texts that the caller sent and that must not reach the called.
    """
    sent = caller.requests("INVITE", "out")[0]
    answered = [m for m in called if m.direction == "out" and m.is_response]
    secrets = {
        sent.header("Call-ID"),
        _tag(sent.header("From")),
        sent.header("Via").partition("branch=")[2].partition(";")[0],
        _address(sent),
        *more,
    }
    _assert_absent(secrets, called.received_text(), "the called side saw of the caller's")
    back = {_tag(m.header("To")) for m in answered} | {_address(m) for m in answered}
    offers = called.requests("INVITE", "in")
    back |= {m.header("Call-ID") for m in offers}
    _assert_absent(back, caller.received_text(), "the calling side saw of the called's")


def _assert_absent(secrets: set[str], text: str, what: str) -> None:
    found = sorted(secret for secret in secrets if secret and secret in text)
    lines = [line for line in text.splitlines() if any(secret in line for secret in found)]
    assert not found, f"{what}: {found} in\n" + "\n".join(lines[:10])


def _tag(value: str) -> str:
    return value.partition(";tag=")[2].partition(";")[0]


def _address(message: Seen) -> str:
    """The host that a message's sender wants to be reached at."""
    return message.header("Contact").partition("@")[2].partition(":")[0].rstrip(">")
