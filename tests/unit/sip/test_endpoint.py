"""The endpoint: Via marking, answers to broken messages, matching, CANCEL, merged requests, streams."""

from __future__ import annotations

import pytest

from edge.sip.build import response_to
from edge.sip.endpoint import (
    AckReceived,
    BadMessage,
    CancelReceived,
    Endpoint,
    Event,
    FlowClosed,
    Outgoing,
    PongReceived,
    RequestReceived,
    ResponseReceived,
    TransportFailed,
)
from edge.sip.errors import LocalProtocolError
from edge.sip.flow import Address, Flow
from edge.sip.headers import Headers
from edge.sip.message import Request
from edge.sip.parse import parse_message

from .transaction_bench import Ids

OWN = Address("192.0.2.1", 5060)
PEER = Address("198.51.100.7", 5062)
UDP = Flow("udp", OWN, PEER)
TCP = Flow("tcp", OWN, PEER, 3)


def incoming(
    method: str = "OPTIONS",
    *,
    via: str = "SIP/2.0/UDP 198.51.100.7:5062;branch=z9hG4bK1;rport",
    cseq: str | None = None,
    to: str = "<sip:bob@edge.example>",
    from_: str = "<sip:alice@peer.example>;tag=a",
    uri: str = "sip:bob@edge.example",
    call_id: str = "c1",
    more: str = "",
) -> bytes:
    return (
        f"{method} {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {from_}\r\nTo: {to}\r\n"
        f"Call-ID: {call_id}\r\nCSeq: {cseq or f'1 {method}'}\r\n{more}Content-Length: 0\r\n\r\n"
    ).encode()


def endpoint(flow: Flow | None = None, initiator: bool = False) -> Endpoint:
    made = Endpoint(Ids())
    if flow is not None:
        made.connection_made(flow, initiator)
    return made


def events(end: Endpoint) -> list[Event]:
    out: list[Event] = []
    while (event := end.next_event()) is not None:
        out.append(event)
    return out


def one(end: Endpoint) -> Event:
    (event,) = events(end)
    return event


def new_request(end: Endpoint, data: bytes, flow: Flow = UDP) -> RequestReceived:
    end.receive_datagram(data, flow, 0.0)
    event = one(end)
    assert isinstance(event, RequestReceived)
    return event


def sent(end: Endpoint) -> list[str]:
    return [out.data.partition(b"\r\n")[0].decode() for out in end.outgoing()]


def header(out: Outgoing, key: str) -> str:
    return parse_message(out.data).need(key)


# Via and where responses go


def test_rport_and_received_are_filled_in_and_the_response_goes_back() -> None:
    """RFC 3581 section 4: rport gets the source port, received the source address, the response goes there."""
    end = endpoint()
    flow = UDP._replace(remote=Address("203.0.113.9", 40000))
    event = new_request(end, incoming(), flow)
    assert event.request.top_via.params.get("rport") == "40000"
    assert event.request.top_via.params.get("received") == "203.0.113.9"
    end.respond(event.tx, response_to(event.request, 200), 0.0)
    (out,) = end.outgoing()
    assert out.flow == flow
    assert "received=203.0.113.9" in header(out, "via") and "rport=40000" in header(out, "via")


def test_peer_behind_nat_without_rport_is_answered_where_it_is() -> None:
    """RFC 3261 18.2.1: received is added where sent-by differs; the answer goes to the source, which a NAT expects."""
    end = endpoint()
    flow = UDP._replace(remote=Address("203.0.113.9", 40000))
    event = new_request(end, incoming(via="SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1"), flow)
    assert event.request.top_via.params.get("received") == "203.0.113.9"
    end.respond(event.tx, response_to(event.request, 200), 0.0)
    assert end.outgoing()[0].flow == flow


@pytest.mark.parametrize(("sent_by", "port"), [("198.51.100.7:5070", 5070), ("198.51.100.7", 5060)])
def test_peer_without_rport_is_answered_at_the_port_it_names(sent_by: str, port: int) -> None:
    """RFC 3261 18.2.2: a client that sends from another port than it listens on is answered at sent-by's port."""
    end = endpoint()
    event = new_request(end, incoming(via=f"SIP/2.0/UDP {sent_by};branch=z9hG4bK1"))
    end.respond(event.tx, response_to(event.request, 200), 0.0)
    assert end.outgoing()[0].flow.remote == Address("198.51.100.7", port)
    assert event.flow == UDP, "the flow told is where it came from"


