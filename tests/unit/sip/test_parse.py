"""Bytes to messages: limits, line ends, lengths, and what a broken request still says (RFC 3261 7, 18.3)."""

from __future__ import annotations

import time

import pytest

from edge.sip.address import NameAddr
from edge.sip.errors import RemoteProtocolError
from edge.sip.fields.via import Via
from edge.sip.message import Message, Request, Response
from edge.sip.parse import MAX_FIELDS, MAX_MESSAGE, MAX_VIAS, parse_message

INVITE = (
    b"INVITE sip:bob@example.net SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.4:5060;branch=z9hG4bK1;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b"From: <sip:alice@example.com>;tag=1\r\n"
    b"To: <sip:bob@example.net>\r\n"
    b"Call-ID: a@192.0.2.4\r\n"
    b"CSeq: 1 INVITE\r\n"
    b"Contact: <sip:alice@192.0.2.4>\r\n"
    b"%s"
    b"\r\n"
)


def refused(data: bytes) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_message(data)
    return caught.value


def with_lines(*lines: bytes) -> bytes:
    return INVITE % b"".join(line + b"\r\n" for line in lines)


def test_plain_request() -> None:
    """RFC 3261 7.1: method, Request-URI and fields in their order, nothing changed."""
    message = parse_message(with_lines(b"X-Odd:  \tone  two\t "))
    assert isinstance(message, Request)
    assert (message.method, message.uri) == ("INVITE", "sip:bob@example.net")
    assert list(message.headers) == ["via", "max-forwards", "from", "to", "call-id", "cseq", "contact", "x-odd"]
    assert message.headers.get("x-odd") == "one  two"


def test_content_length_belongs_to_the_body() -> None:
    """RFC 3261 20.14: the field is read, not kept, and written anew from the body."""
    message = parse_message(with_lines(b"l: 3") + b"abcdef")
    assert message.body == b"abc"
    assert "content-length" not in message.headers
    assert message.to_bytes().endswith(b"\r\nContent-Length: 3\r\n\r\nabc")


def test_body_without_content_length() -> None:
    """RFC 3261 18.3: without Content-Length the body of a datagram reaches to its end."""
    assert parse_message(with_lines() + b"abcdef").body == b"abcdef"


@pytest.mark.parametrize("value", [b"-1", b"five", b"", b"1 2", b"0x2", b"99999999999", "٣".encode()])
def test_bad_content_length(value: bytes) -> None:
    """RFC 4475 3.1.2.3: what is no number is answered with 400."""
    assert refused(with_lines(b"Content-Length: " + value) + b"abc").status == 400


def test_content_length_twice() -> None:
    """Domain rule 7.12: two Content-Length fields are refused even where they agree, in any spelling."""
    assert refused(with_lines(b"Content-Length: 3", b"l: 3") + b"abc").status == 400


@pytest.mark.parametrize("prefix", [b"\r\n", b"\r\n\r\n", b"\r\n" * 20])
def test_leading_empty_lines(prefix: bytes) -> None:
    """RFC 3261 7.5: empty lines before the start line are passed over."""
    assert isinstance(parse_message(prefix + with_lines()), Request)


def test_folded_header() -> None:
    """RFC 3261 7.3.1: a folded value is one line with single blanks."""
    message = parse_message(with_lines(b"Subject: I know\r\n  you're\r\n\tthere"))
    assert message.headers.get("subject") == "I know you're there"


@pytest.mark.parametrize(
    ("short", "key"),
    [
        (b"i", "call-id"),
        (b"m", "contact"),
        (b"e", "content-encoding"),
        (b"c", "content-type"),
        (b"f", "from"),
        (b"s", "subject"),
        (b"k", "supported"),
        (b"t", "to"),
        (b"v", "via"),
        (b"X", "session-expires"),
        (b"R", "refer-to"),
    ],
)
def test_compact_forms(short: bytes, key: str) -> None:
    """RFC 3261 7.3.3 and the registry: a compact name is the long one, and leaves as it came."""
    message = parse_message(with_lines(short + b": some;value=1"))
    assert message.headers.get_all(key)[-1] == "some;value=1"
    assert b"\r\n" + short + b": some;value=1\r\n" in message.to_bytes()


@pytest.mark.parametrize("name", [b"VIA", b"vIa", b"Via ", b"Via\t"])
def test_spellings(name: bytes) -> None:
    """RFC 3261 7.3.1: names without regard to case, blanks before the colon allowed."""
    assert len(parse_message(with_lines(name + b": SIP/2.0/UDP b;branch=2")).headers.get_all("via")) == 2


