"""A transaction layer on a bench: every input can be given by hand, time is a number."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge.sip.build import response_to
from edge.sip.events import AckReceived, Event, RequestReceived, ResponseReceived
from edge.sip.flow import Address, Flow
from edge.sip.headers import Headers
from edge.sip.message import Request, Response
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId
from edge.sip.transaction.layer import TransactionLayer
from edge.sip.transaction.model import Input, State

UDP = Flow("udp", Address("192.0.2.1", 5060), Address("192.0.2.2", 5060))
TCP = Flow("tcp", Address("192.0.2.1", 5060), Address("192.0.2.2", 5060), 7)
CLIENT = "z9hG4bKours"
SERVER = "z9hG4bKtheirs"


class Ids:
    """Counting tokens."""

    def __init__(self) -> None:
        self.count = 0

    def token(self) -> str:
        self.count += 1
        return f"token{self.count}"


def request(method: str, branch: str, number: int = 1) -> Request:
    """A request with one Via."""
    return Request(
        method,
        "sip:bob@192.0.2.2",
        Headers(
            [
                ("Via", f"SIP/2.0/UDP 192.0.2.1:5060;branch={branch};rport"),
                ("From", "<sip:alice@192.0.2.1>;tag=alice"),
                ("To", "<sip:bob@192.0.2.2>"),
                ("Call-ID", f"call-{branch}"),
                ("CSeq", f"{number} {method}"),
            ]
        ),
    )


def told(event: Event) -> str:
    """An event in a word."""
    if isinstance(event, ResponseReceived):
        return str(event.response.status)
    if isinstance(event, RequestReceived | AckReceived):
        return event.request.method
    return type(event).__name__


def line(data: bytes) -> str:
    """A message in a word: its method or its status."""
    words = data.split(b" ", 2)
    return (words[1] if words[0] == b"SIP/2.0" else words[0]).decode()


@dataclass
class Bench:
    """One transaction in a layer of its own."""

    method: str
    client: bool
    flow: Flow = UDP
    config: TimerConfig = field(default_factory=TimerConfig)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.layer = TransactionLayer(Ids(), self.config)
        self.request = request(self.method, CLIENT if self.client else SERVER)
        self.key = f"{CLIENT} {self.method}" if self.client else f"{SERVER} {self.method}"
        if self.client:
            self.id = self.layer.start_client(self.request, CLIENT, self.flow, self.now).id
        else:
            self.id = self.layer.start_server(self.request, self.key, self.flow, self.flow, False, self.now).id

    @property
    def state(self) -> State:
        return self.layer.state_of(self.id)

    def take(self) -> tuple[list[str], list[str]]:
        """What was sent and told since the last look."""
        sent = [line(out.data) for out in self.layer.outgoing]
        events = [told(event) for event in self.layer.events]
        self.layer.outgoing.clear()
        self.layer.events.clear()
        return sent, events

    def response(self, status: int) -> Response:
        return response_to(self.request, status, None, "bob")

    def feed(self, what: Input | int) -> None:
        """An input of the table; a status is a response, received by a client or given by a server's user."""
        tx = self.layer.find(TransactionId(self.id))
        if isinstance(what, int):
            if self.client:
                self.layer.receive_response(self.response(what), CLIENT, self.method, self.now)
            else:
                self.layer.respond(self.id, self.response(what), self.now)
        elif what is Input.REQUEST:
            self.layer.receive_known(self.request, self.key, self.now)
        elif what is Input.ACK:
            self.layer.receive_known(request("ACK", SERVER), self.key, self.now)
        elif what is Input.CANCEL:
            self.layer.cancel(self.id, None, self.now)
        elif what is Input.IGNORE:
            self.layer.ignore(self.id, self.now)
        elif what is Input.TRANSPORT_ERROR:
            self.layer.send_failed(self.id, self.now)
        elif tx is not None:  # a timer, whether it runs or not
            self.layer._step(tx, what, None, self.now)

    def run(self, until: float) -> list[tuple[float, str]]:
        """Jump from deadline to deadline: what was sent (`>`) and told, and when; what waits already is left out."""
        self.take()
        log: list[tuple[float, str]] = []
        while (at := self.layer.next_deadline()) is not None and at <= until:
            self.now = at
            self.layer.handle_timer(at)
            sent, events = self.take()
            log += [(round(at, 3), f">{name}") for name in sent] + [(round(at, 3), name) for name in events]
        self.now = until
        return log