def test_a_list_of_vias_in_one_line_keeps_the_others() -> None:
    """7.3.1: Via values may share a line; only the top one is ours to mark."""
    end = endpoint()
    event = new_request(
        end, incoming(via="SIP/2.0/UDP x.example;branch=z9hG4bK1, SIP/2.0/UDP y.example;branch=z9hG4bK0")
    )
    assert event.request.need("via") == (
        "SIP/2.0/UDP x.example;branch=z9hG4bK1;received=198.51.100.7, SIP/2.0/UDP y.example;branch=z9hG4bK0"
    )


def test_stream_response_goes_over_the_connection_of_the_request() -> None:
    """18.2.2: over a reliable transport the response goes over the connection that the request came over."""
    end = endpoint(TCP)
    end.receive_stream(incoming(via="SIP/2.0/TCP 10.0.0.1;branch=z9hG4bK1"), TCP, 0.0)
    event = one(end)
    assert isinstance(event, RequestReceived)
    end.respond(event.tx, response_to(event.request, 200), 0.0)
    assert end.outgoing()[0].flow == TCP


# requests


def test_retransmission_reaches_the_user_once_and_gets_the_same_bytes() -> None:
    """17.2.2: a repeated request is answered with the last response, byte for byte."""
    end = endpoint()
    event = new_request(end, incoming())
    end.receive_datagram(incoming(), UDP, 0.1)
    assert end.outgoing() == [] and events(end) == []
    end.respond(event.tx, response_to(event.request, 404), 0.2)
    first = end.outgoing()
    end.receive_datagram(incoming(), UDP, 0.3)
    assert [out.data for out in end.outgoing()] == [out.data for out in first]
    assert events(end) == []


def test_same_branch_with_another_cseq_is_a_retransmission() -> None:
    """17.2.3: the branch decides (races catalogue 11)."""
    end = endpoint()
    new_request(end, incoming())
    end.receive_datagram(incoming(cseq="2 OPTIONS"), UDP, 0.1)
    assert events(end) == []


def test_to_tag_is_set_and_stays() -> None:
    """8.2.6.2: all responses of a transaction but 100 have the same To tag."""
    end = endpoint()
    event = new_request(end, incoming("INVITE"))
    tag = end.local_tag(event.tx)
    for status in (100, 180, 183, 200):
        end.respond(event.tx, response_to(event.request, status), 0.0)
    tags = [parse_message(out.data).to.tag for out in end.outgoing()]
    assert tags == [None, tag, tag, tag]


def test_tag_of_the_user_is_kept() -> None:
    """12.1.1: the user that makes a dialog may bring its own tag, and later answers have it too."""
    end = endpoint()
    event = new_request(end, incoming("INVITE"))
    end.respond(event.tx, response_to(event.request, 180, None, "mine"), 0.0)
    end.respond(event.tx, response_to(event.request, 486), 0.0)
    assert [parse_message(out.data).to.tag for out in end.outgoing()] == ["mine", "mine"]


def test_in_dialog_request_keeps_its_to_tag() -> None:
    """8.2.6.2: where the request has a To tag it is copied, whatever else To holds."""
    end = endpoint()
    event = new_request(end, incoming("BYE", to='"tag" <sip:b@x;tag=no>;x=1;tag=theirs'))
    end.respond(event.tx, response_to(event.request, 200), 0.0)
    assert header(end.outgoing()[0], "to") == '"tag" <sip:b@x;tag=no>;x=1;tag=theirs'


def test_late_answer_is_dropped() -> None:
    """A second final response, and one after the end, go nowhere."""
    end = endpoint()
    event = new_request(end, incoming())
    end.respond(event.tx, response_to(event.request, 200), 0.0)
    end.respond(event.tx, response_to(event.request, 500), 0.0)
    assert sent(end) == ["SIP/2.0 200 OK"]
    end.handle_timer(40.0)
    end.respond(event.tx, response_to(event.request, 500), 40.0)
    assert sent(end) == []
    with pytest.raises(LocalProtocolError, match="over"):
        end.local_tag(event.tx)


