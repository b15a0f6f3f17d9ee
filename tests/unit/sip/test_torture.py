"""The messages of RFC 4475 and RFC 5118, bit for bit from their appendices, each with what it must lead to.

Mended against the archives: rfc4475/baddn.dat and the last two of RFC 5118 got the empty line that they lack, and
rfc5118/*.dat have CRLF for LF and, where they carry SDP, its true length.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.sip.build import response_to
from edge.sip.errors import RemoteProtocolError
from edge.sip.message import Request, Response
from edge.sip.params import split_quoted
from edge.sip.parse import parse_message
from edge.sip.validate import validate_request, validate_response

HERE = Path(__file__).parent
SUPPORTED = frozenset({"100rel", "timer", "replaces"})

RFC4475: list[tuple[str, str, int | str]] = [
    ("wsinv", "3.1.1.1", "parse"),
    ("intmeth", "3.1.1.2", "parse"),
    ("esc01", "3.1.1.3", "parse"),
    ("escnull", "3.1.1.4", "parse"),
    ("esc02", "3.1.1.5", "parse"),
    ("lwsdisp", "3.1.1.6", "parse"),
    ("longreq", "3.1.1.7", "parse"),
    ("dblreq", "3.1.1.8", "parse"),
    ("semiuri", "3.1.1.9", "parse"),
    ("transports", "3.1.1.10", "parse"),
    ("mpart01", "3.1.1.11", "parse"),
    ("unreason", "3.1.1.12", "parse"),
    ("noreason", "3.1.1.13", "parse"),
    ("badinv01", "3.1.2.1", 400),
    ("clerr", "3.1.2.2", 400),
    ("ncl", "3.1.2.3", 400),
    ("scalar02", "3.1.2.4", 400),
    ("scalarlg", "3.1.2.5", "drop"),
    ("quotbal", "3.1.2.6", 400),
    ("ltgtruri", "3.1.2.7", 400),
    ("lwsruri", "3.1.2.8", 400),
    ("lwsstart", "3.1.2.9", 400),
    ("trws", "3.1.2.10", 400),
    ("escruri", "3.1.2.11", 400),
    ("baddate", "3.1.2.12", "parse"),  # Date plays no part here
    ("regbadct", "3.1.2.13", "parse"),  # 400 for who reads the Contact: see below
    ("badaspec", "3.1.2.14", "parse"),  # blanks inside the brackets are passed over
    ("baddn", "3.1.2.15", "parse"),  # the missing quotes are inferred
    ("badvers", "3.1.2.16", 505),
    ("mismatch01", "3.1.2.17", 400),
    ("mismatch02", "3.1.2.18", 400),
    ("bigcode", "3.1.2.19", "drop"),
    ("badbranch", "3.2.1", 400),
    ("insuf", "3.3.1", 400),
    ("unkscm", "3.3.2", 416),
    ("novelsc", "3.3.3", 416),
    ("unksm2", "3.3.4", "parse"),  # the registrar's 400
    ("bext01", "3.3.5", 420),
    ("invut", "3.3.6", "parse"),  # 415 by who needs the body
    ("regaut01", "3.3.7", "parse"),  # 401 by who authenticates
    ("multi01", "3.3.8", 400),
    ("mcl01", "3.3.9", 400),
    ("bcast", "3.3.10", "drop"),
    ("zeromf", "3.3.11", "parse"),  # it ends here, so it is processed
    ("cparam01", "3.3.12", "parse"),
    ("cparam02", "3.3.13", "parse"),
    ("regescrt", "3.3.14", "parse"),
    ("sdp01", "3.3.15", "parse"),  # 406 by who would send the SDP
    ("inv2543", "3.4.1", "parse"),
]

RFC5118: list[tuple[str, str, int | str]] = [
    ("ipv6-good", "4.1", "parse"),
    ("ipv6-bad", "4.2", 400),
    ("port-ambiguous", "4.3", "parse"),
    ("port-unambiguous", "4.4", "parse"),
    ("via-received-param-with-delim", "4.5", "parse"),
    ("via-received-param-no-delim", "4.5", "parse"),
    ("ipv6-in-sdp", "4.6", "parse"),
    ("mult-ip-in-header", "4.7", "parse"),
    ("mult-ip-in-sdp", "4.8", "parse"),
    ("ipv4-mapped-ipv6", "4.9", "parse"),
    ("ipv6-bug-abnf-3-colons", "4.10", "parse"),
    ("ipv6-correct-abnf-2-colons", "4.10", "parse"),
]

ALL = [("rfc4475", *row) for row in RFC4475] + [("rfc5118", *row) for row in RFC5118]


def load(name: str, rfc: str = "rfc4475") -> bytes:
    return (HERE / rfc / f"{name}.dat").read_bytes()


def request(name: str, rfc: str = "rfc4475") -> Request:
    message = parse_message(load(name, rfc))
    assert isinstance(message, Request)
    return message


def take(data: bytes) -> Request | Response:
    message = parse_message(data)
    if isinstance(message, Request):
        validate_request(message, SUPPORTED)
    else:
        validate_response(message)
    return message


def test_tables_are_complete() -> None:
    """Every file has an expectation, and all 49 messages of RFC 4475 and 12 of RFC 5118 are there."""
    for rfc, table, count in (("rfc4475", RFC4475, 49), ("rfc5118", RFC5118, 12)):
        assert {name for name, _, _ in table} == {p.stem for p in (HERE / rfc).glob("*.dat")}
        assert len(table) == count


@pytest.mark.parametrize(("rfc", "name", "section", "expected"), ALL, ids=[f"{r[0]}-{r[2]}-{r[1]}" for r in ALL])
def test_outcome(rfc: str, name: str, section: str, expected: int | str) -> None:
    """RFC 4475 and RFC 5118: accepted, answered with the status of the section, or dropped; never anything else."""
    data = load(name, rfc)
    if expected == "parse":
        message = take(data)
        again = take(message.to_bytes())
        assert again.headers.raw() == message.headers.raw()
        assert again.body == message.body
        assert again.start_line() == message.start_line()
        return
    with pytest.raises(RemoteProtocolError) as caught:
        take(data)
    if expected == "drop":
        assert caught.value.status is None
        return
    assert caught.value.status == expected
    broken = caught.value.request
    assert broken is not None
    answer = parse_message(response_to(broken, expected, to_tag="t").to_bytes())
    assert isinstance(answer, Response)
    assert answer.headers.get_all("via") == broken.headers.get_all("via") != []


def test_wsinv() -> None:
    """RFC 4475 3.1.1.1: folds, blanks, compact and odd spellings, lists and lines mixed, leading zeros."""
    invite = request("wsinv")
    assert invite.to.uri.host == "chair-dnrc.example.com"
    assert invite.to.tag == "1918181833n"
    assert invite.from_.display == 'J Rosenberg \\"'
    assert invite.from_.tag == "98asjd8"
    assert invite.integer("max-forwards") == 68
    assert invite.cseq == (9, "INVITE")
    assert (invite.top_via.transport, invite.top_via.host, invite.top_via.branch) == ("UDP", "192.0.2.2", "390skdjuw")
    vias = [v for line in invite.headers.get_all("via") for v in split_quoted(line, ",")]
    assert len(vias) == 3
    assert invite.headers.get("subject") == ""
    assert invite.headers.get("newfangledheader") == "newfangled value continued newfangled value"
    assert invite.headers.get("unknownheaderwithunusualvalue") == ";;,,;;,;"
    (contact,) = invite.contacts
    assert contact.display == 'Quoted string ""'
    assert contact.params.items() == (("newparam", "newvalue"), ("secondparam", None), ("q", "0.33"))
    (route,) = invite.addresses("route")
    assert route.uri.params.get("unknown-no-value") == ""
    assert len(invite.body) == 150


def test_intmeth() -> None:
    """RFC 4475 3.1.1.2: every character a token, a user part, a quoted string and a word may hold."""
    message = request("intmeth")
    uri = message.parsed_uri()
    assert uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert uri.host == "example.com"
    assert message.to.display == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert message.from_.display == "token1~` token2'+_ token3*%!.-"
    assert message.from_.tag == "_token~1'+`*%!-."
    assert message.from_.params.get("fromParam''~+*_!.-%") == "работающий"
    assert message.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
    assert message.headers.get("extensionheader-!.%*+_`'~") == "\ufeff大停電"


def test_escapes() -> None:
    """RFC 4475 3.1.1.3 to 3.1.1.5: escapes are undone once, only in URIs, and a null ends nothing."""
    invite = request("esc01")
    assert invite.parsed_uri().decoded_user == "sips:user@example.com"
    assert invite.to.uri.decoded_user == "user"
    assert invite.from_.uri.decoded_user == "I have spaces"
    (contact,) = invite.contacts
    assert contact.uri.decoded_user == "caller"
    register = request("escnull")
    assert register.to.uri.decoded_user == "null-\x00-null"
    one, two = register.contacts
    assert not one.uri.equivalent(two.uri)
    odd = request("esc02")
    assert odd.method == "RE%47IST%45R"
    assert odd.to.display == "%Z%45"
    assert len(odd.contacts) == 2


def test_long_values() -> None:
    """RFC 4475 3.1.1.7: nothing is cut."""
    invite = request("longreq")
    assert invite.from_.tag == "12" + "982" * 50 + "424"
    assert len(invite.headers.get_all("via")) == 34
    assert invite.to.uri.port == 6000
    assert invite.call_id == "longreq.one" + "really" * 20 + "longcallid"


def test_trailing_octets() -> None:
    """RFC 4475 3.1.1.8: what follows the body of a datagram is noise."""
    register = request("dblreq")
    assert register.method == "REGISTER"
    assert register.body == b""
    assert b"INVITE" not in register.to_bytes()


def test_semicolon_in_the_user_part() -> None:
    """RFC 4475 3.1.1.9."""
    uri = request("semiuri").parsed_uri()
    assert uri.decoded_user == "user;par=u@example.net"
    assert uri.host == "example.com"
    assert not uri.params


def test_binary_body() -> None:
    """RFC 4475 3.1.1.11: a body with nulls is bytes."""
    body = request("mpart01").body
    assert len(body) == 553
    assert b"\0" in body
    assert body.endswith(b"--7a9cbec02ceef655--\r\n")


def test_reason_phrases() -> None:
    """RFC 4475 3.1.1.12 and 3.1.1.13: any phrase, or none."""
    answer = parse_message(load("unreason"))
    assert isinstance(answer, Response)
    assert answer.reason == "= 2**3 * 5**2 но сто девяносто девять - простое"
    empty = parse_message(load("noreason"))
    assert isinstance(empty, Response)
    assert (empty.status, empty.reason) == (100, "")
    assert empty.to_bytes().startswith(b"SIP/2.0 100 \r\n")


def test_contact_that_needs_brackets() -> None:
    """RFC 4475 3.1.2.13: a bare URI with "?" is refused by who reads it."""
    with pytest.raises(RemoteProtocolError) as caught:
        _ = request("regbadct").contacts
    assert caught.value.status == 400


def test_lenient_addresses_leave_strict() -> None:
    """RFC 4475 3.1.2.14 and 3.1.2.15: the sender's faults do not go into what we build."""
    message = request("baddn")
    assert message.from_.display == "Bell, Alexander"
    assert str(message.from_) == '"Bell, Alexander" <sip:a.g.bell@example.com>;tag=43'
    assert str(request("badaspec").to) == '"Watson, Thomas" <sip:t.watson@example.org>'


