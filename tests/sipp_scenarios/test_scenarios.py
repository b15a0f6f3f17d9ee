"""Behaviour on the wire: SIPp on both sides of the running edge, each call checked message by message.

The carrier (127.0.0.20) calls seats that are registered by SIPp (127.0.0.31); after every test nothing may be left in
the edge (`Edge.assert_at_rest`).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from peers.messages import Seen, Trace
from peers.process import poll
from peers.raw import Raw
from peers.world import (
    GUESSER_ADDRESS,
    PHONE_ADDRESS,
    SEATS,
    SOMEBODY,
    STATIC_ADDRESS,
    STRANGER_ADDRESS,
    UNASSIGNED,
    World,
    assert_nothing_crossed,
    password,
)

pytestmark = pytest.mark.sipp


def call(world: World, caller: str, callee: str, transport: str = "udp", **values: object) -> tuple[Trace, Trace]:
    """The carrier calls a seat, both with these scenarios; what each saw."""
    answering = world.sipp_phone("alice", callee, transport, **values)
    calling = world.carrier_calls(caller, SEATS["alice"][1], **values)
    return calling.wait(), answering.wait()


# -- one call, both ways ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_caller_hangs_up(world: World, transport: str) -> None:
    """A basic call: ringing, answer, ACK and BYE go through, and each side has a dialog of its own."""
    caller, called = call(world, "uac_basic", "uas_answer", transport)
    assert [m.status for m in caller.responses(method="INVITE")] == [100, 180, 200]
    assert len(called.requests("ACK")) == 1
    assert len(called.requests("BYE")) == 1
    assert caller.one("INVITE").header("Call-ID") != called.one("INVITE").header("Call-ID")
    assert_nothing_crossed(caller, called)


def test_called_hangs_up(world: World) -> None:
    """The BYE of the called side reaches the caller."""
    caller, called = call(world, "uac_until_bye", "uas_bye")
    assert len(caller.requests("BYE", "in")) == 1
    assert_nothing_crossed(caller, called)


def test_called_hangs_up_at_once(world: World) -> None:
    """BYE in the moment of the ACK: the caller gets the answer, and BYE once it has sent its ACK (RFC 3261 section 15);
    the call counts as answered and ended by the called."""
    mark = world.edge.mark
    calling, called = call(world, "uac_until_bye", "uas_hangs_up_at_once")
    assert calling.responses(method="INVITE")[-1].status == 200
    assert [m.method for m in calling if not m.is_response and m.method != "INVITE"] == ["ACK", "BYE"]
    assert [m.status for m in called.responses(method="BYE")] == [200]
    assert_nothing_crossed(calling, called)
    poll(lambda: world.edge.events("call.finished", mark), "the record is written")
    (record,) = world.edge.events("call.finished", mark)
    assert (record["outcome"], record["released_by"]) == ("answered", "b")


def test_cancel_while_ringing(world: World) -> None:
    """CANCEL: 200 for it, 487 for the INVITE, and the phone stops ringing (RFC 3261 section 9)."""
    caller, called = call(world, "uac_cancel_after_180", "uas_ringing_forever")
    assert caller.responses(487, "INVITE")
    assert len(called.requests("CANCEL", "in")) == 1
    assert_nothing_crossed(caller, called)


@pytest.mark.parametrize("status", [486, 480, 488])
def test_phone_refuses(world: World, status: int) -> None:
    """What the only phone of a seat answers is what the caller hears, and the phone gets its ACK."""
    caller, called = call(world, "uac_refused", "uas_ring_and_reject", status=status)
    assert caller.responses(status, "INVITE")
    assert len(called.requests("ACK")) == 1
    assert_nothing_crossed(caller, called)


def test_caller_holds_and_resumes(world: World) -> None:
    """re-INVITEs cross with the direction of the media, and their SDP versions rise (RFC 3264 section 8)."""
    caller, called = call(world, "uac_reinvite_hold", "uas_hold")
    offers = called.requests("INVITE", "in")
    assert len(offers) == 3
    assert "a=sendonly" in offers[1].body
    assert "a=sendonly" not in offers[2].body
    versions = [int(_line(offer.body, "o=").split()[2]) for offer in offers]
    assert versions == sorted(set(versions))
    assert_nothing_crossed(caller, called)


def test_called_sends_a_reinvite(world: World) -> None:
    """A re-INVITE of the called side reaches the caller and is answered."""
    caller, called = call(world, "uac_answers_reinvite", "uas_reinvite")
    assert len(called.requests("INVITE")) == 2
    assert_nothing_crossed(caller, called)


def test_late_offer(world: World) -> None:
    """INVITE without SDP: the called side's offer comes in the answer, the caller's answer goes out with the ACK."""
    caller, called = call(world, "uac_late_offer", "uas_late_offer")
    assert called.one("INVITE").body == ""
    assert "m=audio" in called.one("ACK").body
    assert "m=audio" in caller.responses(200, "INVITE")[0].body
    assert_nothing_crossed(caller, called)


# -- the network loses, repeats and crosses ----------------------------------------------------------------------------


def test_repeated_invite(world: World) -> None:
    """Copies of an INVITE are one call (RFC 3261 section 17.2.1)."""
    answering = world.sipp_phone("alice", "uas_answer")
    with Raw(world.edge.server(), address=STATIC_ADDRESS) as carrier:
        invite = _invite(carrier.port, SEATS["alice"][1], body=_SDP)
        for _ in range(3):
            carrier.send(invite)
        answer = carrier.final()
        carrier.send(_in_dialog("ACK", answer, 1))
        carrier.send(_in_dialog("BYE", answer, 2))
        assert carrier.status() == 200
    called = answering.wait()
    assert len({m.header("Call-ID") for m in called.requests("INVITE", "in")}) == 1


def test_answer_is_repeated_until_its_ack(world: World) -> None:
    """Without an ACK the 200 comes again (RFC 3261 section 13.3.1.4), and the call goes on."""
    answering = world.sipp_phone("alice", "uas_answer")
    with Raw(world.edge.server(), address=STATIC_ADDRESS) as carrier:
        carrier.send(_invite(carrier.port, SEATS["alice"][1], body=_SDP))
        first, second = carrier.final(), carrier.final()
        assert first == second
        carrier.send(_in_dialog("ACK", first, 1))
        assert carrier.final(1.0) is None
        carrier.send(_in_dialog("BYE", first, 2))
        assert carrier.status() == 200
    answering.wait()


def test_repeated_answer_is_acknowledged_again(world: World) -> None:
    """Each copy of the called side's 200 gets an ACK (RFC 3261 section 13.2.2.4)."""
    _, called = call(world, "uac_basic", "uas_answer_twice")
    assert len(called.requests("ACK", "in")) >= 2


