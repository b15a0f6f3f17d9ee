"""The transaction layer: finds the machine a message belongs to, runs its table, keeps its timers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from edge.sip.build import ack_for_failure, cancel_for, response_to
from edge.sip.events import (
    AckReceived,
    Event,
    Outgoing,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from edge.sip.flow import Flow
from edge.sip.ids import IdSource
from edge.sip.message import Message, Request, Response
from edge.sip.timers import Timer, TimerConfig, TimerQueue
from edge.sip.transaction import client_invite, client_noninvite, server_invite, server_noninvite
from edge.sip.transaction.key import TransactionId, client_key, is_rfc2543, merge_key, tag_of
from edge.sip.transaction.model import Action, Input, State, Table, kind_of


class Transaction:
    """One machine: its state, what it may have to send again, its two timers.

    `flow` is where it sends; `request` is kept as long as something may have to be made from it. An internal
    transaction (a CANCEL, a merged request) has no user: its events are not told.
    """

    __slots__ = (
        "cancel_reason",
        "data",
        "flow",
        "id",
        "internal",
        "interval",
        "key",
        "limit",
        "local_tag",
        "merge",
        "method",
        "reason",
        "request",
        "retransmit",
        "source",
        "state",
        "table",
    )

    def __init__(
        self, id: TransactionId, key: str, table: Table, state: State, request: Request, flow: Flow, source: Flow | None
    ) -> None:
        self.id = id
        self.key = key
        self.table = table
        self.state = state
        self.method = request.method
        self.request: Request | None = request
        self.flow = flow
        self.source = source
        """Where the request of a server transaction came from; None for clients."""
        self.internal = False
        self.reason: str | None = None
        """Reason value for the CANCEL that may have to be sent (RFC 3326)."""
        self.cancel_reason: str | None = None
        self.data: bytes | None = None
        self.interval = 0.0
        self.retransmit: Timer[Transaction, Input] | None = None
        self.limit: Timer[Transaction, Input] | None = None
        self.local_tag: str | None = None
        self.merge: str | None = None

    def __repr__(self) -> str:
        return f"<{'client' if self.source is None else 'server'} {self.method} {self.id} {self.state}>"


_Run = Callable[[Transaction, Message | None, float], None]


class TransactionLayer:
    """All transactions of an endpoint. `outgoing` and `events` are drained by the endpoint."""

    def __init__(self, ids: IdSource, config: TimerConfig) -> None:
        self.outgoing: list[Outgoing] = []
        self.events: deque[Event] = deque()
        self.resent = 0
        """Messages sent again, because nothing came back or the same came again."""
        self._ids = ids
        self._config = config
        self._timers: TimerQueue[Transaction, Input] = TimerQueue()
        self._last_id = 0
        self._by_id: dict[TransactionId, Transaction] = {}
        self._clients: dict[str, Transaction] = {}
        self._servers: dict[str, Transaction] = {}
        self._merges: dict[str, Transaction] = {}
        self._by_connection: dict[int, set[Transaction]] = {}  # clients on streams, to fail with their connection
        self._run = self._actions()

    def __len__(self) -> int:
        """Live transactions."""
        return len(self._by_id)

    def counts(self) -> dict[str, int]:
        """Live transactions by kind: client or server, of an INVITE or another request."""
        found = {"client-invite": 0, "client-other": 0, "server-invite": 0, "server-other": 0}
        for tx in self._by_id.values():
            side = "client" if tx.source is None else "server"
            found[f"{side}-{'invite' if tx.method == 'INVITE' else 'other'}"] += 1
        return found

    def state_of(self, id: TransactionId) -> State:
        """TERMINATED for a transaction that is over."""
        tx = self._by_id.get(id)
        return State.TERMINATED if tx is None else tx.state

    # client side

    def start_client(self, request: Request, branch: str, flow: Flow, now: float) -> Transaction:
        """Send `request`, whose top Via has `branch`, and wait for its responses."""
        machine = client_invite if request.method == "INVITE" else client_noninvite
        key = client_key(branch, request.method)
        tx = self._new(key, machine.TABLE, machine.START, request, flow, None)
        self._clients[key] = tx
        if flow.connection:
            self._by_connection.setdefault(flow.connection, set()).add(tx)
        self._step(tx, Input.START, request, now)
        return tx

    def receive_response(self, response: Response, branch: str, method: str, now: float) -> bool:
        """Give a response to its transaction; False where there is none."""
        tx = self._clients.get(client_key(branch, method))
        if tx is None:
            return False
        self._step(tx, kind_of(response.status), response, now)
        return True

    def cancel(self, id: TransactionId, reason: str | None, now: float) -> None:
        """Cancel an INVITE (section 9.1), `reason` as Reason; too late or not an INVITE: nothing happens."""
        tx = self._by_id.get(id)
        if tx is not None:
            tx.cancel_reason = tx.cancel_reason or reason
            self._step(tx, Input.CANCEL, None, now)

    def connection_lost(self, flow: Flow, now: float) -> None:
        """The connection `flow` is gone and with it the transactions we sent over it."""
        for tx in sorted(self._by_connection.get(flow.connection, ()), key=lambda tx: tx.id):
            self._step(tx, Input.TRANSPORT_ERROR, None, now)

    # server side

    def receive_known(self, request: Request, key: str, now: float) -> bool:
        """Give a repeated request or an ACK to its transaction; False where there is none."""
        tx = self._servers.get(key)
        if tx is None:
            return False
        if request.method == "ACK":
            if is_rfc2543(key) and tag_of(request.headers.get("to") or "") != tx.local_tag:
                return False
            self._step(tx, Input.ACK, request, now)
        else:
            self._step(tx, Input.REQUEST, request, now)
        return True

    def start_server(
        self, request: Request, key: str, source: Flow, reply: Flow, internal: bool, now: float
    ) -> Transaction:
        """A transaction for a new request that came over `source` and is answered over `reply`.

        A copy of a request that is under way already is answered 482 (section 8.2.2.2). Else the user hears of the
        request, unless `internal`.
        """
        machine = server_invite if request.method == "INVITE" else server_noninvite
        merge = None if internal else merge_key(request)
        tx = self._new(key, machine.TABLE, machine.START, request, reply, source)
        self._servers[key] = tx
        tx.internal = internal
        if merge is not None:
            if merge in self._merges:
                tx.internal = True
                self._step(tx, Input.START, request, now)
                self.respond(tx.id, response_to(request, 482), now)
                return tx
            self._merges[merge] = tx
            tx.merge = merge
        self._step(tx, Input.START, request, now)
        return tx

    def find_server(self, key: str) -> Transaction | None:
        """The server transaction of a key."""
        return self._servers.get(key)

    def respond(self, id: TransactionId, response: Response, now: float) -> None:
        """Answer; what comes too late (a second final response, a finished transaction) is dropped."""
        tx = self._by_id.get(id)
        if tx is None:
            return
        if response.status > 100:
            to = response.need("to")
            tag = tag_of(to)
            if tag is None:
                tag = self.local_tag(tx)
                response.headers.replace_first("to", f"{to};tag={tag}")
            tx.local_tag = tag
        self._step(tx, kind_of(response.status), response, now)

    def local_tag(self, tx: Transaction) -> str:
        """The To tag of all our responses over `tx` that bring none of their own."""
        if tx.local_tag is None:
            tx.local_tag = self._ids.token()
        return tx.local_tag

    def find(self, id: TransactionId) -> Transaction | None:
        """A live transaction."""
        return self._by_id.get(id)

    def ignore(self, id: TransactionId, now: float) -> None:
        """Never answer; its retransmissions are absorbed for 64*T1."""
        tx = self._by_id.get(id)
        if tx is not None:
            self._step(tx, Input.IGNORE, None, now)

    # both

    def send_failed(self, id: TransactionId, now: float) -> None:
        """What `id` wanted sent was not."""
        tx = self._by_id.get(id)
        if tx is not None:
            self._step(tx, Input.TRANSPORT_ERROR, None, now)

    def next_deadline(self) -> float | None:
        """When `handle_timer` is due."""
        return self._timers.next_deadline()

    def handle_timer(self, now: float) -> None:
        """Run all timers due at `now`."""
        while (due := self._timers.pop_due(now)) is not None:
            self._step(due[0], due[1], None, now)

    def _new(
        self, key: str, table: Table, state: State, request: Request, flow: Flow, source: Flow | None
    ) -> Transaction:
        self._last_id += 1
        tx = Transaction(TransactionId(self._last_id), key, table, state, request, flow, source)
        self._by_id[tx.id] = tx
        return tx

    def _step(self, tx: Transaction, what: Input, message: Message | None, now: float) -> None:
        entry = tx.table.get((tx.state, what))
        if entry is None:
            return
        tx.state, actions = entry
        for action in actions:
            self._run[action](tx, message, now)
        if entry[0] is State.TERMINATED:
            self._end(tx)

    def _end(self, tx: Transaction) -> None:
        self._stop(tx, None, 0.0)
        del self._by_id[tx.id]
        if tx.source is not None:
            del self._servers[tx.key]
            if tx.merge is not None:
                del self._merges[tx.merge]
            return
        del self._clients[tx.key]
        if tx.flow.connection:
            others = self._by_connection[tx.flow.connection]
            others.discard(tx)
            if not others:
                del self._by_connection[tx.flow.connection]

    # of an earlier process (saved.py)

    def find_client(self, key: str) -> Transaction | None:
        """The client transaction of a key."""
        return self._clients.get(key)

    def adopt(
        self, key: str, table: Table, state: State, request: Request, flow: Flow, source: Flow | None
    ) -> Transaction:
        """A transaction that is in `state` already."""
        tx = self._new(key, table, state, request, flow, source)
        (self._clients if source is None else self._servers)[key] = tx
        if source is None and flow.connection:
            self._by_connection.setdefault(flow.connection, set()).add(tx)
        return tx

    def merges(self, tx: Transaction, merge: str) -> None:
        """Copies of the request of `tx` have this key in common."""
        self._merges[merge] = tx
        tx.merge = merge

    def run(self, tx: Transaction, actions: Iterable[Action], now: float) -> None:
        """Run actions outside of a step."""
        for action in actions:
            self._run[action](tx, None, now)

    # actions

    def _actions(self) -> dict[Action, _Run]:
        c = self._config
        retransmit, limit = self._retransmitter, self._limiter
        return {
            Action.SEND: self._send,
            Action.RESEND: self._resend,
            Action.SEND_ACK: self._send_ack,
            Action.SEND_CANCEL: self._send_cancel,
            Action.SEND_TRYING: self._send_trying,
            Action.TO_USER: self._to_user,
            Action.TIMED_OUT: self._timed_out,
            Action.TRANSPORT_FAILED: self._transport_failed,
            Action.STOP: self._stop,
            Action.START_A: retransmit(Input.TIMER_A, c.t1, c.t1),
            Action.BACK_OFF_A: retransmit(Input.TIMER_A, None, c.transaction),
            Action.START_E: retransmit(Input.TIMER_E, c.t1, c.t2),
            Action.BACK_OFF_E: retransmit(Input.TIMER_E, None, c.t2),
            Action.SLOW_E: retransmit(Input.TIMER_E, c.t2, c.t2),
            Action.START_G: retransmit(Input.TIMER_G, c.t1, c.t2),
            Action.BACK_OFF_G: retransmit(Input.TIMER_G, None, c.t2),
            Action.START_TRYING: self._start_trying,
            Action.START_B: limit(Input.TIMER_B, c.transaction, c.transaction),
            Action.START_C: limit(Input.TIMER_C, c.c, c.c),
            Action.START_D: limit(Input.TIMER_D, c.d, 0.0, last=True),
            Action.START_F: limit(Input.TIMER_F, c.transaction, c.transaction),
            Action.START_H: limit(Input.TIMER_H, c.transaction, c.transaction, last=True),
            Action.START_I: limit(Input.TIMER_I, c.t4, 0.0, last=True, resends=False),
            Action.START_J: limit(Input.TIMER_J, c.transaction, 0.0, last=True),
            Action.START_K: limit(Input.TIMER_K, c.t4, 0.0, last=True, resends=False),
            Action.START_L: limit(Input.TIMER_L, c.transaction, c.transaction, last=True, resends=False),
            Action.START_M: limit(Input.TIMER_M, c.transaction, c.transaction, last=True, resends=False),
            Action.START_GIVE_UP: limit(Input.TIMER_GIVE_UP, c.transaction, c.transaction),
        }

    def _retransmitter(self, name: Input, first: float | None, most: float) -> _Run:
        """Starts a retransmission timer: at `first`, or at twice its last interval, but not over `most`."""
        timers = self._timers

        def run(tx: Transaction, message: Message | None, now: float) -> None:
            if tx.flow.transport == "udp":
                tx.interval = min(first if first is not None else tx.interval * 2, most)
                tx.retransmit = timers.start(now + tx.interval, tx, name)

        return run

    def _limiter(
        self, name: Input, unreliable: float, reliable: float, *, last: bool = False, resends: bool = True
    ) -> _Run:
        """Starts the timer that ends a state. After a `last` one nothing more is made from the request; in a state that
        never `resends` the bytes sent last are not kept."""
        timers = self._timers

        def run(tx: Transaction, message: Message | None, now: float) -> None:
            if last:
                tx.request = None
            if not resends:
                tx.data = None
            seconds = unreliable if tx.flow.transport == "udp" else reliable
            if seconds:
                tx.limit = timers.start(now + seconds, tx, name)
            else:
                self._step(tx, name, None, now)

        return run

    def _start_trying(self, tx: Transaction, message: Message | None, now: float) -> None:
        tx.retransmit = self._timers.start(now + self._config.trying, tx, Input.TIMER_TRYING)

    def _stop(self, tx: Transaction, message: Message | None, now: float) -> None:
        if tx.retransmit is not None:
            self._timers.cancel(tx.retransmit)
            tx.retransmit = None
        if tx.limit is not None:
            self._timers.cancel(tx.limit)
            tx.limit = None

    def _send(self, tx: Transaction, message: Message | None, now: float) -> None:
        assert message is not None
        tx.data = message.to_bytes()
        self.outgoing.append(Outgoing(tx.data, tx.flow, tx.id))

    def _resend(self, tx: Transaction, message: Message | None, now: float) -> None:
        if tx.data is not None:
            self.resent += 1
            self.outgoing.append(Outgoing(tx.data, tx.flow, tx.id))

    def _send_ack(self, tx: Transaction, message: Message | None, now: float) -> None:
        assert tx.request is not None and isinstance(message, Response)
        self._send(tx, ack_for_failure(tx.request, message), now)

    def _send_cancel(self, tx: Transaction, message: Message | None, now: float) -> None:
        assert tx.request is not None
        branch = tx.key.partition(" ")[0]
        cancel = cancel_for(tx.request)
        if tx.cancel_reason is not None:
            cancel.headers.add("Reason", tx.cancel_reason)
        self.start_client(cancel, branch, tx.flow, now).internal = True

    def _send_trying(self, tx: Transaction, message: Message | None, now: float) -> None:
        assert tx.request is not None
        self._send(tx, response_to(tx.request, 100), now)

    def _to_user(self, tx: Transaction, message: Message | None, now: float) -> None:
        if tx.internal:
            return
        if isinstance(message, Response):
            self.events.append(ResponseReceived(tx.id, message, tx.flow))
        elif isinstance(message, Request):
            assert tx.source is not None
            if message.method == "ACK":
                self.events.append(AckReceived(message, tx.source))
            else:
                self.events.append(RequestReceived(tx.id, message, tx.source))

    def _timed_out(self, tx: Transaction, message: Message | None, now: float) -> None:
        if not tx.internal:
            self.events.append(TransactionTimedOut(tx.id))

    def _transport_failed(self, tx: Transaction, message: Message | None, now: float) -> None:
        if not tx.internal:
            self.events.append(TransportFailed(tx.id))
