"""The SIP core as its shell sees it: bytes and time in, events, bytes and a deadline out (no clock, no socket)."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from edge.sip.build import response_to
from edge.sip.errors import LocalProtocolError, RemoteProtocolError
from edge.sip.events import (
    AckReceived,
    BadMessage,
    CancelReceived,
    Event,
    FlowClosed,
    Outgoing,
    PongReceived,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from edge.sip.fields.via import Via
from edge.sip.flow import Address, Flow
from edge.sip.framing import KeepAlive, StreamFramer
from edge.sip.ids import BRANCH_COOKIE, IdSource
from edge.sip.message import Request, Response
from edge.sip.params import split_quoted
from edge.sip.parse import parse_message
from edge.sip.timers import TimerConfig
from edge.sip.transaction import saved
from edge.sip.transaction.key import TransactionId, branch_of, client_key, server_key
from edge.sip.transaction.layer import TransactionLayer
from edge.sip.transaction.model import State
from edge.sip.transaction.saved import SavedTransaction
from edge.sip.validate import validate_request, validate_response

_DEFAULT_PORT = {"udp": 5060, "tcp": 5060, "tls": 5061}
_VIA_TRANSPORT = {"udp": "UDP", "tcp": "TCP", "tls": "TLS"}


class Endpoint:
    """Transactions over flows. After every call, drain `outgoing` and `next_event` and look at `next_deadline`.

    `now` is monotonic, in seconds, and the same clock in every call.
    """

    def __init__(self, ids: IdSource, timers: TimerConfig = TimerConfig()) -> None:  # noqa: B008 (a frozen value)
        self._ids = ids
        self._layer = TransactionLayer(ids, timers)
        self._framers: dict[int, StreamFramer] = {}
        self.trace: Callable[[bytes, Flow, float], None] | None = None
        """Sees each message that arrives, readable or not, before anything is done with it."""
        self._secret = ids.token().encode()[:64]

    # from the wire

    def receive_datagram(self, data: bytes, flow: Flow, now: float) -> None:
        """A datagram; empty lines (keep-alives) and lone zero bytes are passed over."""
        if len(data) > 4 or data.strip(b"\r\n\0"):
            self._receive(data, flow, now)

    def connection_made(self, flow: Flow, initiator: bool, rest: bytes = b"") -> None:
        """A connection is open; `initiator`: by us. `rest`: see `unread`."""
        framer = self._framers[flow.connection] = StreamFramer(initiator)
        if rest:
            framer.feed(rest)

    def unread(self, flow: Flow) -> bytes:
        """What came over a connection and is no whole message yet."""
        framer = self._framers.get(flow.connection)
        return framer.rest if framer is not None else b""

    def receive_stream(self, data: bytes, flow: Flow, now: float) -> bool:
        """Bytes of a connection, cut anywhere. A keep-alive is answered (RFC 5626 section 4.4.1).

        False when the stream cannot be read any further: it is to be closed once what is outgoing was written.
        """
        framer = self._framers[flow.connection]
        try:
            frames = framer.feed(data)
        except RemoteProtocolError as error:
            self._bad(flow, error.detail, data)
            return False
        for frame in frames:
            if frame is KeepAlive.PING:
                self._layer.outgoing.append(Outgoing(KeepAlive.PONG.value, flow))
            elif isinstance(frame, KeepAlive):
                self._layer.events.append(PongReceived(flow))
            else:
                self._receive(frame, flow, now)
        if framer.fault is not None:
            self._bad(flow, framer.fault.detail, data)
            return False
        return True

    def unfinished(self, flow: Flow) -> int:
        """The ordinal of the message of a connection that has begun and is not there yet; 0 where none has."""
        framer = self._framers.get(flow.connection)
        return framer.unfinished if framer is not None else 0

    def connection_lost(self, flow: Flow, now: float) -> None:
        """A connection is gone: our requests over it fail, and FlowClosed follows."""
        self._framers.pop(flow.connection, None)
        self._layer.connection_lost(flow, now)
        self._layer.events.append(FlowClosed(flow))

    def send_failed(self, tx: TransactionId, now: float) -> None:
        """An Outgoing of `tx` could not be sent (no such connection any more, too large for a datagram, no route)."""
        self._layer.send_failed(tx, now)

    def handle_timer(self, now: float) -> None:
        """Run what is due; to be called at `next_deadline`, later or earlier."""
        self._layer.handle_timer(now)

    # from the user

    def send_request(self, request: Request, flow: Flow, sent_by: str, now: float) -> TransactionId:
        """Send a request in a transaction of its own; ResponseReceived, TransactionTimedOut or TransportFailed follow.

        `request` is taken over: its Via is set here (`sent_by` is the `host[:port]` to advertise) and must stay until
        the transaction ended. LocalProtocolError for ACK and CANCEL, which have their own ways.
        """
        if request.method in ("ACK", "CANCEL"):
            raise LocalProtocolError(f"{request.method} is not to be sent as a request: use send_ack or cancel")
        branch = self._set_via(request, flow, sent_by)
        return self._layer.start_client(request, branch, flow, now).id

    def send_ack(self, request: Request, flow: Flow, sent_by: str, now: float) -> None:
        """Send the ACK to a 2xx; to be repeated for each repeated 2xx. Its Via is set here."""
        self._set_via(request, flow, sent_by)
        self._layer.outgoing.append(Outgoing(request.to_bytes(), flow))

    def cancel(self, tx: TransactionId, now: float, reason: str | None = None) -> None:
        """Give up an INVITE: CANCEL leaves once a provisional response came (RFC 3261 section 9.1).

        A final response or TransactionTimedOut follows, and it may be a 2xx. Too late: nothing happens. `reason` is the
        value of its Reason field (RFC 3326), such as `SIP;cause=200;text="Call completed elsewhere"`.
        """
        self._layer.cancel(tx, reason, now)

    def respond(self, tx: TransactionId, response: Response, now: float) -> None:
        """Answer a request; again with the same 2xx to repeat it (RFC 3261 section 13.3.1.4).

        A missing To tag is set, the same for all responses of `tx`. Answers to finished transactions are dropped.
        """
        self._layer.respond(tx, response, now)

    def ignore(self, tx: TransactionId, now: float) -> None:
        """Leave a request without any answer (scanners); its retransmissions stay unanswered too."""
        self._layer.ignore(tx, now)

    def local_tag(self, tx: TransactionId) -> str:
        """The To tag of our responses over `tx`, for a dialog that they form. LocalProtocolError when it is over."""
        found = self._layer.find(tx)
        if found is None:
            raise LocalProtocolError("the transaction is over")
        return self._layer.local_tag(found)

    # across a restart

    def save(self, tx: TransactionId) -> SavedTransaction | None:
        """A transaction as a value (`edge.sip.transaction.saved`)."""
        return saved.save(self._layer, tx)

    def save_client(self, request: Request) -> tuple[TransactionId, SavedTransaction] | None:
        """The same of the transaction that a request of ours is under way in, with its id."""
        branch = branch_of(request.headers.get("via") or "")
        return saved.save_client(self._layer, client_key(branch or "", request.method))

    def restore(self, transaction: SavedTransaction, request: Request, now: float) -> TransactionId:
        """Let a transaction of an earlier process go on."""
        return saved.restore(self._layer, transaction, request, now)

    # to the shell

    def next_event(self) -> Event | None:
        """The oldest event not taken yet."""
        events = self._layer.events
        return events.popleft() if events else None

    @property
    def has_events(self) -> bool:
        """True while `next_event` has something."""
        return bool(self._layer.events)

    def outgoing(self) -> list[Outgoing]:
        """What is to be sent, in order; taken with this call."""
        out = self._layer.outgoing
        if out:
            self._layer.outgoing = []
        return out

    def next_deadline(self) -> float | None:
        """When `handle_timer` is due; None where nothing waits."""
        return self._layer.next_deadline()

    def __len__(self) -> int:
        """Live transactions."""
        return len(self._layer)

    @property
    def resent(self) -> int:
        """Messages sent again because nothing came back."""
        return self._layer.resent

    def transactions(self) -> dict[str, int]:
        """Live transactions by kind: client-invite, client-other, server-invite, server-other."""
        return self._layer.counts()

    # inside

    def _set_via(self, request: Request, flow: Flow, sent_by: str) -> str:
        branch = BRANCH_COOKIE + self._ids.token()
        request.headers.remove("via")
        request.headers.insert_first("Via", f"SIP/2.0/{_VIA_TRANSPORT[flow.transport]} {sent_by};branch={branch};rport")
        return branch

    def _receive(self, data: bytes, flow: Flow, now: float) -> None:
        if self.trace is not None:
            self.trace(data, flow, now)
        try:
            message = parse_message(data)
            if isinstance(message, Request):
                self._receive_request(message, data, flow, now)
            else:
                self._receive_response(message, data, flow, now)
        except RemoteProtocolError as error:
            self._refuse(error, data, flow)

    def _receive_request(self, request: Request, data: bytes, flow: Flow, now: float) -> None:
        via, via_text, reply = self._mark_via(request, flow)
        method = request.method
        layer = self._layer
        key = server_key(request, via, via_text, "INVITE" if method == "ACK" else method)
        if layer.receive_known(request, key, now):
            return
        validate_request(request)
        if method == "ACK":
            layer.events.append(AckReceived(request, flow))
        elif method == "CANCEL":
            self._receive_cancel(request, key, server_key(request, via, via_text, "INVITE"), flow, reply, now)
        else:
            layer.start_server(request, key, flow, reply, False, now)

    def _receive_cancel(self, cancel: Request, key: str, invite_key: str, flow: Flow, reply: Flow, now: float) -> None:
        layer = self._layer
        invite = layer.find_server(invite_key)
        tx = layer.start_server(cancel, key, flow, reply, True, now)
        if invite is None:
            layer.respond(tx.id, response_to(cancel, 481), now)
            return
        if invite.state is State.IGNORING:
            layer.ignore(tx.id, now)
            return
        layer.respond(tx.id, response_to(cancel, 200, None, layer.local_tag(invite)), now)
        if invite.state is State.PROCEEDING and not invite.internal:
            layer.events.append(CancelReceived(invite.id, cancel))

    def _receive_response(self, response: Response, data: bytes, flow: Flow, now: float) -> None:
        validate_response(response)
        branch = branch_of(response.need("via"))
        if branch is None or not self._layer.receive_response(response, branch, response.cseq.method, now):
            self._bad(flow, "response to no request of ours", data)

    def _mark_via(self, request: Request, flow: Flow) -> tuple[Via, str, Flow]:
        """Mark the top Via as section 18.2.1 and RFC 3581 say: that Via, its text before, and where responses go.

        They go back where the request came from. Only a peer over UDP that is not behind a NAT (it names its own
        address) and did not ask for `rport` is answered at the port that it names (section 18.2.2).
        """
        field = request.need("via")
        values = split_quoted(field, ",") if "," in field else [field]
        via = Via.parse(values[0])
        asked = "rport" in via.params
        remote = flow.remote
        marked = via.with_received(remote.host, remote.port)
        if marked is not via:
            request.set_top_via(marked, ", ".join((str(marked), *values[1:])))
        reply = flow
        if flow.transport == "udp" and not asked and via.host == remote.host:
            port = via.port or _DEFAULT_PORT["udp"]
            if port != remote.port:
                reply = flow._replace(remote=Address(remote.host, port))
        return via, values[0], reply

    def _refuse(self, error: RemoteProtocolError, data: bytes, flow: Flow) -> None:
        """Answer a broken request without a transaction, where it is owed an answer.

        The To tag is the same for each copy of the request (section 8.2.7).
        """
        request, status = error.request, error.status
        if request is not None and status is not None:
            _, _, reply = self._mark_via(request, flow)
            seed = f"{request.headers.get('via')}\n{request.headers.get('call-id')}\n{request.headers.get('cseq')}"
            tag = blake2b(seed.encode("utf-8", "surrogateescape"), key=self._secret, digest_size=8).hexdigest()
            response = response_to(request, status, None, tag)
            for name, value in error.headers:
                response.headers.add(name, value)
            self._layer.outgoing.append(Outgoing(response.to_bytes(), reply))
        self._bad(flow, error.detail, data, status if request is not None else None)

    def _bad(self, flow: Flow, error: str, data: bytes, status: int | None = None) -> None:
        self._layer.events.append(BadMessage(flow, error, data, status))


__all__ = [
    "AckReceived",
    "BadMessage",
    "CancelReceived",
    "Endpoint",
    "Event",
    "FlowClosed",
    "Outgoing",
    "PongReceived",
    "RequestReceived",
    "ResponseReceived",
    "TransactionId",
    "TransactionTimedOut",
    "TransportFailed",
]
