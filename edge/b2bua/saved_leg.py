"""Legs as values and back: the dialog with a peer, and the requests that are under way in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from edge.b2bua.early import EarlyDialogs
from edge.b2bua.events import CallEvent, LegId
from edge.b2bua.final_answer import FinalAnswer
from edge.b2bua.in_dialog import Modification, Quiet
from edge.b2bua.leg import Authorize, Leg
from edge.b2bua.port import ClientHandler, LegPort, Timer
from edge.b2bua.reliable_progress import ReliableProgress
from edge.b2bua.session_refresh import SessionRefresh
from edge.b2bua.uac_leg import ANSWERED, UacLeg
from edge.b2bua.uas_leg import PROVISIONAL_REPEAT, UasLeg
from edge.sip.dialog.dialog import Dialog
from edge.sip.dialog.session_timer import SessionTimer
from edge.sip.flow import Flow
from edge.sip.headers import Headers
from edge.sip.message import Request, Response
from edge.sip.parse import parse_message
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId
from edge.sip.transaction.model import State
from edge.sip.transaction.saved import SavedTransaction

UNSEEN_REQUESTS = 16
"""How many requests of ours may have left since the dialog was last written: CSeq numbers go on behind them (they have
to rise, RFC 3261 section 12.2.1.1, not to be without gaps)."""
GRACE = 40.0
"""Seconds that a peer has for the refresh that this edge may not have heard while it was away: longer than it repeats
a request."""


class Wires(Protocol):
    """Transactions and who hears them, of the process that is and of the one that was."""

    def save(self, tx: TransactionId) -> SavedTransaction | None:
        """See `Endpoint.save`."""
        ...

    def save_client(self, request: Request) -> tuple[SavedTransaction, ClientHandler | None] | None:
        """The transaction of a request of ours, and who hears it."""
        ...

    def restore(self, transaction: SavedTransaction, request: Request) -> TransactionId:
        """See `Endpoint.restore`."""
        ...

    def adopt(self, tx: TransactionId, handler: ClientHandler, *, answered: bool) -> None:
        """See `Exchange.adopt`."""
        ...

    def left(self, timer: Timer) -> float:
        """Seconds until a timer that `LegPort.later` gave."""
        ...


Raw = list[tuple[str, str, str]]


@dataclass(slots=True)
class SavedRequest:
    """A request as it is held in memory."""

    method: str
    uri: str
    headers: Raw = field(default_factory=list)
    body: bytes = b""

    def made(self) -> Request:
        """The request."""
        return Request(self.method, self.uri, Headers.of_raw(self.headers), self.body)


@dataclass(slots=True)
class SavedDialog:
    """The slots of a `Dialog`."""

    call_id: str
    local: str
    local_tag: str
    local_cseq: int
    remote: str
    remote_tag: str | None
    remote_cseq: int | None
    remote_target: str
    routes: tuple[str, ...]


@dataclass(slots=True)
class SavedResponse:
    """A response of ours."""

    status: int
    reason: str
    headers: Raw
    body: bytes = b""

    def made(self) -> Response:
        """The response."""
        return Response(self.status, self.reason, Headers.of_raw(self.headers), self.body)


@dataclass(slots=True)
class SavedAnswer:
    """A 2xx of ours whose ACK has not come."""

    tx: SavedTransaction
    response: SavedResponse


@dataclass(slots=True)
class SavedProgress:
    """Reliable provisional responses of an INVITE that waits for its answer (RFC 3262 section 3)."""

    last: int
    acknowledged: frozenset[int] = frozenset()
    on_the_way: SavedResponse | None = None
    waiting: list[SavedResponse] = field(default_factory=list)
    wanted_for_all: bool = False
    answered_early: bytes | None = None
    held: bool = False
    held_sdp: bytes | None = None


@dataclass(slots=True)
class SavedEarly:
    """An early dialog of an INVITE of ours, and its last RSeq (RFC 3262 section 4)."""

    dialog: SavedDialog
    number: int


@dataclass(slots=True)
class SavedExchange:
    """A request that waits for its answer: the peer's, or a re-INVITE or UPDATE of ours."""

    tx: SavedTransaction
    request: SavedRequest
    refresh: bool = False


@dataclass(slots=True)
class SavedLeg:
    """A leg; `request` is the caller's INVITE or ours."""

    id: LegId
    caller: bool
    flow: Flow
    contact: str
    local_tag: str
    call_id: str
    request: SavedRequest
    customer: bool = False
    gone: bool = False
    dialog: SavedDialog | None = None
    tx: SavedTransaction | None = None
    local_sdp: bytes | None = None
    remote_sdp: bytes | None = None
    answer: SavedAnswer | None = None
    answer_offers: bool = False
    parting: int | None = None
    """The cause of a BYE that waits for the ACK of `answer`, where the leg is gone."""
    peer_allows: frozenset[str] = frozenset()
    incoming: SavedExchange | None = None
    outgoing: SavedExchange | None = None
    acks: dict[int, bytes | None] = field(default_factory=dict)
    unacknowledged: int | None = None
    session: SessionTimer | None = None
    session_left: float = 0.0
    """Seconds until the session is refreshed, or given up."""
    referred: int = 0
    challenges: int = 0
    final: bool = False
    cancelled: bool = False
    progress: SavedProgress | None = None
    early: dict[str, SavedEarly] = field(default_factory=dict)
    farewell: SavedExchange | None = None
    """Our BYE, which is not answered."""
    cseq: int | None = None
    """Of our INVITE, once it is answered and `request` says no more."""


