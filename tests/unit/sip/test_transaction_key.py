"""RFC 3261 sections 17.1.3, 17.2.3, 8.2.2.2: which messages are one transaction."""

from __future__ import annotations

import pytest

from edge.sip.errors import RemoteProtocolError
from edge.sip.headers import Headers
from edge.sip.message import Request
from edge.sip.transaction.key import branch_of, client_key, merge_key, server_key, tag_of


def key(method: str = "INVITE", as_method: str | None = None, **fields: str) -> str:
    values = {
        "via": "SIP/2.0/UDP a.example;branch=z9hG4bK1",
        "from": "<sip:a@x>;tag=1",
        "to": "<sip:b@x>",
        "call_id": "c1",
        "cseq": f"1 {method}",
        "uri": "sip:b@x",
    } | fields
    request = Request(
        method,
        values["uri"],
        Headers(
            [
                ("Via", values["via"]),
                ("From", values["from"]),
                ("To", values["to"]),
                ("Call-ID", values["call_id"]),
                ("CSeq", values["cseq"]),
            ]
        ),
    )
    return server_key(request, request.top_via, values["via"], as_method or method)


def test_same_branch_is_one_transaction_whatever_else_differs() -> None:
    """17.2.3: branch, sent-by and method decide; another CSeq with the same branch is a retransmission."""
    assert key() == key(**{"from": "<sip:z@x>;tag=9", "call_id": "c9", "cseq": "2 INVITE", "uri": "sip:z@x"})


@pytest.mark.parametrize(
    "via",
    [
        "SIP/2.0/UDP a.example;branch=z9hG4bK2",
        "SIP/2.0/UDP b.example;branch=z9hG4bK1",
        "SIP/2.0/UDP a.example:5061;branch=z9hG4bK1",
    ],
)
def test_other_branch_or_sent_by_is_another_transaction(via: str) -> None:
    """17.2.3: two clients may choose the same branch by accident or malice."""
    assert key() != key(via=via)


def test_ack_has_the_key_of_its_invite_and_cancel_its_own() -> None:
    """17.2.3: the method matches, except for ACK; CANCEL is a transaction of its own."""
    assert key("ACK", "INVITE") == key()
    assert key("CANCEL") != key()
    assert key("CANCEL", "INVITE") == key()


OLD = "SIP/2.0/UDP a.example;branch=1"


@pytest.mark.parametrize("via", [OLD, "SIP/2.0/UDP a.example", "SIP/2.0/UDP a.example;branch=z9hG4bK"])
def test_without_cookie_all_fields_decide(via: str) -> None:
    """17.2.3: RFC 2543 requests match by Request-URI, tags, Call-ID, CSeq number and top Via."""
    assert key(via=via) == key(via=via)
    for changed in (
        {"uri": "sip:c@x"},
        {"from": "<sip:a@x>;tag=2"},
        {"call_id": "c2"},
        {"cseq": "2 INVITE"},
    ):
        assert key(via=via) != key(via=via, **changed), changed
    assert key("ACK", "INVITE", via=via) == key(via=via)
    assert key("CANCEL", "INVITE", via=via) == key(via=via)


def test_cookie_is_compared_without_case() -> None:
    """7.3.1: tokens are compared without case, so an oddly written cookie is still one."""
    assert key(via="SIP/2.0/UDP a.example;branch=Z9HG4BKx", call_id="c1") == key(
        via="SIP/2.0/UDP a.example;branch=Z9HG4BKx", call_id="c2"
    )


def test_response_is_matched_by_branch_and_method() -> None:
    """17.1.3: CANCEL shares the branch of its INVITE, so the method of CSeq decides."""
    assert client_key("z9hG4bK1", "INVITE") != client_key("z9hG4bK1", "CANCEL")


@pytest.mark.parametrize(
    ("via", "branch"),
    [
        ("SIP/2.0/UDP a.example:5060;branch=z9hG4bK1;rport=5", "z9hG4bK1"),
        ("SIP/2.0/UDP a.example:5060;rport;branch=z9hG4bK1", "z9hG4bK1"),
        ("SIP / 2.0 / UDP a.example ; Branch = z9hG4bK1 ; rport", "z9hG4bK1"),
        ("SIP/2.0/UDP a.example;rport", None),
    ],
)
def test_branch_is_found_however_it_is_written(via: str, branch: str | None) -> None:
    """25.1: blanks and case around parameters mean nothing."""
    assert branch_of(via) == branch


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ("<sip:b@x>", None),
        ("<sip:b@x>;tag=7", "7"),
        ("<sip:b@x>;x=1;tag=7;y=2", "7"),
        ("<sip:b@x> ; Tag = 7", "7"),
        ("sip:b@x;tag=7", "7"),
        ("sip:b@x;tag=7;z=1", "7"),
        ("<sip:b@x;tag=8>", None),
        ('"a;tag=9" <sip:b@x>', None),
        ('"a>;tag=9" <sip:b@x>;tag=7', "7"),
    ],
)
def test_tag_is_found_however_it_is_written(value: str, tag: str | None) -> None:
    """20.39: a tag is a parameter of the header field, never of the URI or the display name."""
    assert tag_of(value) == tag


def test_bad_address_is_the_peers_fault() -> None:
    """A value that cannot be read is refused, not guessed at."""
    with pytest.raises(RemoteProtocolError):
        tag_of('"tag')


def test_merge_key_is_for_requests_outside_of_dialogs() -> None:
    """8.2.2.2: From tag, Call-ID and CSeq, and no To tag."""
    fields = [("From", "<sip:a@x>;tag=1"), ("To", "<sip:b@x>"), ("Call-ID", "c"), ("CSeq", "1 INVITE")]
    outside = Request("INVITE", "sip:b@x", Headers(fields))
    assert merge_key(outside) is not None
    outside.headers.set("To", "<sip:b@x>;tag=2")
    assert merge_key(outside) is None
