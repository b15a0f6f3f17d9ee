"""Messages out of a TCP or TLS stream (RFC 3261 18.3, RFC 5626 3.5.1 and 4.4.1)."""

from __future__ import annotations

import pytest

from edge.sip.errors import RemoteProtocolError
from edge.sip.framing import KeepAlive, StreamFramer
from edge.sip.parse import MAX_MESSAGE

OPTIONS = b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP c;branch=z9hG4bK1\r\nContent-Length: 0\r\n\r\n"
MESSAGE = b"MESSAGE sip:a@b SIP/2.0\r\nContent-Length\t: 8\r\nX: y\r\n\r\n\r\n\r\nab\r\n"
ANSWER = b"SIP/2.0 200 OK\r\nL:\r\n 3\r\n\r\nabc"


def test_split_at_every_byte() -> None:
    """RFC 3261 18.3: Content-Length alone says where a message ends, however the bytes arrive."""
    stream = OPTIONS + MESSAGE + b"\r\n\r\n" + ANSWER + OPTIONS
    expected = [OPTIONS, MESSAGE, KeepAlive.PING, ANSWER, OPTIONS]
    assert StreamFramer().feed(stream) == expected
    for cut in range(len(stream) + 1):
        framer = StreamFramer()
        assert framer.feed(stream[:cut]) + framer.feed(stream[cut:]) == expected
    framer = StreamFramer()
    assert [frame for i in range(len(stream)) for frame in framer.feed(stream[i : i + 1])] == expected


def test_ping_and_stray_empty_lines() -> None:
    """RFC 5626 4.4.1: two CRLF are a ping; RFC 3261 7.5: a single one before a message is nothing."""
    assert StreamFramer().feed(b"\r\n\r\n") == [KeepAlive.PING]
    assert StreamFramer().feed(b"\r\n" * 5) == [KeepAlive.PING, KeepAlive.PING]
    framer = StreamFramer()
    assert framer.feed(b"\r\n" + OPTIONS + b"\r\n" + OPTIONS) == [OPTIONS, OPTIONS]
    assert framer.feed(b"\r\n") == []
    assert framer.feed(b"\r\n") == [KeepAlive.PING]


def test_pong_on_a_connection_of_ours() -> None:
    """RFC 5626 4.4.1: the server answers a ping with a single CRLF."""
    framer = StreamFramer(initiator=True)
    assert framer.feed(b"\r") == []
    assert framer.feed(b"\n") == [KeepAlive.PONG]
    assert framer.feed(OPTIONS + b"\r\n") == [OPTIONS, KeepAlive.PONG]


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"OPTIONS sip:a@b SIP/2.0\r\nVia: x\r\n\r\n",
        b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\nl: 0\r\n\r\n",
        b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: -1\r\n\r\n",
        b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: five\r\n\r\n",
        b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: \r\n\r\n",
        b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 1\r\n 2\r\n\r\n",
        b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 00000000000\r\n\r\n",
        b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 65536\r\n\r\n",
        b"\n\n",
        b" \r\n",
        b"X" * (MAX_MESSAGE + 1),
        b"OPTIONS sip:a@b SIP/2.0\r\nX: " + b"x" * MAX_MESSAGE,
    ],
    ids=range(14),
)
def test_lost_framing(garbage: bytes) -> None:
    """RFC 4475 3.1.2.3 and 3.3.9, domain rule 7.12: without one good Content-Length the connection is closed."""
    framer = StreamFramer()
    with pytest.raises(RemoteProtocolError) as caught:
        framer.feed(garbage)
    assert caught.value.status is None
    with pytest.raises(RemoteProtocolError):
        framer.feed(OPTIONS)


def test_messages_before_a_fault_are_kept() -> None:
    """What was whole before the stream broke is delivered, then the fault."""
    framer = StreamFramer()
    assert framer.feed(OPTIONS + b"\x00garbage") == [OPTIONS]
    assert framer.fault is not None
    with pytest.raises(RemoteProtocolError):
        framer.feed(b"")


def test_largest_message() -> None:
    """Domain rule 7.12: 64 KiB pass, a byte more does not."""
    head = b"MESSAGE sip:a@b SIP/2.0\r\nContent-Length: %05d\r\n\r\n"
    room = MAX_MESSAGE - len(head % 0)
    assert StreamFramer().feed(head % room + b"x" * room) == [head % room + b"x" * room]
    with pytest.raises(RemoteProtocolError):
        StreamFramer().feed(head % (room + 1))


def test_length_in_a_body_is_no_length() -> None:
    """The length is looked for in the headers only."""
    message = b"MESSAGE sip:a@b SIP/2.0\r\nContent-Length: 22\r\n\r\n\r\nContent-Length: 99\r\n"
    assert StreamFramer().feed(message) == [message]


@pytest.mark.parametrize("initiator", [False, True])
def test_another_framer_goes_on(initiator: bool) -> None:
    """An upgrade between any two bytes: a new framer that is fed the rest loses nothing and says nothing twice."""
    stream = OPTIONS + b"\r\n" + MESSAGE + b"\r\n\r\n" + ANSWER + b"\r\n" + OPTIONS
    expected = StreamFramer(initiator).feed(stream)
    for cut in range(len(stream) + 1):
        first, second = StreamFramer(initiator), StreamFramer(initiator)
        before = first.feed(stream[:cut])
        assert second.feed(first.rest) == []
        assert before + second.feed(stream[cut:]) == expected
