"""Learning our own address from answers (RFC 3581, T1.28)."""

from __future__ import annotations

import pytest

from edge.carriers.own_address import OwnAddress
from edge.sip.fields.via import Via
from edge.sip.flow import Address, Flow

UDP = Flow("udp", Address("10.0.0.5", 5060), Address("8.8.8.8", 5060))
TCP = Flow("tcp", Address("10.0.0.5", 41000), Address("8.8.8.8", 5060), 1)


def learn(flow: Flow, own: Address, seen: str, on: bool = True) -> Address:
    address = OwnAddress(on)
    address.opened(flow, own)
    address.seen(Via.parse(f"SIP/2.0/UDP {own};branch=z9hG4bKx{seen}"))
    return address.address


INNER = Address("10.0.0.5", 5060)
PUBLIC = Address("9.9.9.9", 5060)


@pytest.mark.parametrize(
    ("flow", "own", "seen", "expected"),
    [
        (UDP, INNER, ";received=1.2.3.4;rport=7070", Address("1.2.3.4", 7070)),
        (TCP, INNER, ";received=1.2.3.4;rport=7070", Address("1.2.3.4", 7070)),
        (UDP, PUBLIC, ";rport=7070", Address("9.9.9.9", 7070)),
        (UDP, PUBLIC, ";received=9.9.9.9;rport=5060", PUBLIC),
        (TCP, PUBLIC, ";received=9.9.9.9;rport=41000", PUBLIC),
        (UDP, PUBLIC, ";received=10.1.2.3;rport=5060", PUBLIC),
        (UDP, INNER, ";received=10.1.2.3;rport=5060", Address("10.1.2.3", 5060)),
        (UDP, INNER, ";received=1.2.3.4", INNER),
        (UDP, INNER, ";received=1.2.3.4;rport", INNER),
        (UDP, INNER, ";received=1.2.3.4;rport=99999", INNER),
    ],
    ids=[
        "behind NAT, UDP", "behind NAT, TCP: the connection's outer port", "port changed on the way", "as we are",
        "own port of a connection is not our listener's", "the carrier's inner address", "both private",
        "no rport", "rport not filled", "rport that is none",
    ],
)  # fmt: skip
def test_what_is_learned(flow: Flow, own: Address, seen: str, expected: Address) -> None:
    """The address that a carrier can reach us at."""
    assert learn(flow, own, seen) == expected


def test_named_address_stays() -> None:
    """The operator knows better."""
    assert learn(UDP, INNER, ";received=1.2.3.4;rport=7070", on=False) == INNER


def test_another_socket_forgets_and_the_same_remembers() -> None:
    """A mapping belongs to a socket or connection, not to the far end."""
    address = OwnAddress(True)
    address.opened(UDP, INNER)
    address.seen(Via.parse("SIP/2.0/UDP 10.0.0.5;received=1.2.3.4;rport=7070"))
    address.opened(UDP._replace(remote=Address("8.8.4.4", 5060)), INNER)
    assert address.address == Address("1.2.3.4", 7070)
    address.opened(TCP, INNER)
    assert address.address == INNER
