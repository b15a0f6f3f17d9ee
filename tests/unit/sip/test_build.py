"""Responses, CANCEL and ACK made from what they belong to (RFC 3261 8.2.6, 9.1, 12.1.1, 17.1.1.3)."""

from __future__ import annotations

import pytest

from edge.sip.build import ack_for_failure, cancel_for, response_to
from edge.sip.headers import Headers
from edge.sip.message import Request
from edge.sip.status import REASONS, reason_phrase


def invite(method: str = "INVITE", to: str = "<sip:bob@example.net>") -> Request:
    return Request(
        method,
        "sip:bob@192.0.2.9;transport=udp",
        Headers(
            [
                ("v", "SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1, SIP/2.0/UDP 192.0.2.3;branch=z9hG4bK0"),
                ("Via", "SIP/2.0/TCP 192.0.2.2;branch=z9hG4bKx"),
                ("Route", "<sip:p1.example.net;lr>,<sip:p2.example.net;lr>"),
                ("ROUTE", "<sip:p3.example.net;lr>"),
                ("Record-Route", "<sip:r1.example.net;lr>"),
                ("Record-Route", "<sip:r0.example.net;lr>"),
                ("Max-Forwards", "7"),
                ("From", '"A" <sip:alice@example.com>;tag=1'),
                ("t", to),
                ("Call-ID", "c@1"),
                ("CSeq", f"0042  {method}"),
                ("Require", "100rel"),
                ("Proxy-Authorization", "Digest x"),
                ("Timestamp", "54"),
                ("Contact", "<sip:alice@192.0.2.4>"),
                ("Content-Type", "application/sdp"),
            ]
        ),
        b"v=0\r\n",
    )


def keys(headers: Headers) -> list[str]:
    return list(headers)


def test_response_copies_what_it_must() -> None:
    """RFC 3261 8.2.6.2: all Via, From, Call-ID, CSeq and To as they came, in their order; To gets the tag."""
    answer = response_to(invite(), 486, to_tag="t9")
    assert answer.reason == "Busy Here"
    assert answer.headers.raw() == [
        ("via", "v", "SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1, SIP/2.0/UDP 192.0.2.3;branch=z9hG4bK0"),
        ("via", "Via", "SIP/2.0/TCP 192.0.2.2;branch=z9hG4bKx"),
        ("from", "From", '"A" <sip:alice@example.com>;tag=1'),
        ("to", "t", "<sip:bob@example.net>;tag=t9"),
        ("call-id", "Call-ID", "c@1"),
        ("cseq", "CSeq", "0042  INVITE"),
    ]
    assert answer.body == b""
    assert answer.to.tag == "t9"


def test_trying() -> None:
    """RFC 3261 8.2.6.1 and 8.2.6.2: 100 carries Timestamp and gets no tag."""
    answer = response_to(invite(), 100, to_tag="t9")
    assert answer.headers.get("timestamp") == "54"
    assert answer.to.tag is None
    assert "record-route" not in answer.headers


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        ("INVITE", 180, 2),
        ("INVITE", 200, 2),
        ("SUBSCRIBE", 202, 2),
        ("REFER", 202, 2),
        ("INVITE", 302, 0),
        ("INVITE", 486, 0),
        ("OPTIONS", 200, 0),
        ("BYE", 200, 0),
        ("REGISTER", 200, 0),
    ],
)
def test_record_route(method: str, status: int, expected: int) -> None:
    """RFC 3261 12.1.1: responses that form a dialog carry Record-Route, in its order."""
    answer = response_to(invite(method), status, to_tag="t9")
    assert len(answer.headers.get_all("record-route")) == expected


@pytest.mark.parametrize("to", ["<sip:bob@example.net>;tag=old", "sip:bob@example.net;tag=old", "<sip:b@e>;TAG=old"])
def test_tag_that_is_there_stays(to: str) -> None:
    """RFC 3261 8.2.6.2: the tag of a request in a dialog is kept."""
    assert response_to(invite(to=to), 200, to_tag="new").headers.get("to") == to


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("sip:bob@example.net", "sip:bob@example.net;tag=new"),
        ("<sip:bob@example.net;tag=uri>", "<sip:bob@example.net;tag=uri>;tag=new"),
        ('"a;tag=x" <sip:bob@e>;p', '"a;tag=x" <sip:bob@e>;p;tag=new'),
        ('"unreadable <sip:bob@e>', '"unreadable <sip:bob@e>'),
    ],
)
def test_tag_is_appended_to_the_text(to: str, expected: str) -> None:
    """To leaves byte for byte as it came, but for the tag; where it cannot be read it leaves as it is."""
    assert response_to(invite(to=to), 400, to_tag="new").headers.get("to") == expected


def test_own_reason() -> None:
    """The reason phrase is the registry's, or the caller's."""
    assert response_to(invite(), 200).reason == "OK"
    assert response_to(invite(), 200, "Fine").reason == "Fine"
    assert response_to(invite(), 299).reason == "OK"
    assert reason_phrase(433) == "Anonymity Disallowed"
    assert all(100 <= status < 700 and phrase for status, phrase in REASONS.items())


def test_cancel() -> None:
    """RFC 3261 9.1: Request-URI, Call-ID, To, From, CSeq number, top Via and Route are the request's."""
    cancel = cancel_for(invite())
    assert cancel.start_line() == "CANCEL sip:bob@192.0.2.9;transport=udp SIP/2.0"
    assert list(cancel.headers.items()) == [
        ("Via", "SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1"),
        ("Route", "<sip:p1.example.net;lr>,<sip:p2.example.net;lr>"),
        ("ROUTE", "<sip:p3.example.net;lr>"),
        ("Max-Forwards", "70"),
        ("From", '"A" <sip:alice@example.com>;tag=1'),
        ("To", "<sip:bob@example.net>"),
        ("Call-ID", "c@1"),
        ("CSeq", "42 CANCEL"),
    ]
    assert cancel.body == b""


def test_ack_for_a_failure() -> None:
    """RFC 3261 17.1.1.3: as CANCEL, but To is the response's, with its tag."""
    request = invite()
    ack = ack_for_failure(request, response_to(request, 486, to_tag="t9"))
    assert ack.start_line() == "ACK sip:bob@192.0.2.9;transport=udp SIP/2.0"
    assert ack.to.tag == "t9"
    assert ack.cseq == (42, "ACK")
    assert ack.headers.get_all("via") == ["SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1"]
    assert ack.headers.get_all("route") == request.headers.get_all("route")
    assert not {"require", "proxy-authorization", "contact", "content-type"} & set(keys(ack.headers))