def test_bye_before_ack(world: World) -> None:
    """A caller that hangs up before its ACK ends the call (RFC 3261 section 15)."""
    _, called = call(world, "uac_bye_before_ack", "uas_answer")
    assert len(called.requests("BYE", "in")) == 1


def test_cancel_crosses_the_answer(world: World) -> None:
    """A phone that answers at the moment of the CANCEL gets ACK and BYE; the caller gets 487."""
    caller, called = call(world, "uac_cancel_after_180", "uas_crossing_cancel")
    assert caller.responses(487, "INVITE")
    assert called.requests("ACK", "in")
    assert called.requests("BYE", "in")


# -- what may not cross ------------------------------------------------------------------------------------------------


def test_nothing_of_the_caller_reaches_the_called(world: World) -> None:
    """Unknown headers, other bodies' types, user agents, display of hosts: none of it crosses to the other leg."""
    headers = [
        "X-Secret: cellar-door",
        "P-Charging-Vector: icid-value=cellar-icid",
        "Call-Info: <http://cellar.example/photo>",
        "Geolocation: <cid:cellar@static.example>",
        "Server: cellar-server",
    ]
    caller, called = call(world, "uac_basic", "uas_answer", headers=headers)
    assert_nothing_crossed(
        caller, called, "cellar", "X-Secret", "static.example", STATIC_ADDRESS, "User-Agent: SIPp", "o=sipp"
    )
    assert PHONE_ADDRESS not in caller.received_text()
    assert "o=sipp" not in caller.received_text()


# -- calls of phones ---------------------------------------------------------------------------------------------------


def phone_calls(world: World, scenario: str, called: str, **values: object) -> Trace:
    """A SIPp phone with bob's account calls with digest; what it saw."""
    values = {
        "username": "bobby",
        "password": password("bobby"),
        "caller": "bobby",
        "address": PHONE_ADDRESS,
        **values,
    }
    return world.peers.sipp(scenario, remote=world.edge.server(), called=called, **values).wait()


def test_phone_calls_carrier_with_digest(world: World) -> None:
    """A phone is challenged, and its call goes out without its credentials."""
    carrier = world.carrier_answers("uas_answer")
    caller = phone_calls(world, "uac_phone", SOMEBODY, challenge=401)
    called = carrier.wait()
    assert_nothing_crossed(caller, called, "Authorization: Digest", PHONE_ADDRESS)


def test_carrier_rejects(world: World) -> None:
    """A busy number is busy for the phone; no other carrier is tried."""
    carrier = world.carrier_answers("uas_reject", status=486, reason="Busy Here")
    phone_calls(world, "uac_phone_refused", SOMEBODY, challenge=401, status=486)
    carrier.wait()


