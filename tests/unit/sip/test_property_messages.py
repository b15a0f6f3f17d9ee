"""Properties of the message layer: round trips, untouched headers, and nothing but RemoteProtocolError on any bytes."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.sip.address import NameAddr
from edge.sip.auth.digest import Challenge, Credentials
from edge.sip.build import ack_for_failure, cancel_for, response_to
from edge.sip.causes import parse_reason
from edge.sip.errors import RemoteProtocolError
from edge.sip.fields.via import Via
from edge.sip.framing import StreamFramer
from edge.sip.headers import Headers
from edge.sip.message import Message, Request, Response
from edge.sip.params import Params, quote, split_quoted, unquote
from edge.sip.parse import parse_message
from edge.sip.uri import Uri, encode_user
from edge.sip.validate import validate_request, validate_response

CORPUS = [p.read_bytes() for p in sorted(Path(__file__).parent.glob("rfc*/*.dat"))]

TOKEN = st.text("abcXYZ019-.!%*_+`'~", min_size=1, max_size=12)
NAMES = st.one_of(st.sampled_from(["Via", "f", "TO", "Call-ID", "Route", "X-Odd", "Subject"]), TOKEN).filter(
    lambda name: name.lower() not in ("l", "content-length")
)
VALUES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=60).map(
    lambda text: text.strip(" \t")
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=30)
BODIES = st.binary(max_size=200)
REQUESTS = st.builds(
    lambda method, user, fields, body: Request(method, f"sip:{encode_user(user)}@example.com", Headers(fields), body),
    TOKEN,
    st.text(min_size=1, max_size=20),
    FIELDS,
    BODIES,
)
RESPONSES = st.builds(
    lambda status, reason, fields, body: Response(status, reason, Headers(fields), body),
    st.integers(100, 699),
    VALUES,
    FIELDS,
    BODIES,
)
EVERY_VIEW = ("call_id", "cseq", "top_via", "from_", "to", "contacts", "content_type")


def same(a: Message, b: Message) -> bool:
    return (a.start_line(), a.headers.raw(), a.body) == (b.start_line(), b.headers.raw(), b.body)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A torture message with pieces cut out, doubled, overwritten or put in from another."""
    data = bytearray(draw(st.sampled_from(CORPUS)))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        piece = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from(
                    [b"\r\n", b"\r\n ", b'"', b"<", b">", b";", b",", b"\\", b":", b"@", b"\0", b"%", b"[", b"]"]
                ),
                st.just(bytes(data[start:end] * 2)),
            )
        )
        data[start:end] = piece
    return bytes(data)


@given(st.one_of(REQUESTS, RESPONSES))
def test_round_trip(message: Message) -> None:
    """parse(to_bytes(m)) is m, field by field, with names and values as they were."""
    data = message.to_bytes()
    again = parse_message(data)
    assert same(again, message)
    assert again.to_bytes() == data


@given(REQUESTS.filter(lambda request: len(request.headers) > 0), st.data())
def test_untouched_headers_stay_byte_identical(message: Request, data: st.DataObject) -> None:
    """Principle 5: changing one field leaves every other line as it arrived."""
    before = parse_message(message.to_bytes())
    lines = before.to_bytes().split(b"\r\n")
    keys = list(before.headers)
    key = data.draw(st.sampled_from(keys))
    before.headers.set(key, "changed")
    after = before.to_bytes().split(b"\r\n")
    touched = [i for i, k in enumerate(keys, 1) if k == key]
    assert after.pop(touched[0]) == f"{key}: changed".encode()
    assert after == [line for i, line in enumerate(lines) if i not in touched]