def _response(response: Response) -> SavedResponse:
    return SavedResponse(response.status, response.reason, response.headers.raw(), response.body)


def _progress(leg: UasLeg) -> SavedProgress | None:
    reliable = leg._reliable
    if reliable is None or leg._tx is None:
        return None
    sent = reliable._responses
    return SavedProgress(
        sent._last,
        frozenset(sent._acknowledged),
        _response(sent.on_the_way) if sent.on_the_way is not None else None,
        [_response(response) for response in sent._waiting],
        reliable.wanted_for_all,
        leg._answered_early,
        leg._held is not None,
        leg._held[0] if leg._held is not None else None,
    )


def _request(request: Request) -> SavedRequest:
    return SavedRequest(request.method, request.uri, request.headers.raw(), request.body)


def _dialog(dialog: Dialog) -> SavedDialog:
    return SavedDialog(
        dialog.call_id,
        dialog.local,
        dialog.local_tag,
        dialog.local_cseq,
        dialog.remote,
        dialog.remote_tag,
        dialog.remote_cseq,
        dialog.remote_target,
        tuple(dialog.routes),
    )


def settled(leg: Leg) -> SavedLeg:
    """A leg without what is under way in it."""
    caller = isinstance(leg, UasLeg)
    return SavedLeg(
        leg.id,
        caller,
        leg.flow,
        leg.contact,
        leg.local_tag,
        leg.call_id,
        _request(leg.request if isinstance(leg, UasLeg) else leg.invite if isinstance(leg, UacLeg) else _NOTHING),
        leg._customer,
        leg.gone,
        _dialog(leg.dialog) if leg.dialog is not None else None,
        None,
        leg._local_sdp,
        leg._remote_sdp,
    )


def save(leg: Leg, wires: Wires) -> SavedLeg:
    """A value that shares what it can with the leg: to be written before the leg goes on."""
    saved = settled(leg)
    saved.peer_allows = leg._peer_allows
    saved.acks = dict(leg._acks)
    saved.unacknowledged = leg._unacknowledged
    saved.referred = leg._referred
    saved.answer_offers = leg._answer_offers
    saved.parting = leg._parting[0] if leg._parting is not None else None
    if isinstance(leg, UasLeg | UacLeg) and leg._tx is not None:
        saved.tx = wires.save(leg._tx)
    if isinstance(leg, UasLeg):
        saved.progress = _progress(leg)
    if isinstance(leg, UacLeg):
        if leg._early is not None:
            early, numbers = leg._early._dialogs, leg._early._numbers
            saved.early = {tag: SavedEarly(_dialog(dialog), numbers[tag]) for tag, dialog in early.items()}
        if leg.dialog is not None:
            saved.cseq = leg._cseq
        saved.challenges = leg._challenges
        saved.final = leg._final
        saved.cancelled = leg._cancelled
    if leg._session is not None:
        saved.session = leg._session.agreed
        saved.session_left = wires.left(leg._session.timer)
    answer = leg._answer
    if answer is not None and (tx := wires.save(answer.tx)) is not None:
        saved.answer = SavedAnswer(tx, _response(answer.response))
    if leg._incoming is not None and (tx := wires.save(leg._incoming[0])) is not None:
        saved.incoming = SavedExchange(tx, _request(leg._incoming[1]))
    if leg._outgoing is not None and (found := wires.save_client(leg._outgoing)) is not None:
        refresh = isinstance(found[1], Modification) and found[1].refresh
        saved.outgoing = SavedExchange(found[0], _request(leg._outgoing), refresh)
    if leg._farewell is not None and (found := wires.save_client(leg._farewell)) is not None:
        saved.farewell = SavedExchange(found[0], _request(leg._farewell))
    return saved


_NOTHING = Request("INVITE", "")