def test_carrier_failure_goes_to_the_next(world: World) -> None:
    """A carrier that answers 503 is left for the next, which answers."""
    first = world.carrier_answers("uas_reject", status=503, reason="Service Unavailable")
    second = world.network_answers("uas_answer")
    phone_calls(world, "uac_phone", SOMEBODY, challenge=401)
    first.wait()
    second.wait()


def test_wrong_password(world: World) -> None:
    """A wrong password gets no call."""
    seen = phone_calls(
        world, "uac_phone_refused", SOMEBODY, challenge=401, status=401, password="wrong", address=GUESSER_ADDRESS
    )
    assert not seen.responses(200)


def test_unknown_user(world: World) -> None:
    """An unknown user is answered as one with a wrong password: nobody learns which users exist."""
    phone_calls(
        world,
        "uac_phone_refused",
        SOMEBODY,
        challenge=401,
        status=401,
        username="nobody",
        password="x",
        caller="nobody",
        address=GUESSER_ADDRESS,
    )


# -- registrations -----------------------------------------------------------------------------------------------------


def test_registration_is_added_and_removed(world: World) -> None:
    """A binding is there after the 200, several stand side by side, and `*` with expires 0 removes all of them."""
    world.register("erika", contact="<sip:one@127.0.0.31:5071>")
    world.register("erika", contact="<sip:two@127.0.0.31:5072>")
    assert sorted(world.edge.registered("erika")) == ["sip:one@127.0.0.31:5071", "sip:two@127.0.0.31:5072"]
    world.register("erika", contact="*", expires=0)
    assert world.edge.registered("erika") == []


def test_registration_too_brief(world: World) -> None:
    """Less than the shortest time is answered 423 with Min-Expires (RFC 3261 section 10.3)."""
    seen = world.register("erika", expires=5, status=423)
    assert int(seen.responses(423)[0].header("Min-Expires")) >= 10


def test_registration_with_wrong_password(world: World) -> None:
    """A wrong password registers nothing."""
    world.register("erika", password="wrong", status=401, address=GUESSER_ADDRESS)
    assert world.edge.registered("erika") == []


# -- bad input: the answer of the RFC, and no harm to another call -----------------------------------------------------


@pytest.fixture
def bystander(world: World) -> Iterator[World]:
    """The world with a call up that must outlive whatever the test does; `uac_basic` fails if it is touched."""
    answering = world.sipp_phone("alice", "uas_answer")
    calling = world.carrier_calls("uac_basic", SEATS["alice"][1], talk_ms=1500)
    calling.wait_for(method="ACK", direction="out")
    yield world
    calling.wait()
    answering.wait()


@pytest.mark.parametrize(
    "sdp",
    ["this is no session description", "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nt=0 0\nm=audio none RTP/AVP 8"],
)
def test_unreadable_sdp(bystander: World, sdp: str) -> None:
    """SDP that cannot be read gets 400 or 488, and rings nowhere."""
    seen = phone_calls(bystander, "uac_phone_any_refusal", SEATS["carol"][0], challenge=401, sdp=sdp)
    final = [m.status for m in seen.responses(method="INVITE") if m.status >= 300][-1]
    assert final in (400, 488)


def test_unknown_numbers(bystander: World) -> None:
    """A number that nobody has is 404 for the carrier."""
    refused = bystander.peers.sipp(
        "uac_refused", remote=bystander.edge.server(), address=STATIC_ADDRESS, called=UNASSIGNED, status=404
    )
    refused.wait()


def test_unknown_source(bystander: World) -> None:
    """A stranger's call without credentials is challenged or refused, and never routed."""
    with Raw(bystander.edge.server(), address=STRANGER_ADDRESS) as stranger:
        stranger.send(_invite(stranger.port, SEATS["alice"][1]))
        assert stranger.status() in (401, 403, 407)


def test_body_shorter_than_said(bystander: World) -> None:
    """A datagram that ends before its Content-Length says gets 400 (RFC 3261 section 18.3)."""
    with Raw(bystander.edge.server(), address=STATIC_ADDRESS) as carrier:
        carrier.send(_invite(carrier.port, SEATS["alice"][1], "Content-Length: 500", body="v=0\r\n"))
        assert carrier.status() == 400