@pytest.mark.parametrize("line", [b"no colon", b": no name", b"two words: x", b"ctrl\x01: x", b"na\xc3\xafve: x"])
def test_line_that_is_no_header(line: bytes) -> None:
    """RFC 3261 25.1: a field name is a token; the request is answered with 400."""
    error = refused(with_lines(line))
    assert error.status == 400
    assert error.request is not None and error.request.call_id == "a@192.0.2.4"


@pytest.mark.parametrize("bad", [b"X: a\nVia: SIP/2.0/UDP evil", b"X: a\rb", b"X: a\r\r", b"X: a\n"])
def test_bare_line_ends(bad: bytes) -> None:
    """A bare CR or LF in the headers is refused, and is not there any more in what the answer is made from."""
    error = refused(with_lines(bad))
    assert error.status == 400
    assert error.request is not None
    assert error.request.headers.get_all("via") == ["SIP/2.0/UDP 192.0.2.4:5060;branch=z9hG4bK1;rport"]
    assert error.request.to_bytes().count(b"\n") == error.request.to_bytes().count(b"\r\n")


def test_only_bare_line_feeds() -> None:
    """A message with LF for CRLF is dropped: it has no line that could be answered."""
    assert refused(with_lines().replace(b"\r\n", b"\n")).status is None


def test_any_bytes_survive() -> None:
    """Bytes that are not UTF-8 leave as they came."""
    raw = b'Subject: "\xff\xfe \xc3\xa9 \xe2\x82\xac"'
    assert raw in parse_message(with_lines(raw)).to_bytes()


def test_header_limit() -> None:
    """Domain rule 7.12: 200 header fields, not 201."""
    assert len(parse_message(with_lines(*[b"X: 1"] * (MAX_FIELDS - 7))).headers) == MAX_FIELDS
    error = refused(with_lines(*[b"X: 1"] * (MAX_FIELDS - 6)))
    assert error.status == 400
    assert error.request is not None and len(error.request.headers) == MAX_FIELDS


@pytest.mark.parametrize("joined", [True, False])
def test_via_limit(joined: bool) -> None:
    """Domain rule 7.12: 70 Via values, not 71, on lines of their own or joined by commas."""
    via = b"SIP/2.0/UDP h;branch=z9hG4bK2"

    def message(count: int) -> bytes:
        more = [via] * (count - 1)
        return with_lines(b"Via: " + b", ".join(more)) if joined else with_lines(*[b"Via: " + v for v in more])

    parse_message(message(MAX_VIAS))
    assert refused(message(MAX_VIAS + 1)).status == 400


def test_commas_elsewhere_are_no_vias() -> None:
    """Only Via values count."""
    parse_message(with_lines(b"Allow: " + b"A, " * 100))


def test_size_limit() -> None:
    """Domain rule 7.12, RFC 3261 21.5.7: 64 KiB are read, a byte more is answered with 513."""
    room = MAX_MESSAGE - len(with_lines())
    assert len(parse_message(with_lines() + b"x" * room).body) == room
    error = refused(with_lines() + b"x" * (room + 1))
    assert error.status == 513
    assert error.request is not None and error.request.method == "INVITE"


def test_endless_headers() -> None:
    """Headers that do not end within 64 KiB are answered from what could be read."""
    error = refused(with_lines(b"X: " + b"x" * MAX_MESSAGE))
    assert (error.status, error.detail) == (400, "the header block does not end")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"INVITE sip:bob@example.net SIP/3.0", 505),
        (b"INVITE sip:bob@example.net SIP/2.1", 505),
        (b"INVITE sip:bob@example.net HTTP/1.1", 400),
        (b"INVITE sip:bob@example.net", 400),
        (b"INVITE  sip:bob@example.net SIP/2.0", 400),
        (b"INVITE sip:bob@example.net  SIP/2.0", 400),
        (b"INVITE sip:bob@example.net SIP/2.0 ", 400),
        (b"INVITE SIP/2.0", 400),
        (b"INVITE", 400),
        (b"IN(VITE) sip:bob@example.net SIP/2.0", None),
        (b"", None),
        (b"SIP/2.0", None),
        (b"SIP/2.0 20 OK", None),
        (b"SIP/2.0 700 OK", None),
        (b"SIP/2.0 099 OK", None),
        (b"SIP/2.0 2000 OK", None),
        (b"SIP/3.0 200 OK", None),
    ],
)
def test_start_lines(line: bytes, status: int | None) -> None:
    """RFC 3261 7.1, 7.2 and 21.5.6: one SP between the parts, version 2.0, three digits."""
    rest = with_lines().partition(b"\r\n")[2]
    error = refused(line + b"\r\n" + rest)
    assert error.status == status
    assert (error.request is None) == (status is None)


