"""URIs, addresses, Via, parameters and headers as values (RFC 3261 7.3, 19.1, 20, 25.1; RFC 3581; RFC 3966)."""

from __future__ import annotations

import pytest

from edge.sip.address import NameAddr
from edge.sip.errors import LocalProtocolError, RemoteProtocolError
from edge.sip.fields.via import Via
from edge.sip.headers import Headers, field_name
from edge.sip.message import Request
from edge.sip.params import Params, split_quoted
from edge.sip.uri import Uri, encode_user


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sip:alice@atlanta.com", ("sip", "alice", None, "atlanta.com", None, "", "")),
        ("SIPS:alice:secret@atlanta.com:5061", ("sips", "alice", "secret", "atlanta.com", 5061, "", "")),
        (
            "sip:atlanta.com;method=REGISTER?to=a%40b",
            ("sip", None, None, "atlanta.com", None, ";method=REGISTER", "to=a%40b"),
        ),
        ("sip:a;b=c?d@host;lr", ("sip", "a;b=c?d", None, "host", None, ";lr", "")),
        (
            "sip:+1-212;phone-context=x@gw:5070;user=phone",
            ("sip", "+1-212;phone-context=x", None, "gw", 5070, ";user=phone", ""),
        ),
        ("sip:a@b?Replaces=c@d", ("sip", "a", None, "b", None, "", "Replaces=c@d")),
        ("sip:[2001:db8::1]:5070;lr", ("sip", None, None, "2001:db8::1", 5070, ";lr", "")),
        ("sip:@192.0.2.1", ("sip", "", None, "192.0.2.1", None, "", "")),
        ("sip:a@b_c.example", ("sip", "a", None, "b_c.example", None, "", "")),
        ("tel:+4930123;ext=5", ("tel", "+4930123", None, "", None, ";ext=5", "")),
    ],
)
def test_uri(text: str, expected: tuple[str, str | None, str | None, str, int | None, str, str]) -> None:
    """RFC 3261 19.1.1: the first "@" ends the user part; ";" and "?" before it belong to it."""
    uri = Uri.parse(text)
    assert (uri.scheme, uri.user, uri.password, uri.host, uri.port, str(uri.params), uri.headers) == expected
    assert str(uri) == text.replace("SIPS:", "sips:")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sip:",
        "sip",
        "alice@atlanta.com",
        "sip:a@",
        "sip:a@b@c",
        "sip:a@b;x=y@z",
        "sip:2001:db8::1",
        "sip:[::1",
        "sip:[]",
        "sip:a b@c",
        "sip:a@b c",
        "sip:<a@b>",
        'sip:"a"@b',
        "sip:a@b:0",
        "sip:a@b:65536",
        "sip:a@b:5060x",
        "sip:a@b:-1",
        "sip:a@[2001:db8::1]x",
        "sip:a@b\r\nX: y",
        "sip:a@b\x00",
        "sip:a@ü.example",
        "tel:",
        "tel:;x",
        "s ip:a@b",
        ":a@b",
    ],
)
def test_bad_uri(text: str) -> None:
    """RFC 3261 25.1: everything else is the peer's fault, 400."""
    with pytest.raises(RemoteProtocolError) as caught:
        Uri.parse(text)
    assert caught.value.status == 400


def test_unknown_scheme() -> None:
    """RFC 3261 8.2.2.1: 416, but for addresses, which may be anything."""
    with pytest.raises(RemoteProtocolError) as caught:
        Uri.parse("http://example.com")
    assert caught.value.status == 416
    opaque = NameAddr.parse("<urn:service:sos>;tag=1").uri
    assert (opaque.scheme, opaque.user, opaque.host, str(opaque)) == ("urn", "service:sos", "", "urn:service:sos")