def test_merged_request_is_answered_482() -> None:
    """8.2.2.2: the same request along another path, while the first is under way, gets 482 and no user."""
    end = endpoint()
    new_request(end, incoming("INVITE"))
    other = UDP._replace(remote=Address("198.51.100.8", 5060))
    end.receive_datagram(incoming("INVITE", via="SIP/2.0/UDP 198.51.100.8;branch=z9hG4bK2"), other, 0.1)
    assert events(end) == []
    (out,) = end.outgoing()
    assert out.data.startswith(b"SIP/2.0 482 ") and out.flow == other
    ack = incoming("ACK", via="SIP/2.0/UDP 198.51.100.8;branch=z9hG4bK2", to=header(out, "to"))
    end.receive_datagram(ack, other, 0.2)
    assert events(end) == [], "its ACK stays inside"


@pytest.mark.parametrize(
    "differs", [{"cseq": "2 OPTIONS"}, {"call_id": "c2"}, {"from_": "<sip:alice@peer.example>;tag=b"}]
)
def test_other_requests_are_not_merged(differs: dict[str, str]) -> None:
    """8.2.2.2: a retry after a challenge has another CSeq, another call another Call-ID."""
    end = endpoint()
    new_request(end, incoming())
    end.receive_datagram(incoming(via="SIP/2.0/UDP 198.51.100.7:5062;branch=z9hG4bK2", **differs), UDP, 0.1)
    assert isinstance(one(end), RequestReceived)


def test_merging_ends_with_the_transaction() -> None:
    """8.2.2.2 speaks of ongoing transactions."""
    end = endpoint()
    event = new_request(end, incoming())
    end.respond(event.tx, response_to(event.request, 200), 0.0)
    end.handle_timer(32.1)
    new_request(end, incoming(via="SIP/2.0/UDP 198.51.100.7:5062;branch=z9hG4bK2"))


def test_transactions_are_counted_by_kind() -> None:
    """What an operator watches for leaks: each kind rises with its transactions and falls to zero with their timers."""
    end = endpoint()
    invite = new_request(end, incoming("INVITE"))
    other = new_request(end, incoming(via="SIP/2.0/UDP 198.51.100.7:5062;branch=z9hG4bK2;rport", call_id="c2"))
    end.send_request(Request("OPTIONS", "sip:peer.example", other.request.headers.copy()), UDP, "192.0.2.1", 0.0)
    assert end.transactions() == {"client-invite": 0, "client-other": 1, "server-invite": 1, "server-other": 1}
    end.respond(invite.tx, response_to(invite.request, 200), 1.0)
    end.respond(other.tx, response_to(other.request, 200), 1.0)
    end.handle_timer(33.1)
    assert set(end.transactions().values()) == {0}


def test_ignored_invite_gets_no_answer_and_neither_does_its_cancel() -> None:
    """Domain 7.4a: a scanner learns nothing."""
    end = endpoint()
    event = new_request(end, incoming("INVITE"))
    end.ignore(event.tx, 0.0)
    end.handle_timer(1.0)
    end.receive_datagram(incoming("INVITE"), UDP, 1.0)
    end.receive_datagram(incoming("CANCEL", cseq="1 CANCEL"), UDP, 1.1)
    assert sent(end) == [] and events(end) == []


# ACK and CANCEL


def test_ack_to_a_2xx_reaches_the_user_each_time() -> None:
    """13.2.2.4: the ACK to a 2xx is a transaction of its own that has no response."""
    end = endpoint()
    event = new_request(end, incoming("INVITE"))
    end.respond(event.tx, response_to(event.request, 200), 0.0)
    end.outgoing()
    ack = incoming("ACK", via="SIP/2.0/UDP 198.51.100.7:5062;branch=z9hG4bKack", to="<sip:b@x>;tag=t")
    for _ in range(2):
        end.receive_datagram(ack, UDP, 0.1)
        assert isinstance(one(end), AckReceived)
    assert sent(end) == []