@pytest.mark.parametrize("version", [b"SIP/2.0", b"sip/2.0", b"Sip/2.0"])
def test_version_without_case(version: bytes) -> None:
    """RFC 3261 7.1: the version is compared without regard to case and sent in upper case."""
    request = parse_message(with_lines().replace(b"SIP/2.0\r\n", version + b"\r\n", 1))
    assert request.to_bytes().startswith(b"INVITE sip:bob@example.net SIP/2.0\r\n")
    answer = parse_message(version + b" 200 OK\r\n\r\n")
    assert isinstance(answer, Response) and answer.status == 200


def test_status_line_without_phrase() -> None:
    """RFC 4475 3.1.1.13: a liberal receiver takes the line without its last blank."""
    answer = parse_message(b"SIP/2.0 180\r\n\r\n")
    assert isinstance(answer, Response) and (answer.status, answer.reason) == (180, "")


def test_broken_acks_and_responses_are_dropped() -> None:
    """RFC 3261 17.1.1.3 and 8.1.3: nobody answers an ACK or a response."""
    assert refused(with_lines(b"l: 9").replace(b"INVITE", b"ACK")).status is None
    assert refused(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nl: 9\r\n\r\n").status is None


@pytest.mark.parametrize("via", [b"", b"Via: SIP/2.0\r\n", b"Via: HTTP/2.0/UDP a\r\n", b"Via: SIP/2.0/UDP \r\n"])
def test_without_a_usable_via(via: bytes) -> None:
    """RFC 3261 18.2.2: without a Via there is nowhere to answer to."""
    start, _, rest = with_lines(b"l: 9").partition(b"Via: SIP/2.0/UDP 192.0.2.4:5060;branch=z9hG4bK1;rport\r\n")
    assert refused(start + via + rest).status is None


@pytest.mark.parametrize("data", [b"", b"\r\n", b"\0\0\0\0", b"\xff" * 100, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_not_sip(data: bytes) -> None:
    """Noise is dropped."""
    assert refused(data).status is None


@pytest.mark.parametrize(
    "data",
    [
        with_lines(b"X:" + b" " * 60000 + b"x"),
        with_lines(b"X:" + b"\r\n " * 20000 + b"x"),
        with_lines(b'Contact: "' + b"\\a" * 30000),
        with_lines(b'Contact: "' + b"a" * 60000),
        with_lines(b"Contact: " + b'"a" <' * 12000),
        with_lines(b"Contact: <sip:" + b"a:" * 30000 + b">"),
        with_lines(b"Contact: <sip:" + b"a;" * 30000 + b">"),
        with_lines(b"Contact: " + b"a," * 30000),
        with_lines(b"Contact: <sip:a@b>" + b";a=b" * 15000),
        with_lines(b"Via: " + b"SIP/" * 15000),
        with_lines(b"Via: SIP/2.0/UDP " + b" " * 60000 + b"h"),
        with_lines(b"Via: SIP/2.0/UDP h" + b" " * 60000 + b":x"),
        with_lines(b"CSeq: " + b"9" * 60000 + b" INVITE"),
    ],
    ids=range(13),
)
def test_time_is_linear(data: bytes) -> None:
    """Domain rule 7.12: reading a 64 KiB message whole takes some 20 ms; anything quadratic would take seconds."""
    start = time.process_time()
    try:
        message = parse_message(data)
        read_all(message)
    except RemoteProtocolError:
        pass
    assert time.process_time() - start < 0.3


def read_all(message: Message) -> None:
    """Ask for every typed view; what one refuses, the next may give."""
    views = ("cseq", "top_via", "from_", "to", "contacts", "call_id", "content_type")
    for view in views:
        try:
            getattr(message, view)
        except RemoteProtocolError:
            continue
    for read, key in ((NameAddr.parse_list, "contact"), (Via.parse, "via")):
        for value in message.headers.get_all(key):
            try:
                read(value)
            except RemoteProtocolError:
                continue
