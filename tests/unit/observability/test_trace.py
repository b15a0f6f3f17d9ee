"""The message trace: what is kept, what goes first, what a ladder looks like."""

import struct
from pathlib import Path

import pytest

from edge.observability.ladder import pcap, render
from edge.observability.trace import DAY, Tap
from edge.sip.flow import Address, Flow

GOLDEN = Path(__file__).parent / "golden"
A = Flow("udp", Address("192.0.2.1", 5060), Address("203.0.113.5", 5060))
B = Flow("tls", Address("192.0.2.1", 5061), Address("10.0.0.5", 41234), 7)
B6 = Flow("udp", Address("2001:db8::1", 5060), Address("2001:db8::5", 5060))
NOON = 1_795_348_800.0 - 100.0
"""Wall clock minus monotonic clock: second 100 is 2026-11-22 12:00 UTC."""

SDP = "Content-Type: application/sdp\r\n"
BODY = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n"


def sip(start: str, call_id: str, cseq: str, fields: str = "", body: str = "") -> bytes:
    """A message with what the ladder looks at."""
    return (
        f"{start}\r\nCall-ID: {call_id}\r\nCSeq: {cseq}\r\n{fields}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )


def a_call(tap: Tap) -> None:
    """An inbound call with a challenge-free A-leg, a phone that is busy and one that answers; A hangs up."""
    tap.message("in", sip("INVITE sip:+441632960123@edge SIP/2.0", "a@far", "1 INVITE", SDP, BODY), A, 100.0)
    tap.link("c1", "a@far")
    tap.message("out", sip("SIP/2.0 100 Trying", "a@far", "1 INVITE"), A, 100.0)
    tap.link("c1", "e-0001")
    tap.message("out", sip("INVITE sip:1001@10.0.0.5 SIP/2.0", "e-0001", "1 INVITE", SDP, BODY), B, 100.001)
    tap.message("in", sip("SIP/2.0 486 Busy Here", "e-0001", "1 INVITE", "Reason: Q.850;cause=17\r\n"), B, 100.02)
    tap.message("out", sip("ACK sip:1001@10.0.0.5 SIP/2.0", "e-0001", "1 ACK"), B, 100.02)
    tap.link("c1", "e-0002")
    tap.message("out", sip("INVITE sip:1002@[2001:db8::5] SIP/2.0", "e-0002", "1 INVITE", SDP, BODY), B6, 100.021)
    tap.message("out", sip("INVITE sip:1002@[2001:db8::5] SIP/2.0", "e-0002", "1 INVITE", SDP, BODY), B6, 100.521)
    tap.message("in", sip("SIP/2.0 200 OK", "e-0002", "1 INVITE", SDP, BODY), B6, 102.0)
    tap.message("out", sip("ACK sip:1002@[2001:db8::5] SIP/2.0", "e-0002", "1 ACK"), B6, 102.0)
    tap.message("out", sip("SIP/2.0 200 OK", "a@far", "1 INVITE", SDP, BODY), A, 102.0)
    tap.message("in", sip("ACK sip:edge SIP/2.0", "a@far", "1 ACK"), A, 102.05)
    auth = 'Authorization: Digest username="u", response="6629fae49393a053"\r\n'
    tap.message("in", sip("BYE sip:edge SIP/2.0", "a@far", "2 BYE", auth), A, 130.25)
    tap.message("out", sip("SIP/2.0 200 OK", "a@far", "2 BYE"), A, 130.25)
    tap.message("out", sip("BYE sip:1002@[2001:db8::5] SIP/2.0", "e-0002", "2 BYE"), B6, 130.25)


def test_the_ladder_is_as_documented() -> None:
    """Golden: A left, E in the middle, called right; times; cseq; again for retransmissions; then the messages with
    the digest hidden."""
    tap = Tap()
    a_call(tap)
    call = tap.find("c1")
    assert call is not None
    assert render(call, NOON) == (GOLDEN / "call.ladder").read_text()


@pytest.mark.parametrize("key", ["c1", "a@far", "e-0002", "last"])
def test_a_call_is_found_by_our_id_and_by_each_call_id(key: str) -> None:
    """Legs that were linked are one call; `last` is the newest."""
    tap = Tap()
    a_call(tap)
    call = tap.find(key)
    assert call is not None
    assert call.call == "c1" and [leg.sip_call_id for leg in call.legs] == ["a@far", "e-0001", "e-0002"]
    assert len(render(call, NOON, messages=False).splitlines()) == 1 + 14


def test_what_belongs_to_no_call_is_found_by_its_call_id() -> None:
    """Registrations and refused requests can be traced as well; what is unknown is None."""
    tap = Tap()
    tap.message("in", sip("REGISTER sip:edge SIP/2.0", "reg", "1 REGISTER"), A, 1.0)
    call = tap.find("reg")
    assert call is not None and call.call == "reg"
    assert "A → E  REGISTER sip:edge  cseq 1" in render(call, NOON)
    assert tap.find("nobody") is None
    assert tap.find("last") is None


@pytest.mark.parametrize(
    "field", [b"Call-ID: x@y", b"call-id:x@y", b"CALL-ID :  x@y ", b"i: x@y", b"I:x@y", b"Call-ID: x@y  "]
)
def test_the_call_id_is_found_in_every_spelling(field: bytes) -> None:
    """RFC 3261 7.3: case, blanks, compact form."""
    tap = Tap()
    tap.message("in", b"OPTIONS sip:a SIP/2.0\r\nVia: x\r\n" + field + b"\r\nCSeq: 1 OPTIONS\r\n\r\n", A, 1.0)
    assert tap.find("x@y") is not None


def test_keep_alives_and_garbage_are_not_kept() -> None:
    """What has no Call-ID belongs to no call."""
    tap = Tap()
    for data in (b"\r\n\r\n", b"", b"\0" * 100, b"INVITE"):
        tap.message("in", data, A, 1.0)
    assert tap.bytes_kept == 0


def test_bytes_are_bounded_and_the_oldest_go_first() -> None:
    """Full, it forgets message by message from the old end; calls that lost some say so, calls that lost all are gone,
    and nothing stays behind in memory."""
    tap = Tap(max_bytes=20_000)
    for n in range(200):
        tap.message("in", sip("INVITE sip:a SIP/2.0", f"id{n}", "1 INVITE"), A, float(n))
        tap.link(f"c{n}", f"id{n}")
        tap.message("out", sip("SIP/2.0 486 Busy Here", f"id{n}", "1 INVITE"), A, float(n))
        assert tap.bytes_kept <= 20_000
    assert tap.find("c0") is None and tap.find("id0") is None
    newest = tap.find("c199")
    assert newest is not None and newest.complete
    kept = [n for n in range(200) if tap.find(f"c{n}") is not None]
    assert kept == list(range(kept[0], 200))
    assert len(tap._calls) == len(tap._dialogs) == len(kept)


def test_an_incomplete_call_says_so() -> None:
    """A ladder whose start was forgotten is not mistaken for a whole one."""
    tap = Tap(max_bytes=1500)
    tap.link("c", "x")
    for n in range(5):
        tap.message("in", sip("INVITE sip:a SIP/2.0", "x", f"{n} INVITE"), A, float(n))
    call = tap.find("x")
    assert call is not None and not call.complete
    assert "earlier messages of this call are no longer kept" in render(call, NOON)


def test_a_flood_of_strangers_leaves_the_ladders_of_calls() -> None:
    """What belongs to no call has a quarter of the room, the quietest Call-ID goes first; and no Call-ID alone, a
    registration of months, fills that quarter."""
    tap = Tap(max_bytes=200_000)
    a_call(tap)
    for n in range(10_000):
        tap.message("in", sip("REGISTER sip:a SIP/2.0", f"flood{n}", "1 REGISTER"), A, 200.0)
        tap.message("in", sip("REGISTER sip:a SIP/2.0", "phone", f"{n} REGISTER"), A, 200.0)
        assert tap.bytes_kept <= 60_000
    call, phone = tap.find("c1"), tap.find("phone")
    assert call is not None and call.complete and len(call.legs) == 3
    assert phone is not None and not phone.complete and len(phone.legs[0].messages) < 100
    assert tap.find("flood9999") is not None and tap.find("flood9000") is None
    tap.purge(201.0)
    assert tap.bytes_kept == 0 and not tap._loose


def test_a_call_takes_what_was_loose_before_it_was_known() -> None:
    """The challenged INVITE and its answer come before the call has an id; they stay, and count as the call's."""
    tap = Tap(max_bytes=40_000)
    for n in range(2):
        tap.message("in", sip("INVITE sip:a SIP/2.0", "x", f"{n} INVITE"), A, 1.0)
    tap.link("c", "x")
    for n in range(1000):
        tap.message("in", sip("OPTIONS sip:a SIP/2.0", f"o{n}", "1 OPTIONS"), A, 2.0)
    call = tap.find("c")
    assert call is not None and call.complete and len(call.legs[0].messages) == 2
    tap.resize(0)
    assert tap.bytes_kept == 0 and tap.find("c") is None


def test_messages_go_at_their_age() -> None:
    """What is older goes, to the second."""
    tap = Tap()
    tap.message("in", sip("INVITE sip:a SIP/2.0", "x", "1 INVITE"), A, 0.0)
    tap.purge(0.0)
    assert tap.find("x") is not None
    tap.purge(1.0)
    assert tap.find("x") is None
    assert tap.bytes_kept == 0


def test_without_room_nothing_is_kept() -> None:
    """`max_bytes` 0 switches the trace off."""
    tap = Tap(max_bytes=0)
    a_call(tap)
    assert tap.find("c1") is None and tap.bytes_kept == 0


def test_a_capture_holds_each_message_with_its_addresses() -> None:
    """pcap: raw IP, one UDP datagram a message, checksums right, digest hidden."""
    tap = Tap()
    a_call(tap)
    call = tap.find("c1")
    assert call is not None
    data = pcap(call, NOON)
    assert struct.unpack("<IHHiIII", data[:24]) == (0xA1B2C3D4, 2, 4, 0, 0, 262_144, 101)
    packets, at = [], 24
    while at < len(data):
        seconds, micros, kept, length = struct.unpack("<IIII", data[at : at + 16])
        assert kept == length
        packets.append((seconds + micros / 1e6, data[at + 16 : at + 16 + kept]))
        at += 16 + kept
    assert len(packets) == 14
    when, first = packets[0]
    assert when == pytest.approx(NOON + 100.0, abs=1e-5)
    assert first[0] == 0x45 and sum16(first[:20]) == 0xFFFF
    assert first[12:20] == bytes([203, 0, 113, 5, 192, 0, 2, 1])
    assert struct.unpack("!HH", first[20:24]) == (5060, 5060)
    assert first[28:].startswith(b"INVITE sip:+441632960123@edge")
    sixth = packets[5][1]
    assert sixth[0] == 0x60
    assert sum16(sixth[8:40] + struct.pack("!IHH", len(sixth) - 40, 0, 17) + sixth[40:]) == 0xFFFF
    assert b"6629fae49393a053" not in data


def sum16(data: bytes) -> int:
    """The Internet checksum's sum; 0xFFFF over data whose checksum is right (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_joined_calls_are_one_ladder() -> None:
    """Who asks for a call that was transferred sees the dialogs of both; what goes out of memory goes for both."""
    tap = Tap(10_000)
    for call, sip_call_id in (("c1", "one"), ("c2", "two"), ("c3", "three")):
        tap.link(call, sip_call_id)
        tap.message("in", sip("INVITE sip:x SIP/2.0", sip_call_id, "1 INVITE"), A, 1.0)
    tap.join("c1", "c2")
    tap.join("c2", "c3")
    for key, first in (("c1", "one"), ("three", "three")):
        found = tap.find(key)
        assert found is not None and found.legs[0].sip_call_id == first
        assert {leg.sip_call_id for leg in found.legs} == {"one", "two", "three"}
    tap.purge(2.0 + DAY)
    assert tap.find("c1") is None and not tap._joined


def test_a_call_can_be_forgotten_and_the_rest_stays() -> None:
    """A person asks: the messages of a call go at once, those of others stay, and what it held is free."""
    tap, flow = Tap(), Flow("udp", Address("192.0.2.1", 5060), Address("192.0.2.2", 5060))
    for n, call in enumerate(("mine", "other")):
        tap.message("in", b"INVITE sip:a@b SIP/2.0\r\nCall-ID: %s@x\r\n\r\n" % call.encode(), flow, float(n))
        tap.link(call, f"{call}@x")
    kept = tap.bytes_kept
    assert tap.forget("mine")
    assert tap.find("mine") is None and tap.find("mine@x") is None
    assert tap.find("other") is not None
    assert tap.bytes_kept < kept
    assert not tap.forget("unknown")
    tap.purge(1e9)
    assert tap.bytes_kept == 0