def test_truncated_header(bystander: World) -> None:
    """A datagram cut in its header is dropped or answered 400; nothing else happens."""
    with Raw(bystander.edge.server(), address=STATIC_ADDRESS) as carrier:
        carrier.send(_invite(carrier.port, SEATS["alice"][1])[:150])
        assert carrier.status(1) in (0, 400)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_oversized_message(bystander: World, transport: str) -> None:
    """A message over the limit is refused (400, 413 or 513) or its connection closed; the edge lives on."""
    with Raw(bystander.edge.server(), transport, STATIC_ADDRESS) as carrier:
        padding = "X-Padding: " + "x" * (60_000 if transport == "udp" else 200_000)
        carrier.send(_invite(carrier.port, UNASSIGNED, padding, transport=transport))
        assert carrier.status(2) in (0, 400, 404, 413, 513)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    "junk",
    [
        b"\x00" * 400,
        b"\xff\xfe junk \r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n",
        b"INVITE\r\n\r\n",
        b"\r\n\r\n\r\n",
    ],
    ids=["zeros", "bytes", "http", "half-a-line", "keep-alives"],
)
def test_junk(bystander: World, transport: str, junk: bytes) -> None:
    """What is no SIP harms nobody."""
    with Raw(bystander.edge.server(), transport, STRANGER_ADDRESS) as stranger:
        stranger.send(junk)
        stranger.receive(0.3)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("Max-Forwards: 70", "Max-Forwards: 0"), {483}),
        (("CSeq: 1 INVITE", "CSeq: 1 BYE"), {400}),
        (("Call-ID: ", "X-Call-ID: "), {400, 0}),
        (("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"), {505}),
        (("Content-Type: application/sdp", "Content-Type: text/html"), {415}),
        (("Max-Forwards: 70", "Max-Forwards: 70\r\nRequire: nothing-that-exists"), {420}),
        (("INVITE sip:", "INVITE gopher:"), {416}),
    ],
    ids=[
        "no-hops-left",
        "cseq-mismatch",
        "no-call-id",
        "other-version",
        "other-body",
        "unknown-extension",
        "other-scheme",
    ],
)
def test_wrong_requests(bystander: World, change: tuple[str, str], expected: set[int]) -> None:
    """Requests that are SIP and yet wrong get the status that RFC 3261 section 8.2 or 16.3 names."""
    with Raw(bystander.edge.server(), address=STATIC_ADDRESS) as carrier:
        message = _invite(carrier.port, SEATS["alice"][1], body=_SDP)
        assert change[0] in message
        carrier.send(message.replace(*change))
        assert carrier.status() in expected


def test_requests_outside_any_dialog(bystander: World) -> None:
    """A BYE for no call gets 481, an unknown method 405 or 501 with Allow, OPTIONS 200."""
    with Raw(bystander.edge.server(), address=STATIC_ADDRESS) as carrier:
        bye = _invite(carrier.port, SEATS["alice"][1]).replace("INVITE", "BYE").replace(">\r\nCall", ">;tag=z\r\nCall")
        carrier.send(bye)
        assert carrier.status() == 481
        carrier.send(_invite(carrier.port, SEATS["alice"][1]).replace("INVITE", "JUMP").replace("z9hG4bK", "z9hG4bKj"))
        assert carrier.status() in (405, 501)
        carrier.send(_invite(carrier.port, "").replace("INVITE", "OPTIONS").replace("z9hG4bK", "z9hG4bKo"))
        assert carrier.status() == 200


_SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.20\r\ns=-\r\nc=IN IP4 127.0.0.20\r\nt=0 0\r\nm=audio 9 RTP/AVP 8\r\n"
    "a=rtpmap:8 PCMA/8000\r\n"
)


def _invite(port: int, called: str, *headers: str, body: str = "", transport: str = "udp") -> str:
    lines = [
        f"INVITE sip:{called + '@' if called else ''}edge.example SIP/2.0",
        f"Via: SIP/2.0/{transport.upper()} {STATIC_ADDRESS}:{port};branch=z9hG4bK-raw-{port};rport",
        f"From: <sip:{SOMEBODY}@static.example>;tag=raw{port}",
        f"To: <sip:{called + '@' if called else ''}edge.example>",
        f"Call-ID: raw-{port}@static.example",
        "CSeq: 1 INVITE",
        f"Contact: <sip:raw@{STATIC_ADDRESS}:{port}>",
        "Max-Forwards: 70",
        *headers,
    ]
    if body:
        lines.append("Content-Type: application/sdp")
    if not any(header.startswith("Content-Length") for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines) + "\r\n\r\n" + body


def _in_dialog(method: str, answer: Seen | None, cseq: int) -> str:
    """A request in the dialog that `answer` (a 2xx) made, or its ACK."""
    assert answer is not None, "no answer came"
    via = answer.header("Via").partition("branch=")[0] + f"branch=z9hG4bK-{method}-{cseq};rport"
    return "\r\n".join(
        [
            f"{method} {answer.header('Contact').partition('<')[2].partition('>')[0]} SIP/2.0",
            f"Via: {via}",
            f"From: {answer.header('From')}",
            f"To: {answer.header('To')}",
            f"Call-ID: {answer.header('Call-ID')}",
            f"CSeq: {cseq} {method}",
            "Max-Forwards: 70",
            "Content-Length: 0",
            "",
            "",
        ]
    )


def _line(body: str, start: str) -> str:
    return next(line for line in body.splitlines() if line.startswith(start))
