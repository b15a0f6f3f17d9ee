"""Faults that advisories of SIP servers tell of, at the parser: smuggled headers, and Python's own lenience."""

from __future__ import annotations

import pytest

from edge.sip.address import NameAddr
from edge.sip.auth.digest import Credentials
from edge.sip.causes import parse_reason
from edge.sip.errors import RemoteProtocolError
from edge.sip.fields.via import Via
from edge.sip.framing import StreamFramer
from edge.sip.message import Request
from edge.sip.parse import parse_message
from edge.sip.uri import Uri, parse_hostport
from media.sdp import lines
from media.sdp.errors import UnusableSdp

HEAD = (
    "REGISTER sip:a SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:a@h>\r\n"
    "Call-ID: c\r\nCSeq: 1 REGISTER\r\n"
)


def refused(more: str, body: str = "") -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as error:
        parse_message(f"{HEAD}{more}\r\n{body}".encode("utf-8", "surrogateescape"))
    return error.value


@pytest.mark.parametrize(
    "line",
    [
        "X-Asserted\x0b: 1", "P-Asserted-Identity\x00: <sip:0@h>", "P-Asserted-Identity\x0c: <sip:0@h>",
        "P-Asserted-Identity\xa0: <sip:0@h>", "P-Asserted-Identity\u2028: <sip:0@h>", "P-Asserted-Identity",
        ": <sip:0@h>", "P Asserted: 1", "Contact\r: <sip:0@h>", "Subject: a\nContact: <sip:0@h>",
        "Subject: a\rContact: <sip:0@h>",
    ],
)  # fmt: skip
def test_no_header_is_smuggled(line: str) -> None:
    """A name with anything but space or tab before its colon is an error, not a header under another name that the next
    element reads differently; so is a bare CR or LF."""
    assert refused(f"{line}\r\n").status == 400


def test_space_and_tab_before_the_colon_are_the_header_itself() -> None:
    """RFC 3261 section 7.3.1 allows them: the header is seen under its own name, so that no check misses it."""
    message = parse_message(f"{HEAD}Content-Length \t: 3\r\nRoute \t : <sip:x@h>\r\n\r\nabcdef".encode())
    assert message.body == b"abc" and message.headers.get("route") == "<sip:x@h>"


@pytest.mark.parametrize(
    "value", ["+3", "-1", "0x3", "3_0", "1_0", "٣", "３", "3 3", "3,3", "3;x", "", "1e1", "99999999999", "3\x00"]
)
def test_content_length_is_a_plain_number(value: str) -> None:
    """Python's int() takes signs, underscores and the digits of other scripts; here none passes, over either way."""
    assert refused(f"Content-Length: {value}\r\n", "abc").status == 400
    with pytest.raises(RemoteProtocolError):
        StreamFramer().feed(f"{HEAD}Content-Length: {value}\r\n\r\nabc".encode())


@pytest.mark.parametrize(
    "second", ["Content-Length: 0", "l: 0", "CONTENT-LENGTH\t:0", "L : 3", "content-length:\r\n 3"]
)
def test_two_lengths_close_the_stream(second: str) -> None:
    """Whichever the next element would take: the stream has no more meaning."""
    data = f"{HEAD}Content-Length: 3\r\n{second}\r\n\r\nabc".encode()
    assert refused(f"Content-Length: 3\r\n{second}\r\n", "abc").status == 400
    with pytest.raises(RemoteProtocolError):
        StreamFramer().feed(data)


@pytest.mark.parametrize("value", ["1_0", "+1", "１", "1.0", "0x1", "-1", "9" * 20, "1\x001"])
@pytest.mark.parametrize("key", ["Max-Forwards", "Expires", "Min-SE"])
def test_numbers_are_plain(key: str, value: str) -> None:
    """Every number of a header."""
    message = parse_message(f"{HEAD}{key}: {value}\r\n\r\n".encode())
    with pytest.raises(RemoteProtocolError):
        message.integer(key.lower())


@pytest.mark.parametrize("value", ["1_0 REGISTER", "١ REGISTER", "+1 REGISTER", "4294967296 REGISTER", "1\x0bREGISTER"])
def test_cseq_is_a_plain_number(value: str) -> None:
    message = parse_message(HEAD.replace("1 REGISTER", value).encode() + b"\r\n")
    with pytest.raises(RemoteProtocolError):
        _ = message.cseq


@pytest.mark.parametrize("port", ["５０６０", "+5060", "5_060", "65536", "-1", "99999999"])
def test_ports_are_plain(port: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Uri.parse(f"sip:a@h:{port}")
    with pytest.raises(RemoteProtocolError):
        parse_hostport(f"h:{port}")


@pytest.mark.parametrize(
    "host", ["ⅇxample.com", "exampl\u00e9.com", "a\u3002b", "xn--\u00e9", "ex ample", "a\x00b", "１２７.0.0.1"]
)
def test_hosts_are_ascii(host: str) -> None:
    """No IDNA, no full-width digits: a name means the same to us, to DNS and to the certificate."""
    with pytest.raises(RemoteProtocolError):
        Uri.parse(f"sip:a@{host}")


@pytest.mark.parametrize("break_", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_only_crlf_parts_lines(break_: str) -> None:
    """str.splitlines() knows ten line ends, SIP and SDP have one."""
    message = parse_message(f"{HEAD}Subject: a{break_}Contact: <sip:0@h>\r\n\r\n".encode())
    assert isinstance(message, Request) and "contact" not in message.headers
    sdp = (
        f"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=a{break_}c=IN IP4 192.0.2.66\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
        "m=audio 4000 RTP/AVP 0\r\n"
    )
    found = lines.parse(sdp.encode())
    assert found.connection_of(found.media[0]) == "IN IP4 192.0.2.1"


@pytest.mark.parametrize("port", ["4_000", "+4000", "４０００", "65536", "-1", "9" * 30])
def test_ports_in_sdp_are_plain(port: str) -> None:
    sdp = f"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
    with pytest.raises(UnusableSdp):
        lines.parse(sdp.encode())


@pytest.mark.parametrize(
    "text",
    ['"' + "\\" * 20_000, '"' + "a" * 20_000, "<" * 20_000, "sip:" + "a" * 20_000 + "\x00", ";" * 20_000,
     '"\\"' * 10_000, "a=" * 10_000, "(" * 20_000],
)  # fmt: skip
@pytest.mark.timeout(5)
def test_no_pattern_explodes(text: str) -> None:
    """Regular expressions and splitters take time in proportion to their input."""
    for parse in (
        NameAddr.parse,
        NameAddr.parse_list,
        Via.parse,
        Uri.parse,
        lambda t: Credentials.parse(f"Digest {t}"),
    ):
        try:
            parse(text)
        except RemoteProtocolError:
            pass
    parse_reason(text)