SAME = [
    ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
    ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
    (
        "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
        "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
    ),
    (
        "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
    ),
    ("tel:+49-30-123", "tel:+4930123"),
]
DIFFERENT = [
    ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
    ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
    ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
    ("sip:a@b", "sips:a@b"),
    ("sip:a@b", "sip:b"),
    ("sip:a:x@b", "sip:a@b"),
    ("sip:a%3Bb@c", "sip:a;b@c"),
    ("sip:%FF@c", "sip:%FE@c"),
    ("sip:a@b", "sip:a@b;maddr=192.0.2.1"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_equivalent(a: str, b: str) -> None:
    """RFC 3261 19.1.4, its own examples; RFC 3966 section 5."""
    assert Uri.parse(a).equivalent(Uri.parse(b))
    assert Uri.parse(b).equivalent(Uri.parse(a))


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_not_equivalent(a: str, b: str) -> None:
    """RFC 3261 19.1.4, its own examples, and that an escaped reserved character is not the character."""
    assert not Uri.parse(a).equivalent(Uri.parse(b))
    assert not Uri.parse(b).equivalent(Uri.parse(a))


def test_request_uri_from_a_contact() -> None:
    """RFC 3261 19.1.5: headers and `method` are not for a Request-URI."""
    assert str(Uri.parse("sip:a@b;method=INVITE;lr?Subject=x").bare()) == "sip:a@b;lr"


def test_encoding_a_user() -> None:
    """RFC 3261 25.1: what a user part may not hold is escaped."""
    assert encode_user("+49 30/1#23*@é") == "+49%2030/1%2323*%40%C3%A9"


@pytest.mark.parametrize(
    ("text", "display", "uri", "params"),
    [
        ("sip:a@b", None, "sip:a@b", ""),
        ("sip:a@b;tag=1;x", None, "sip:a@b", ";tag=1;x"),
        ("<sip:a@b;lr>;tag=1", None, "sip:a@b;lr", ";tag=1"),
        ('"A \\"B\\" <c>, d" <sip:a@b>', 'A "B" <c>, d', "sip:a@b", ""),
        ("A B <sip:a@b> ; tag = 1", "A B", "sip:a@b", ";tag=1"),
        ("A<sip:a@b>", "A", "sip:a@b", ""),
        ('"" <sip:a@b>', "", "sip:a@b", ""),
        ('<sip:a@b>;+sip.instance="<urn:uuid:1;2>";q=0.5', None, "sip:a@b", ';+sip.instance="<urn:uuid:1;2>";q=0.5'),
    ],
)
def test_address(text: str, display: str | None, uri: str, params: str) -> None:
    """RFC 3261 20.10: display names quoted or not, parameters of the URI inside the brackets, of the header outside."""
    address = NameAddr.parse(text)
    assert (address.display, str(address.uri), str(address.params)) == (display, uri, params)


@pytest.mark.parametrize(
    "text",
    [
        "",
        '"A" sip:a@b',
        '"A <sip:a@b>',
        "<sip:a@b",
        "<sip:a@b> x",
        "<sip:a@b>, <sip:c@d>",
        "sip:a@b?x=y",
        "sip:a,b@c",
        "<>",
        '"',
    ],
)
def test_bad_address(text: str) -> None:
    """RFC 3261 20 and 25.1."""
    with pytest.raises(RemoteProtocolError):
        NameAddr.parse(text)


def test_address_list() -> None:
    """RFC 3261 7.3.1: commas inside quotes and brackets separate nothing."""
    found = NameAddr.parse_list('"Doe, J" <sip:a@b>;q=1, <sip:c,d@e>, sip:f@g')
    assert [str(a.uri) for a in found] == ["sip:a@b", "sip:c,d@e", "sip:f@g"]
    assert split_quoted('a, "b\\", c", <d,e>, f "', ",") == ["a", '"b\\", c"', "<d,e>", 'f "']


def test_written_address() -> None:
    """What we write is quoted, whatever the name holds."""
    address = NameAddr(Uri("sip", "a", "b"), 'J "X" \\ <y>').with_tag("t")
    assert str(address) == '"J \\"X\\" \\\\ <y>" <sip:a@b>;tag=t'
    assert NameAddr.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "transport", "host", "port", "branch"),
    [
        ("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1", "UDP", "192.0.2.1", 5060, "z9hG4bK1"),
        ("SIP / 2.0 / tls  [2001:db8::1] : 5061 ; branch = z9hG4bK1", "TLS", "2001:db8::1", 5061, "z9hG4bK1"),
        ("SIP/2.0/TCP\thost.example;rport", "TCP", "host.example", None, None),
        ("sip/2.0/UDP h;Branch=x", "UDP", "h", None, "x"),
        ("SIP/7.0/UDP h", "UDP", "h", None, None),
    ],
)
def test_via(text: str, transport: str, host: str, port: int | None, branch: str | None) -> None:
    """RFC 3261 20.42: blanks around slashes, colons and semicolons; parameter names without case."""
    via = Via.parse(text)
    assert (via.transport, via.host, via.port, via.branch) == (transport, host, port, branch)


@pytest.mark.parametrize(
    "text", ["", "SIP/2.0/UDP", "SIP/2.0 h", "HTTP/1.1/UDP h", "SIP/2.0/UDP 2001:db8::1", "SIP/2.0/UDP h:x"]
)
def test_bad_via(text: str) -> None:
    """RFC 3261 18.2.2: nothing is owed where there is no Via to answer to."""
    with pytest.raises(RemoteProtocolError) as caught:
        Via.parse(text)
    assert caught.value.status is None