def test_ack_to_a_2xx_with_the_branch_of_the_invite_reaches_the_user_too() -> None:
    """RFC 6026 7.1: peers that reuse the branch are heard in Accepted."""
    end = endpoint()
    event = new_request(end, incoming("INVITE"))
    end.respond(event.tx, response_to(event.request, 200), 0.0)
    end.receive_datagram(incoming("ACK", to="<sip:b@x>;tag=t"), UDP, 0.1)
    assert isinstance(one(end), AckReceived)


def test_ack_to_a_failure_stays_inside() -> None:
    """17.2.1: it belongs to the INVITE's transaction."""
    end = endpoint()
    event = new_request(end, incoming("INVITE"))
    end.respond(event.tx, response_to(event.request, 486), 0.0)
    end.outgoing()
    end.receive_datagram(incoming("ACK"), UDP, 0.1)
    end.handle_timer(1.0)
    assert events(end) == [] and sent(end) == [], "no retransmission of the 486 after its ACK"


def test_rfc2543_peer_without_cookie_is_matched_by_its_fields() -> None:
    """17.2.3: INVITE, its retransmission, its CANCEL and its ACK, all without the magic cookie."""
    via = "SIP/2.0/UDP 198.51.100.7:5062"
    end = endpoint()
    event = new_request(end, incoming("INVITE", via=via))
    end.receive_datagram(incoming("INVITE", via=via), UDP, 0.1)
    assert events(end) == []
    end.receive_datagram(incoming("CANCEL", via=via), UDP, 0.2)
    assert isinstance(one(end), CancelReceived)
    end.respond(event.tx, response_to(event.request, 487), 0.2)
    to = header(end.outgoing()[-1], "to")
    end.receive_datagram(incoming("ACK", via=via, to="<sip:bob@edge.example>;tag=other"), UDP, 0.3)
    assert isinstance(one(end), AckReceived), "an ACK for another To tag is not ours to absorb"
    end.receive_datagram(incoming("ACK", via=via, to=to), UDP, 0.3)
    end.handle_timer(1.0)
    assert events(end) == [] and sent(end) == []


def test_cancel_is_answered_and_told_once() -> None:
    """9.2: 200 to the CANCEL, with the To tag of the INVITE's responses; the user ends the INVITE."""
    end = endpoint()
    event = new_request(end, incoming("INVITE"))
    end.respond(event.tx, response_to(event.request, 180), 0.0)
    tag = parse_message(end.outgoing()[0].data).to.tag
    end.receive_datagram(incoming("CANCEL"), UDP, 1.0)
    cancelled = one(end)
    assert isinstance(cancelled, CancelReceived) and cancelled.tx == event.tx
    (answer,) = end.outgoing()
    assert answer.data.startswith(b"SIP/2.0 200 ") and parse_message(answer.data).to.tag == tag
    end.receive_datagram(incoming("CANCEL"), UDP, 1.5)
    assert sent(end) == ["SIP/2.0 200 OK"] and events(end) == [], "a repeated CANCEL is absorbed"


@pytest.mark.parametrize("status", [200, 486])
def test_cancel_after_the_final_response_has_no_effect(status: int) -> None:
    """9.2: it is answered 200 and changes nothing."""
    end = endpoint()
    event = new_request(end, incoming("INVITE"))
    end.respond(event.tx, response_to(event.request, status), 0.0)
    end.outgoing()
    end.receive_datagram(incoming("CANCEL"), UDP, 0.1)
    assert sent(end) == ["SIP/2.0 200 OK"] and events(end) == []


def test_cancel_of_nothing_is_answered_481() -> None:
    """9.2: no transaction, 481."""
    end = endpoint()
    end.receive_datagram(incoming("CANCEL"), UDP, 0.0)
    assert sent(end) == ["SIP/2.0 481 Call/Transaction Does Not Exist"] and events(end) == []