@given(st.one_of(mutated(), st.binary(max_size=300)))
@settings(max_examples=500)
def test_any_bytes(data: bytes) -> None:
    """Whatever arrives is a message or a RemoteProtocolError, in the parser, the checks and every view."""
    try:
        message = parse_message(data)
    except RemoteProtocolError as error:
        assert (error.request is None) == (error.status is None)
        if error.request is not None and error.status is not None:
            answer = parse_message(response_to(error.request, error.status, to_tag="t").to_bytes())
            assert isinstance(answer, Response)
        return
    assert same(parse_message(message.to_bytes()), message)
    for view in EVERY_VIEW:
        try:
            getattr(message, view)
        except RemoteProtocolError as error:
            assert error.status is None or 400 <= error.status < 700
    parse_reason(message.headers.get("reason"))
    try:
        if isinstance(message, Request):
            validate_request(message, frozenset())
        else:
            validate_response(message)
    except RemoteProtocolError as error:
        assert isinstance(message, Request) or error.status is None
        assert error.status is None or error.request is message
        return
    if isinstance(message, Request):
        for built in (
            response_to(message, 200, to_tag="t"),
            cancel_for(message),
            ack_for_failure(message, response_to(message, 486, to_tag="t")),
        ):
            again = parse_message(built.to_bytes())
            assert same(again, built)
            assert (again.call_id, again.cseq.number) == (message.call_id, message.cseq.number)
            assert str(again.top_via) == str(message.top_via)


@given(st.one_of(st.text(max_size=80), st.text(' "<>;,=:@?%[]\\a1.\t', max_size=40)))
@settings(max_examples=500)
def test_any_text_in_a_field(text: str) -> None:
    """Readers of fields take any text or say RemoteProtocolError; what they took is read again from what they write."""
    for reader in (Uri.parse, NameAddr.parse, Via.parse, Challenge.parse, Credentials.parse, Params.parse):
        try:
            value = reader(text)
        except RemoteProtocolError:
            continue
        written = str(value)
        assert str(reader(written)) == written
    assert "".join(split_quoted(text, ",")).replace(" ", "").count(",") <= text.count(",")


@given(st.text(max_size=40))
def test_quoting(text: str) -> None:
    """RFC 3261 25.1: what is quoted comes back, and is one part however it is split."""
    assert unquote(quote(text)) == text
    assert split_quoted(f"{quote(text)},x", ",") == [quote(text), "x"]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_encoded_user(text: str) -> None:
    """RFC 3261 19.1.2: any text is carried in a user part, and in a whole request."""
    uri = Uri("sip", encode_user(text), "example.com")
    assert Uri.parse(str(uri)) == uri
    assert uri.decoded_user == text
    request = parse_message(Request("INVITE", str(uri)).to_bytes())
    assert isinstance(request, Request)
    assert request.parsed_uri() == uri


@given(st.lists(st.sampled_from([0, 1, 2, 3]), max_size=6), st.booleans(), st.data())
def test_frames_do_not_depend_on_the_cuts(kinds: list[int], initiator: bool, data: st.DataObject) -> None:
    """RFC 3261 18.3: a stream cut anywhere gives the same messages and keep-alives."""
    pieces = [
        b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 0\r\n\r\n",
        b"MESSAGE sip:a SIP/2.0\r\nl: 12\r\n\r\n\r\n\r\nSIP/2.0 ",
        b"\r\n\r\n",
        b"\r\n",
    ]
    stream = b"".join(pieces[k] for k in kinds)
    whole = StreamFramer(initiator).feed(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    framer = StreamFramer(initiator)
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [frame for part in parts for frame in framer.feed(part)] == whole


@given(st.lists(st.one_of(mutated(), st.binary(max_size=50)), max_size=4))
def test_any_stream(chunks: list[bytes]) -> None:
    """Garbage on a stream ends it with RemoteProtocolError, and each frame is what the parser takes or refuses."""
    framer = StreamFramer()
    try:
        for chunk in chunks:
            for frame in framer.feed(chunk):
                if isinstance(frame, bytes):
                    try:
                        parse_message(frame)
                    except RemoteProtocolError:
                        continue
    except RemoteProtocolError as error:
        assert error.status is None
        assert framer.fault is error
