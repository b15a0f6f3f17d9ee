"""A LegPort on a virtual clock that keeps what a leg sends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from edge.b2bua.port import ClientHandler
from edge.sip.flow import Address, Flow
from edge.sip.headers import Headers
from edge.sip.message import Request, Response
from edge.sip.parse import parse_message
from edge.sip.transaction.key import TransactionId

FLOW = Flow("udp", Address("127.0.0.1", 5060), Address("192.0.2.7", 5070))
SDP_A = b"v=0\r\no=a 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"
SDP_B = b"v=0\r\no=b 7 1 IN IP4 192.0.2.8\r\ns=-\r\nc=IN IP4 192.0.2.8\r\nt=0 0\r\nm=audio 5000 RTP/AVP 8\r\n"


class CountingIds:
    """Tokens that a test can foresee."""

    def __init__(self) -> None:
        self.count = 0

    def token(self) -> str:
        self.count += 1
        return f"id{self.count}"


@dataclass
class FakeTimer:
    at: float
    callback: Callable[[], None] | None

    def cancel(self) -> None:
        self.callback = None

    def when(self) -> float:
        return self.at


@dataclass
class FakePort:
    """Records what leaves; time only moves by `advance`."""

    ids: CountingIds = field(default_factory=CountingIds)
    now: float = 0.0
    requests: list[tuple[TransactionId, Request, ClientHandler]] = field(default_factory=list)
    responses: list[tuple[TransactionId, Response]] = field(default_factory=list)
    acks: list[Request] = field(default_factory=list)
    cancels: list[tuple[TransactionId, str | None]] = field(default_factory=list)
    timers: list[FakeTimer] = field(default_factory=list)

    def request(self, request: Request, flow: Flow, handler: ClientHandler) -> TransactionId:
        tx = TransactionId(f"tx{len(self.requests) + 1}")
        self.requests.append((tx, request, handler))
        return tx

    def ack(self, request: Request, flow: Flow) -> None:
        self.acks.append(request)

    def cancel(self, tx: TransactionId, reason: str | None = None) -> None:
        self.cancels.append((tx, reason))

    def respond(self, tx: TransactionId, response: Response) -> None:
        self.responses.append((tx, response))

    def later(self, delay: float, callback: Callable[..., None], *arguments: object) -> FakeTimer:
        timer = FakeTimer(self.now + delay, partial(callback, *arguments))
        self.timers.append(timer)
        return timer

    def contact(self, flow: Flow, user: str) -> str:
        return f"<sip:{user}@127.0.0.1:5060>"

    def advance(self, until: float) -> None:
        """Run timers in order up to `until`."""
        while True:
            due = sorted((t for t in self.timers if t.callback and t.at <= until), key=lambda t: t.at)
            if not due:
                break
            timer = due[0]
            self.now = timer.at
            callback, timer.callback = timer.callback, None
            assert callback is not None
            callback()
        self.now = until

    def statuses(self) -> list[int]:
        return [response.status for _, response in self.responses]

    def methods(self) -> list[str]:
        return [request.method for _, request, _ in self.requests]

    def last(self) -> tuple[TransactionId, Request, ClientHandler]:
        return self.requests[-1]


def request(text: str, body: bytes = b"") -> Request:
    """A request from lines of text."""
    content = f"Content-Type: application/sdp\nContent-Length: {len(body)}\n" if body else "Content-Length: 0\n"
    message = parse_message((text.strip() + "\n" + content + "\n").replace("\n", "\r\n").encode() + body)
    assert isinstance(message, Request)
    return message


def reply(to: Request, status: int, tag: str | None = "far", body: bytes = b"", **headers: str) -> Response:
    """A response of the far side to a request that a leg sent."""
    fields = [(n, v) for n, v in to.headers.items() if n in ("From", "Call-ID", "CSeq")]
    to_value = to.need("to")
    fields.append(("To", to_value if tag is None or ";tag=" in to_value else f"{to_value};tag={tag}"))
    fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
    if body:
        fields.append(("Content-Type", "application/sdp"))
    return Response(status, "x", Headers(fields), body)