# broken messages


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (incoming(cseq="1 INVITE"), 400),
        (incoming(uri="http://example.com"), 416),
        (incoming().replace(b"SIP/2.0\r\nVia", b"SIP/7.0\r\nVia"), 505),
        (incoming("INVITE").replace(b"Max-Forwards: 70", b"Max-Forwards: 0"), 483),
        (incoming().replace(b"Call-ID: c1", b"Call-ID: c1\r\nCall-ID: c2"), 400),
    ],
    ids=["cseq", "scheme", "version", "hops", "two call-ids"],
)
def test_broken_request_gets_what_it_is_owed(data: bytes, status: int) -> None:
    """8.2, 21.4: answered without a transaction, told for the log, the same To tag for each copy (8.2.7)."""
    end = endpoint()
    for _ in range(2):
        end.receive_datagram(data, UDP, 0.0)
    first, second = end.outgoing()
    assert first == second
    assert first.data.startswith(f"SIP/2.0 {status} ".encode()) and first.flow == UDP
    told = events(end)
    assert [e.status for e in told if isinstance(e, BadMessage)] == [status, status] and len(told) == 2
    assert len(end) == 0
    assert parse_message(first.data).to.tag


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00",
        b"hello there, this is no SIP",
        incoming().replace(b"Via:", b"X-Via:"),
        incoming("ACK", cseq="1 INVITE"),
        incoming("ACK", uri="http://x"),
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKnone\r\nFrom: <sip:a@x>;tag=1\r\n"
        b"To: <sip:b@x>;tag=2\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
        b"SIP/2.0 999 Odd\r\n\r\n",
    ],
    ids=["tls hello", "prose", "no via", "ack cseq", "ack uri", "stray response", "status"],
)
def test_what_cannot_be_answered_is_dropped_and_told(data: bytes) -> None:
    """18.1.2, 17.2.1: nothing is sent for rubbish, ACKs and responses; the log hears of them."""
    end = endpoint()
    end.receive_datagram(data, UDP, 0.0)
    told = one(end)
    assert isinstance(told, BadMessage) and told.status is None and told.data == data
    assert sent(end) == []


@pytest.mark.parametrize("data", [b"", b"\r\n", b"\r\n\r\n", b"\0\0\0\0", b"\0"])
def test_keep_alive_datagrams_mean_nothing(data: bytes) -> None:
    """RFC 5626 and habit: CRLF and zero bytes keep NAT bindings open."""
    end = endpoint()
    end.receive_datagram(data, UDP, 0.0)
    assert sent(end) == [] and events(end) == []


def test_random_bytes_never_raise() -> None:
    """Whatever comes, the endpoint answers or tells; each cut of a request and each changed byte."""
    whole = incoming("INVITE", more='Contact: <sip:a@1.2.3.4;x="y">\r\n')
    end = endpoint()
    for i in range(len(whole)):
        end.receive_datagram(whole[:i], UDP, 0.0)
        end.receive_datagram(whole[:i] + b"\0" + whole[i + 1 :], UDP, 0.0)
        end.receive_datagram(whole[:i] + b"\xff" + whole[i + 1 :], UDP, 0.0)
        end.receive_datagram(whole[:i] + b"\r\n" + whole[i:], UDP, 0.0)
        end.receive_datagram(whole[:i] + b"<" + whole[i:], UDP, 0.0)
    end.outgoing()
    events(end)


# our own requests


def ours(method: str = "OPTIONS") -> Request:
    return Request(
        method,
        "sip:bob@198.51.100.7",
        Headers(
            [
                ("Max-Forwards", "70"),
                ("From", "<sip:edge@192.0.2.1>;tag=e"),
                ("To", "<sip:bob@198.51.100.7>"),
                ("Call-ID", "ours"),
                ("CSeq", f"1 {method}"),
            ]
        ),
    )


def reply(out: Outgoing, status: int, to_tag: str = "b") -> bytes:
    request = parse_message(out.data)
    assert isinstance(request, Request)
    return response_to(request, status, None, to_tag).to_bytes()


def test_request_gets_a_via_with_a_fresh_branch_and_rport() -> None:
    """8.1.1.7, RFC 3581: cookie and unique branch, rport, the advertised address; a resent request has one Via."""
    end = endpoint()
    request = ours()
    end.send_request(request, UDP, "203.0.113.1:5060", 0.0)
    end.send_request(request, UDP._replace(transport="tls", connection=4), "edge.example:5061", 0.0)
    vias = [parse_message(out.data).headers.get_all("via") for out in end.outgoing()]
    assert vias == [
        ["SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bKtoken2;rport"],
        ["SIP/2.0/TLS edge.example:5061;branch=z9hG4bKtoken3;rport"],
    ]