def test_unsupported_extensions_are_named() -> None:
    """RFC 3261 8.2.2.3, RFC 4475 3.3.5: 420 names in Unsupported what was required."""
    with pytest.raises(RemoteProtocolError) as caught:
        take(load("bext01"))
    assert caught.value.headers == (("Unsupported", "nothingsupportsthis, nothingsupportsthiseither"),)


def test_unknown_schemes_in_addresses() -> None:
    """RFC 4475 3.3.4: To, From and Contact may be of any scheme; a Contact we are to reach may not."""
    register = request("unksm2")
    assert (register.to.uri.scheme, register.to.uri.host) == ("isbn", "")
    assert str(register.from_.uri) == "http://www.example.com"
    with pytest.raises(RemoteProtocolError):
        _ = register.contacts


def test_contact_parameters() -> None:
    """RFC 4475 3.3.12 to 3.3.14: without brackets a parameter is the header's, inside them the URI's."""
    (bare,) = request("cparam01").contacts
    assert ("unknownparam" in bare.params, "unknownparam" in bare.uri.params) == (True, False)
    (named,) = request("cparam02").contacts
    assert ("unknownparam" in named.params, "unknownparam" in named.uri.params) == (False, True)
    (escaped,) = request("regescrt").contacts
    assert str(escaped.uri) == "sip:user@example.com?Route=%3Csip:sip.example.com%3E"


def test_rfc2543() -> None:
    """RFC 4475 3.4.1: no branch, no tag, no Content-Length, no Max-Forwards."""
    invite = request("inv2543")
    assert invite.top_via.branch is None
    assert invite.from_.tag is None
    assert invite.body.startswith(b"v=0\r\n")
    assert invite.integer("max-forwards") is None


def test_ipv6() -> None:
    """RFC 5118 4.3, 4.4, 4.9: where an address ends and a port begins."""
    ambiguous = request("port-ambiguous", "rfc5118").parsed_uri()
    assert (ambiguous.host, ambiguous.port) == ("2001:db8::10:5070", None)
    clear = request("port-unambiguous", "rfc5118").parsed_uri()
    assert (clear.host, clear.port, str(clear)) == ("2001:db8::10", 5070, "sip:[2001:db8::10]:5070")
    mapped = request("ipv4-mapped-ipv6", "rfc5118").top_via
    assert (mapped.host, mapped.port) == ("::ffff:192.0.2.10", 19823)