@pytest.mark.parametrize(
    ("via", "expected"),
    [
        ("SIP/2.0/UDP 192.0.2.1;branch=b", "SIP/2.0/UDP 192.0.2.1;branch=b"),
        ("SIP/2.0/UDP 10.0.0.1;branch=b", "SIP/2.0/UDP 10.0.0.1;branch=b;received=192.0.2.1"),
        ("SIP/2.0/UDP 192.0.2.1;rport;branch=b", "SIP/2.0/UDP 192.0.2.1;rport=4711;branch=b;received=192.0.2.1"),
        ("SIP/2.0/UDP 192.0.2.1;branch=b;received=10.9.9.9", "SIP/2.0/UDP 192.0.2.1;branch=b"),
        ("SIP/2.0/UDP a.example;received=10.9.9.9;rport=1", "SIP/2.0/UDP a.example;received=192.0.2.1;rport=4711"),
    ],
)
def test_received(via: str, expected: str) -> None:
    """RFC 3261 18.2.1, RFC 3581 section 4: the source is written in, whatever the sender wrote there."""
    assert str(Via.parse(via).with_received("192.0.2.1", 4711)) == expected


def test_params() -> None:
    """RFC 3261 25.1: order and quoting stay, names compare without case, a flag has no value."""
    params = Params.parse(';A=1;b;c="x;y=\\"z\\"";;  d = 2 ')
    assert (params.get("a"), params.get("B"), params.get("c"), params.get("d"), params.get("e")) == (
        "1",
        "",
        'x;y="z"',
        "2",
        None,
    )
    assert str(params) == ';A=1;b;c="x;y=\\"z\\"";d=2'
    assert str(params.with_("a", "9").without("B", "c")) == ";A=9;d=2"
    assert "LR" in Params.parse("lr") and not Params.parse("")


@pytest.mark.parametrize("value", ["a\r\nVia: evil", "a\nb", "a\rb", "\n"])
def test_no_header_injection(value: str) -> None:
    """RFC 3261 7.3.1: text from outside can never begin a line of its own."""
    headers = Headers([("To", "x")])
    for put in (headers.add, headers.set, headers.insert_first):
        with pytest.raises(LocalProtocolError):
            put("X-Name", value)
        with pytest.raises(LocalProtocolError):
            put(value, "x")
    with pytest.raises(LocalProtocolError):
        headers.replace_first("to", value)
    with pytest.raises(LocalProtocolError):
        Headers([("X", value)])
    with pytest.raises(LocalProtocolError):
        Request("INVITE", f"sip:{value}@b").to_bytes()
    assert headers == Headers([("To", "x")])


def test_headers() -> None:
    """RFC 3261 7.3.1: order is kept, keys have no case, compact names are their long ones."""
    headers = Headers([("v", "1"), ("Via", "2"), ("Supported", "A, b"), ("k", "C")])
    assert headers.get("via") == "1"
    assert headers.get_all("via") == ["1", "2"]
    assert headers.tokens("supported") == ["a", "b", "c"]
    copy = headers.copy()
    copy.set("Via", "3")
    copy.set("To", "x")
    copy.remove("supported")
    assert list(copy.items()) == [("Via", "3"), ("To", "x")]
    headers.replace_first("via", "0")
    headers.insert_first("Via", "9")
    headers.remove_first("via")
    assert headers.get_all("via") == ["0", "2"]
    assert [field_name(k) for k in ("call-id", "p-asserted-identity", "cseq", "www-authenticate")] == [
        "Call-ID",
        "P-Asserted-Identity",
        "CSeq",
        "WWW-Authenticate",
    ]


def test_views_follow_their_fields() -> None:
    """A typed view is of the field as it is now, however it was changed."""
    request = Request("INVITE", "sip:a@b", Headers([("Via", "SIP/2.0/UDP a, SIP/2.0/UDP b"), ("To", "<sip:a@b>")]))
    assert (request.top_via.host, request.to.tag) == ("a", None)
    request.headers.replace_first("via", "SIP/2.0/UDP c")
    request.headers.set("To", "<sip:a@b>;tag=1")
    assert (request.top_via.host, request.to.tag) == ("c", "1")
    request.set_to(request.to.with_tag("2"))
    request.set_from(NameAddr(Uri("sip", "x", "y")))
    assert request.headers.get("to") == "<sip:a@b>;tag=2"
    assert (request.to.tag, str(request.from_)) == ("2", "<sip:x@y>")


@pytest.mark.parametrize(
    ("text", "expected"), [("1 A", 1), ("0001\tA", 1), ("00000000000001 A", 1), ("2147483647  A", 2**31 - 1)]
)
def test_cseq(text: str, expected: int) -> None:
    """RFC 3261 20.16: a number below 2**31, LWS, the method."""
    assert Request("A", "sip:a", Headers([("CSeq", text)])).cseq == (expected, "A")


@pytest.mark.parametrize("text", ["", "1", "A 1", "2147483648 A", "-1 A", "1 A B", "٣ A", "9" * 5000 + " A", "1.0 A"])
def test_bad_cseq(text: str) -> None:
    """RFC 3261 20.16."""
    with pytest.raises(RemoteProtocolError):
        _ = Request("A", "sip:a", Headers([("CSeq", text)])).cseq