def test_response_reaches_its_request() -> None:
    """17.1.3: by branch and method."""
    end = endpoint()
    tx = end.send_request(ours(), UDP, "192.0.2.1:5060", 0.0)
    (out,) = end.outgoing()
    assert out.tx == tx
    end.receive_datagram(reply(out, 200), UDP, 0.1)
    event = one(end)
    assert isinstance(event, ResponseReceived) and event.tx == tx and event.response.status == 200
    end.receive_datagram(reply(out, 200), UDP, 0.2)
    assert events(end) == [], "a repeated final response is absorbed by Timer K"


def test_response_with_two_vias_is_dropped() -> None:
    """8.1.3.3: it was meant for somebody else."""
    end = endpoint()
    end.send_request(ours(), UDP, "192.0.2.1:5060", 0.0)
    data = reply(end.outgoing()[0], 200).replace(b"\r\nFrom", b"\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKx\r\nFrom")
    end.receive_datagram(data, UDP, 0.1)
    assert isinstance(one(end), BadMessage)


def test_each_2xx_of_a_forked_or_repeating_peer_is_told() -> None:
    """13.2.2.4: each retransmitted 2xx wants its ACK; another To tag is another dialog."""
    end = endpoint()
    end.send_request(ours("INVITE"), UDP, "192.0.2.1:5060", 0.0)
    (out,) = end.outgoing()
    for tag in ("b1", "b1", "b2"):
        end.receive_datagram(reply(out, 200, tag), UDP, 0.1)
    told = events(end)
    assert [e.response.to.tag for e in told if isinstance(e, ResponseReceived)] == ["b1", "b1", "b2"]


def test_ack_to_a_failure_follows_the_invite() -> None:
    """17.1.1.3: the INVITE's branch, Request-URI and Route, the To of the response."""
    end = endpoint()
    request = ours("INVITE")
    request.headers.add("Route", "<sip:proxy.example;lr>")
    end.send_request(request, UDP, "192.0.2.1:5060", 0.0)
    (invite,) = end.outgoing()
    end.receive_datagram(reply(invite, 486, "busy"), UDP, 0.1)
    (ack,) = end.outgoing()
    assert ack.data.startswith(b"ACK sip:bob@198.51.100.7 SIP/2.0\r\n")
    assert header(ack, "via") == header(invite, "via") and header(ack, "route") == "<sip:proxy.example;lr>"
    assert header(ack, "to") == "<sip:bob@198.51.100.7>;tag=busy" and header(ack, "cseq") == "1 ACK"


def test_ack_to_a_2xx_has_its_own_branch_and_no_transaction() -> None:
    """13.2.2.4: end to end, sent again with each 2xx, never retransmitted by a timer."""
    end = endpoint()
    end.send_ack(ours("ACK"), UDP, "192.0.2.1:5060", 0.0)
    end.send_ack(ours("ACK"), UDP, "192.0.2.1:5060", 0.5)
    first, second = end.outgoing()
    assert header(first, "via") != header(second, "via")
    assert first.tx is None and end.next_deadline() is None


@pytest.mark.parametrize("method", ["ACK", "CANCEL"])
def test_ack_and_cancel_are_no_requests_to_send(method: str) -> None:
    """9.1, 17.1: neither opens a transaction for its user."""
    with pytest.raises(LocalProtocolError, match=method):
        endpoint().send_request(ours(method), UDP, "192.0.2.1:5060", 0.0)


