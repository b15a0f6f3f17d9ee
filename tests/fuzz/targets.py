"""What is fuzzed: functions of bytes that a stranger may send. They return on any input, or raise where there is a bug.

`python -m tests.fuzz TARGET` searches with atheris; `test_corpus.py` replays what was found so far.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from config.model import Account, Carrier, Route, RouteKind, Rows, Seat
from config.model import NumberRow as Number
from config.snapshot import Snapshot
from dialplan.engine import decide
from dialplan.model import Source, SourceKind
from edge.b2bua.refer import Replaces, read_refer
from edge.cdr.record import RefusedCall, to_json
from edge.inbound.attempt import read_attempt
from edge.observability.ladder import render
from edge.observability.trace import Tap
from edge.registrar.registrar import Registrar
from edge.sip.auth.digest import Credentials, answer, check, find_credentials, matches_uri, read_challenges
from edge.sip.build import response_to
from edge.sip.causes import parse_reason
from edge.sip.endpoint import Endpoint
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Address, Flow
from edge.sip.framing import StreamFramer
from edge.sip.message import Message, Request, Response
from edge.sip.parse import MAX_MESSAGE, parse_message
from edge.sip.validate import validate_request, validate_response
from edge.transport.guard import Guard
from media.fax import udptl
from media.relay import ng_messages
from media.relay.port import RelayError
from media.relay.rtpengine import _is_on_loopback
from media.relay.rtpengine_session import _sdp, _statistics
from media.relay.rtpproxy_commands import read_address, read_counters, read_media
from media.sdp import codecs, lines, passing, rewrite, t38
from media.sdp.errors import UnusableSdp

UDP = Flow("udp", Address("192.0.2.1", 5060), Address("198.51.100.7", 5060))
NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
SEAT = Seat("a.mueller", "K1", extension="201", primary_number="+4922838600")
SNAPSHOT = Snapshot(
    Rows(
        carriers=(Carrier("c", domain="carrier.example", username="u"),),
        accounts=(Account("K1", area_code="228", emergency_number="+4922838600"),),
        seats=(SEAT,),
        numbers=(Number("+4922838600", 0, "K1", "c", route=Route(RouteKind.SEAT, "a.mueller")),),
    ),
    1,
)
SOURCES = (Source(SourceKind.SEAT, "a.mueller", "K1"), Source(SourceKind.CARRIER, "c"))


class _Ids:
    def __init__(self) -> None:
        self._n = 0

    def token(self) -> str:
        self._n += 1
        return f"token{self._n}"

    def branch(self) -> str:
        return "z9hG4bK" + self.token()


def message(data: bytes) -> None:
    """One SIP message, and everything that is read from it on the way of a request through the edge."""
    try:
        found = parse_message(data)
    except RemoteProtocolError as error:
        if error.request is not None and error.status is not None:
            response_to(error.request, error.status, to_tag="t").to_bytes()
        return
    again = parse_message(found.to_bytes())
    assert _same(again, found), "a message does not survive being written"
    _views(found)
    try:
        validate_request(found) if isinstance(found, Request) else validate_response(found)
    except RemoteProtocolError:
        return
    # from here on the layers above rely on what was checked
    _ = found.call_id, found.cseq, found.top_via, found.from_, found.to
    if isinstance(found, Request):
        answered = parse_message(response_to(found, 486, to_tag="t").to_bytes())
        assert isinstance(answered, Response)
        for source in SOURCES:
            try:
                attempt = read_attempt(found, source, 0.5)
            except RemoteProtocolError:
                continue
            decision = decide(attempt, SNAPSHOT, NOW)
            to_json(RefusedCall(id="x", at=NOW, direction="inbound", reason="x", caller=attempt.caller.from_user,
                                number=attempt.called[0].user, caller_withheld=False, sip_status=404,
                                detail=str(decision)))  # fmt: skip
        with suppress(RemoteProtocolError):
            read_refer(found)
        if found.method == "REGISTER":
            Registrar(lambda: NOW).handle(found, UDP, SEAT, 0.0)[0].to_bytes()


def _views(found: Message) -> None:
    for view in ("call_id", "cseq", "top_via", "from_", "to", "contacts", "content_type"):
        with suppress(RemoteProtocolError):
            getattr(found, view)
    for key in ("expires", "max-forwards", "min-se", "session-expires", "rseq"):
        with suppress(RemoteProtocolError):
            found.integer(key)
    for key in ("route", "record-route", "diversion", "history-info", "p-asserted-identity", "path", "service-route"):
        with suppress(RemoteProtocolError):
            [str(address) for address in found.addresses(key)]
    for value in found.headers.get_all("replaces"):
        with suppress(RemoteProtocolError):
            Replaces.parse(value)
    parse_reason(found.headers.get("reason"))


def stream(data: bytes) -> None:
    """Bytes of a connection: cut anywhere they are the same messages, and each is the whole of its frame."""
    whole = _framed([data])
    seed = data[0] if data else 0
    cuts = random.Random(seed)
    pieces, at = [], 0
    while at < len(data):
        step = cuts.randint(1, 40)
        pieces.append(data[at : at + step])
        at += step
    assert _framed(pieces) == whole, "the cut of a stream changes what is in it"
    for frame in whole[0]:
        if not isinstance(frame, bytes):
            continue
        assert len(frame) <= MAX_MESSAGE
        try:
            found = parse_message(frame)
        except RemoteProtocolError:
            continue
        assert frame.endswith(found.body), "framing and parsing see different bodies"
        end = frame.lstrip(b"\r\n").index(b"\r\n\r\n") + 4
        assert len(frame.lstrip(b"\r\n")) - end == len(found.body), "framing and parsing see different lengths"


def _framed(pieces: list[bytes]) -> tuple[list[object], bool]:
    framer = StreamFramer()
    out: list[object] = []
    try:
        for piece in pieces:
            out += framer.feed(piece)
    except RemoteProtocolError:
        return out, True
    return out, framer.fault is not None


def endpoint(data: bytes) -> None:
    """Datagrams (parted by four zero bytes) through guard and transactions, and all their timers."""
    end, guard = Endpoint(_Ids()), Guard()
    now = 0.0
    for datagram in data.split(b"\0\0\0\0"):
        now += 0.1
        guard.admit(datagram, "198.51.100.7", now)
        end.receive_datagram(datagram, UDP, now)
        while (event := end.next_event()) is not None:
            tx, request = getattr(event, "tx", None), getattr(event, "request", None)
            if tx is not None and request is not None and type(event).__name__ == "RequestReceived":
                end.respond(tx, response_to(request, 405), now)
        for out, _, _ in end.outgoing():
            try:
                assert len(out) <= 4 or parse_message(out)
            except RemoteProtocolError as error:
                # an answer has all the Vias of its request, also where that was refused for them
                assert "Via" in error.detail or "header fields" in error.detail or "bytes" in error.detail, error
    for _ in range(200):
        deadline = end.next_deadline()
        if deadline is None:
            break
        now = max(now, deadline)
        end.handle_timer(now)
        end.outgoing()
    assert not sum(end.transactions().values()), "a transaction stays for ever"


def trace(data: bytes) -> None:
    """What operators are shown of a message: no control character but the ends of lines."""
    tap = Tap(1 << 20)
    tap.message("in", data, UDP, 0.0)
    try:
        found = parse_message(data)
        key = found.call_id
    except RemoteProtocolError:
        return
    tap.link("call", key)
    kept = tap.find("call")
    if kept is not None:
        text = render(kept, 0.0, True)
        bad = [c for c in text if (ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0]
        assert not bad, f"control characters in a ladder: {bad[:5]!r}"


def sdp(data: bytes) -> None:
    """A session description and what is done with it before and after the relay."""
    try:
        found = lines.parse(data)
    except UnusableSdp:
        return
    for medium in found.media:
        with suppress(UnusableSdp):
            rewrite.endpoint(found, medium)
        with suppress(UnusableSdp):
            codecs.codecs(medium)
        if t38.is_t38(medium):
            t38.read(medium)
    with suppress(UnusableSdp):
        rewrite.require_media(found)
        text = rewrite.rewrite(lines.parse(data), [30000 + 2 * n for n in range(len(found.media))], "192.0.2.9")
        assert "\0" not in text or b"\0" in data
    with suppress(UnusableSdp):
        codecs.limit_codecs(lines.parse(data), ("PCMA", "PCMU"))
    with suppress(UnusableSdp):
        lines.parse(passing.reoffer(data))
        passing.agrees(data, data)
    origin = t38.Origin("192.0.2.9", 1, 1)
    t38.image_of(found)
    t38.audio_of(found)
    for answered in (t38.answer(found, origin, 4000), t38.audio_answer(found, origin, 4000)):
        if answered is not None:
            assert len(lines.parse(answered).media) == len(found.media)


def udptl_packets(data: bytes) -> None:
    """Datagrams of a fax (each with its length before it)."""
    receiver = udptl.Receiver()
    at, now = 0, 0.0
    while at < len(data):
        size = data[at]
        packet = data[at + 1 : at + 1 + size]
        udptl.decode(packet)
        now += 0.01
        receiver.receive(packet, now)
        at += 1 + size
    receiver.flush(now + 10)


def relay(data: bytes) -> None:
    """Replies of the media relay."""
    text = data.decode("ascii", "replace")
    for line in text.split("\n"):
        for reader in (read_address, read_counters):
            with suppress(RelayError):
                reader(line)
        with suppress(RelayError):
            read_media(line, line)


def ng(data: bytes) -> None:
    """Answers of rtpengine, and what is read of them for the record of a call."""
    try:
        cookie, answer = ng_messages.read(data)
    except ng_messages.BadMessage:
        return
    again = cookie + b" " + ng_messages.encoded(answer)  # type: ignore[arg-type]
    assert ng_messages.read(again) == (cookie, answer), "an answer does not survive being written"
    ng_messages.text(answer, b"result")
    _statistics(answer)
    _is_on_loopback(answer)
    with suppress(RelayError):
        _sdp(answer)


def digest(data: bytes) -> None:
    """Credentials and challenges."""
    text = data.decode("utf-8", "surrogateescape").replace("\r", "").replace("\n", "")
    with suppress(RemoteProtocolError):
        found = find_credentials([text], "sip-edge")
        if found is not None:
            assert not check(found, "REGISTER", {"MD5": "0" * 32, "SHA-256": "1" * 64})
            matches_uri(found, "sip:sip-edge")
            again = Credentials.parse(str(found))
            assert again.username == found.username, "a username does not survive being written"
    offered = read_challenges([text])
    if offered:
        answer(offered, "REGISTER", "sip:sip-edge", "user", "password", "cnonce")


def _same(a: Message, b: Message) -> bool:
    return (a.start_line(), a.headers.raw(), a.body) == (b.start_line(), b.headers.raw(), b.body)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "message": message,
    "stream": stream,
    "endpoint": endpoint,
    "trace": trace,
    "sdp": sdp,
    "udptl": udptl_packets,
    "relay": relay,
    "ng": ng,
    "digest": digest,
}