def restore(
    saved: SavedLeg,
    port: LegPort,
    wires: Wires,
    emit: Callable[[LegId, CallEvent], None],
    timers: TimerConfig,
    authorize: Authorize | None,
    away: float,
) -> UasLeg | UacLeg:
    """The leg that `save` was given, with its transactions and timers; `away` is how many seconds ago that was.

    Nothing is sent before the driver wakes."""
    request = saved.request.made()
    leg: UasLeg | UacLeg
    if saved.caller:
        leg = UasLeg.revived(
            saved.id, port, saved.flow, emit, timers, authorize, customer=saved.customer, request=request
        )
    else:
        leg = UacLeg.revived(
            saved.id, port, saved.flow, emit, timers, authorize, customer=saved.customer, request=request
        )
    leg.contact, leg.local_tag, leg.call_id, leg.gone = saved.contact, saved.local_tag, saved.call_id, saved.gone
    if saved.dialog is not None:
        leg.dialog = _revive(saved.dialog)
    leg._local_sdp, leg._remote_sdp = saved.local_sdp, saved.remote_sdp
    leg._peer_allows = saved.peer_allows
    leg._acks = tuple(saved.acks.items())
    leg._unacknowledged = saved.unacknowledged
    leg._referred = saved.referred
    leg._answer_offers = saved.answer_offers
    if saved.tx is not None:
        tx = leg._tx = wires.restore(saved.tx, request)
        if isinstance(leg, UacLeg):
            wires.adopt(tx, leg, answered=saved.tx.state is State.ACCEPTED)
    if isinstance(leg, UacLeg):
        leg._challenges, leg._final, leg._cancelled = saved.challenges, saved.final, saved.cancelled
        _restore_early(leg, saved.early)
        if leg.dialog is not None:
            if saved.cseq is not None:
                leg._cseq = saved.cseq
            elif "cseq" in request.headers:  # earlier versions wrote what is left of the INVITE
                leg._cseq = request.cseq.number
            leg.invite = ANSWERED
    if leg.gone:
        if saved.answer is not None:
            leg._answer = _restore_answer(leg, saved.answer, port, wires, timers)
            leg._parting = (saved.parting, None)
        if (bye := saved.farewell) is not None:
            leg._farewell = request = bye.request.made()
            wires.adopt(wires.restore(bye.tx, request), Quiet(leg, request), answered=False)
        return leg
    if isinstance(leg, UasLeg) and saved.tx is not None:
        if saved.progress is not None:
            _restore_progress(leg, saved.progress, request, port, timers)
        if saved.tx.data:
            _go_on_ringing(leg, saved.tx.data)
    if saved.session is not None:
        least = 0.0 if saved.session.refresh_by_us else GRACE
        leg._session = SessionRefresh(leg, saved.session, max(least, saved.session_left - away))
    _restore_exchanges(leg, saved, port, wires, timers)
    return leg


def _revive(saved: SavedDialog) -> Dialog:
    dialog = Dialog(**{name: getattr(saved, name) for name in Dialog.__slots__})
    dialog.local_cseq += UNSEEN_REQUESTS
    if dialog.remote_cseq is not None:
        dialog.remote_cseq -= 1  # what it sent last may not have been answered, and comes again
    return dialog


def _restore_early(leg: UacLeg, saved: dict[str, SavedEarly]) -> None:
    if saved:
        leg._early = early = EarlyDialogs(leg)
        early._dialogs = {tag: _revive(one.dialog) for tag, one in saved.items()}
        early._numbers = {tag: one.number for tag, one in saved.items()}


def _restore_progress(leg: UasLeg, saved: SavedProgress, request: Request, port: LegPort, timers: TimerConfig) -> None:
    assert leg._tx is not None
    leg._reliable = reliable = ReliableProgress(
        port, leg._tx, request, timers, leg._no_prack, wanted_for_all=saved.wanted_for_all
    )
    sent = reliable._responses
    sent._last = saved.last
    sent._acknowledged = set(saved.acknowledged)
    sent._waiting.extend(response.made() for response in saved.waiting)
    leg._answered_early = saved.answered_early
    leg._held = (saved.held_sdp,) if saved.held else None
    if saved.on_the_way is not None:
        sent.on_the_way = saved.on_the_way.made()
        reliable._begin(sent.on_the_way)


def _restore_answer(leg: Leg, answer: SavedAnswer, port: LegPort, wires: Wires, timers: TimerConfig) -> FinalAnswer:
    return FinalAnswer(port, wires.restore(answer.tx, _NOTHING), answer.response.made(), timers, leg._no_ack)


def _restore_exchanges(leg: Leg, saved: SavedLeg, port: LegPort, wires: Wires, timers: TimerConfig) -> None:
    if (answer := saved.answer) is not None:
        leg._answer = _restore_answer(leg, answer, port, wires, timers)
    if (incoming := saved.incoming) is not None:
        request = incoming.request.made()
        leg._incoming = (wires.restore(incoming.tx, request), request)
    if (outgoing := saved.outgoing) is not None:
        request = leg._outgoing = outgoing.request.made()
        handler = Modification(leg, request, refresh=outgoing.refresh)
        wires.adopt(wires.restore(outgoing.tx, request), handler, answered=outgoing.tx.state is State.ACCEPTED)


def _go_on_ringing(leg: UasLeg, sent: bytes) -> None:
    """Repeat the last provisional response: now, since it may not have left, and then as before."""
    response = parse_message(sent)
    if not isinstance(response, Response) or not 100 < response.status < 200 or "rseq" in response.headers:
        return

    def again() -> None:
        if leg._tx is not None:
            leg.port.respond(leg._tx, response)
            leg.repeat(PROVISIONAL_REPEAT, again)

    leg.repeat(0.0, again)