def test_cancel_has_the_via_of_its_invite() -> None:
    """9.1: same top Via, Request-URI, Call-ID, From, To and CSeq number; its own response is not told."""
    end = endpoint()
    tx = end.send_request(ours("INVITE"), UDP, "192.0.2.1:5060", 0.0)
    (invite,) = end.outgoing()
    end.receive_datagram(reply(invite, 180), UDP, 0.1)
    end.cancel(tx, 0.2, "SIP;cause=200")
    end.cancel(tx, 0.3)
    (cancel,) = end.outgoing()
    assert header(cancel, "reason") == "SIP;cause=200", "RFC 3326: a phone rung in vain learns that another answered"
    for key in ("via", "call-id", "from", "to"):
        assert header(cancel, key) == header(invite, key)
    assert header(cancel, "cseq") == "1 CANCEL"
    events(end)
    end.receive_datagram(reply(cancel, 200), UDP, 0.3)
    assert events(end) == []
    end.receive_datagram(reply(invite, 487), UDP, 0.4)
    assert [e.response.status for e in events(end) if isinstance(e, ResponseReceived)] == [487]
    assert sent(end) == ["ACK sip:bob@198.51.100.7 SIP/2.0"]


def test_failed_send_ends_a_client_and_is_told_of_a_server() -> None:
    """17.1.4, RFC 6026 8.8: a client transaction fails, a server transaction stays for another answer."""
    end = endpoint()
    tx = end.send_request(ours(), UDP, "192.0.2.1:5060", 0.0)
    end.send_failed(tx, 0.0)
    assert events(end) == [TransportFailed(tx)] and len(end) == 0
    event = new_request(end, incoming("INVITE"))
    end.respond(event.tx, response_to(event.request, 180), 0.0)
    end.send_failed(event.tx, 0.0)
    assert events(end) == [TransportFailed(event.tx)] and len(end) == 1


# streams


def test_stream_is_cut_into_messages_and_pings_are_answered() -> None:
    """18.3, RFC 5626 4.4.1: messages in any pieces; CRLFCRLF between them is answered CRLF."""
    end = endpoint(TCP)
    data = incoming() + b"\r\n\r\n" + incoming("INVITE", via="SIP/2.0/TCP x;branch=z9hG4bK2")
    for i in range(0, len(data), 7):
        assert end.receive_stream(data[i : i + 7], TCP, 0.0)
    assert [e.request.method for e in events(end) if isinstance(e, RequestReceived)] == ["OPTIONS", "INVITE"]
    assert [out.data for out in end.outgoing()] == [b"\r\n"]


def test_pong_is_told() -> None:
    """RFC 5626 4.4.1: on a connection of ours a lone CRLF answers our ping."""
    end = endpoint(TCP, initiator=True)
    end.receive_stream(b"\r\n", TCP, 0.0)
    assert events(end) == [PongReceived(TCP)]


def test_stream_that_lost_its_framing_is_to_be_closed() -> None:
    """Domain 7.12: no or several Content-Length is a smuggler's stream; what was whole before is still heard."""
    end = endpoint(TCP)
    bad = incoming().replace(b"Content-Length: 0", b"Content-Length: 0\r\nContent-Length: 5")
    assert not end.receive_stream(incoming() + bad, TCP, 0.0)
    told = events(end)
    assert [type(e) for e in told] == [RequestReceived, BadMessage]
    assert not end.receive_stream(incoming(), TCP, 0.0), "and stays lost"


def test_lost_connection_fails_our_requests_and_is_told() -> None:
    """17.1.4: the requests that we sent over it fail, others do not; then FlowClosed."""
    end = endpoint(TCP, initiator=True)
    other = TCP._replace(connection=9)
    end.connection_made(other, True)
    txs = [end.send_request(ours(m), TCP, "192.0.2.1:5060", 0.0) for m in ("OPTIONS", "INVITE")]
    end.send_request(ours(), other, "192.0.2.1:5060", 0.0)
    end.connection_lost(TCP, 1.0)
    assert events(end) == [TransportFailed(txs[0]), TransportFailed(txs[1]), FlowClosed(TCP)]
    assert len(end) == 1


def test_trace_sees_each_message_once_and_whole() -> None:
    """The trace of a stream is made of messages, not of pieces, and holds what could not be read."""
    end = endpoint(TCP)
    seen: list[bytes] = []
    end.trace = lambda data, flow, now: seen.append(data)
    data = incoming()
    end.receive_stream(data[:50], TCP, 0.0)
    end.receive_stream(data[50:] + b"\r\n\r\n", TCP, 0.0)
    end.receive_datagram(b"rubbish", UDP, 0.0)
    assert seen == [data, b"rubbish"]
