"""What a request must have before anything is done with it (RFC 3261 8.1.1, 8.2, 16.3), and a response (8.1.3)."""

from __future__ import annotations

import pytest

from edge.sip.errors import RemoteProtocolError
from edge.sip.headers import Headers
from edge.sip.message import Request, Response
from edge.sip.validate import validate_request, validate_response

FIELDS = {
    "Via": "SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1",
    "Max-Forwards": "70",
    "From": "<sip:alice@example.com>;tag=1",
    "To": "<sip:bob@example.net>",
    "Call-ID": "c@1",
    "CSeq": "1 INVITE",
}


def request(method: str = "INVITE", uri: str = "sip:bob@example.net", **changes: str | None) -> Request:
    fields = FIELDS | {"CSeq": f"1 {method}"} | {name.replace("_", "-"): value for name, value in changes.items()}
    return Request(method, uri, Headers([(n, v) for n, v in fields.items() if v is not None]))


def refusal(message: Request, supported: frozenset[str] | None = None) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        validate_request(message, supported)
    assert (caught.value.request is message) == (caught.value.status is not None)
    return caught.value


@pytest.mark.parametrize(
    "message",
    [
        request(),
        request(Max_Forwards=None),
        request(Max_Forwards="0068"),
        request(Max_Forwards="255"),
        request(From="sip:alice@example.com"),
        request(Via="SIP/2.0/UDP 192.0.2.4"),
        request("BYE", Max_Forwards="0", To="<sip:b@c>;tag=2"),
        request("INVITE", Max_Forwards="0", To="<sip:b@c>;tag=2"),
        request("OPTIONS", Max_Forwards="0"),
        request("!odd", uri="tel:+4930123"),
        request(uri="sips:[2001:db8::1]"),
    ],
)
def test_good(message: Request) -> None:
    """RFC 3261 8.1.1.6: a missing Max-Forwards is no fault; 0 is none where the request ends; RFC 2543 peers pass."""
    validate_request(message)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (request(From=None), 400),
        (request(To=None), 400),
        (request(Call_ID=None), 400),
        (request(Call_ID=""), 400),
        (request(CSeq=None), 400),
        (request(CSeq="1 BYE"), 400),
        (request(CSeq="1 invite"), 400),
        (request(CSeq="x INVITE"), 400),
        (request(From="<sip:a@b"), 400),
        (request(To="b@c"), 400),
        (request(Max_Forwards="256"), 400),
        (request(Max_Forwards="-1"), 400),
        (request(Max_Forwards="0"), 483),
        (request(uri="http://example.com"), 416),
        (request(uri="bob"), 400),
        (request(uri="sip:bob@"), 400),
        (request(uri="<sip:bob@example.net>"), 400),
        (request(uri="sip:bob@example.net?Subject=x"), 400),
        (request(Via="SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK"), 400),
        (request(Via="SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1,,SIP/2.0/UDP b"), 400),
        (request(Via="SIP/2.0"), None),
        (request(Via=None), None),
        (request("ACK", CSeq="1 INVITE"), None),
        (request("ACK", From=None), None),
    ],
)
def test_bad(message: Request, status: int | None) -> None:
    """RFC 3261 8.2.2, 16.3: the status that is owed; nothing for an ACK or without a Via."""
    assert refusal(message).status == status


@pytest.mark.parametrize("name", ["From", "t", "i", "CSEQ", "Max-Forwards", "Content-Type"])
def test_twice(name: str) -> None:
    """RFC 4475 3.3.8: fields that have one value may stand once."""
    message = request(Content_Type="application/sdp")
    message.headers.add(name, "1")
    assert refusal(message).status == 400


def test_extensions() -> None:
    """RFC 3261 8.2.2.3: an unknown option tag is refused by name; ACK and CANCEL are not asked."""
    supported = frozenset({"100rel", "gin"})
    validate_request(request(Require="100rel", Proxy_Require="GIN"), supported)
    validate_request(request(Require="foo"))
    validate_request(request("CANCEL", Require="foo"), supported)
    for message in (request(Require="100rel, Foo ,bar"), request(Proxy_Require="100rel, Foo ,bar")):
        error = refusal(message, supported)
        assert (error.status, error.headers) == (420, (("Unsupported", "foo, bar"),))


def response(to: Request) -> Response:
    return Response(200, "OK", to.headers)


def test_good_response() -> None:
    """RFC 3261 8.1.3."""
    validate_response(response(request()))


@pytest.mark.parametrize(
    "message",
    [
        response(request(Via=None)),
        response(request(Via="SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b")),
        response(request(Via="UDP a")),
        response(request(From=None)),
        response(request(To='"x <sip:a@b>')),
        response(request(Call_ID=None)),
        response(request(CSeq="9292394834772304023312 OPTIONS")),
    ],
)
def test_bad_response(message: Response) -> None:
    """RFC 3261 8.1.3.3, RFC 4475 3.1.2.5: dropped."""
    with pytest.raises(RemoteProtocolError) as caught:
        validate_response(message)
    assert caught.value.status is None


def test_response_for_somebody_else() -> None:
    """RFC 3261 8.1.3.3: several Via values, on lines of their own."""
    message = response(request())
    message.headers.add("Via", "SIP/2.0/UDP 255.255.255.255")
    with pytest.raises(RemoteProtocolError):
        validate_response(message)
