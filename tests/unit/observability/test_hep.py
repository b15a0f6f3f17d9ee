"""HEPv3 packets as the specification has them, read by a decoder of its own (test_seeing.py has Kamailio read them)."""

from __future__ import annotations

import socket
import struct

from edge.observability.hep import HepExport, encode
from edge.sip.flow import Address, Flow

V4 = Flow("udp", Address("192.0.2.1", 5060), Address("203.0.113.5", 5062))
V6 = Flow("tls", Address("2001:db8::1", 5061), Address("2001:db8::5", 41234), 7)
INVITE = (
    b"INVITE sip:+4930123456@edge SIP/2.0\r\nCall-ID: x@y\r\nCSeq: 1 INVITE\r\n"
    b'Authorization: Digest username="a", response="0123456789abcdef"\r\nContent-Length: 0\r\n\r\n'
)
AT = 1_795_348_800.25


def decode(packet: bytes) -> dict[int, bytes]:
    """Chunks by type, from the specification."""
    assert packet[:4] == b"HEP3" and struct.unpack("!H", packet[4:6])[0] == len(packet)
    found, at = {}, 6
    while at < len(packet):
        vendor, kind, length = struct.unpack("!HHH", packet[at : at + 6])
        assert vendor == 0 and length >= 6 and kind not in found
        found[kind] = packet[at + 6 : at + length]
        at += length
    assert at == len(packet)
    return found


def test_a_message_that_came_in() -> None:
    """The sender is the peer; times are whole seconds and microseconds; SIP is protocol type 1."""
    chunks = decode(encode(INVITE, "in", V4, AT, 7, "secret"))
    assert (chunks[1], chunks[2], chunks[11]) == (b"\x02", b"\x11", b"\x01")
    assert socket.inet_ntoa(chunks[3]) == "203.0.113.5" and socket.inet_ntoa(chunks[4]) == "192.0.2.1"
    assert struct.unpack("!HH", chunks[7] + chunks[8]) == (5062, 5060)
    assert struct.unpack("!II", chunks[9] + chunks[10]) == (1_795_348_800, 250_000)
    assert (struct.unpack("!I", chunks[12]), chunks[14], chunks[15]) == ((7,), b"secret", INVITE)


def test_a_message_that_went_out_over_ipv6() -> None:
    """The other way round, 16 bytes of address, TCP for TLS too; no password, no chunk for one."""
    chunks = decode(encode(INVITE, "out", V6, AT, 1))
    assert (chunks[1], chunks[2]) == (b"\x0a", b"\x06")
    assert socket.inet_ntop(socket.AF_INET6, chunks[5]) == "2001:db8::1"
    assert socket.inet_ntop(socket.AF_INET6, chunks[6]) == "2001:db8::5"
    assert 14 not in chunks and 3 not in chunks


def test_what_is_sent_has_no_secrets() -> None:
    """A capture server gets what a trace shows: no digest proof; what it cannot take is counted."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        export = HepExport("127.0.0.1", server.getsockname()[1], 3)
        export.message("in", INVITE, V4)
        payload = decode(server.recv(65535))[15]
        export.message("in", INVITE, Flow("udp", Address("no address", 1), Address("203.0.113.5", 1)))
        export.close()
    assert len(payload) == len(INVITE) and b"0123456789abcdef" not in payload
    assert (export.sent, export.dropped) == (1, 1)


def test_a_server_that_is_unknown_costs_nothing_but_captures() -> None:
    """No such name: messages are dropped and counted, nothing is raised."""
    export = HepExport("no-such-host.invalid", 9060, 3)
    export.message("in", INVITE, V4)
    export.message("in", INVITE, V4)
    export.close(20)
    assert (export.sent, export.dropped) == (0, 2)
