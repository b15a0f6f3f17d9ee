"""The A-leg: the call as it came in (RFC 3261 section 13.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from edge.b2bua import events as ev
from edge.b2bua.description import SDP, same_description, sdp_of
from edge.b2bua.events import CallEvent, LegId
from edge.b2bua.final_answer import FinalAnswer
from edge.b2bua.leg import Authorize, Leg
from edge.b2bua.port import LegPort, Timer
from edge.b2bua.reliable_progress import ReliableProgress
from edge.sip.build import response_to
from edge.sip.causes import answered_elsewhere, parse_reason, reason_header
from edge.sip.dialog.dialog import Dialog
from edge.sip.dialog.reliable import EXTENSION
from edge.sip.dialog.session_timer import agree_as_uas
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.headers import Headers
from edge.sip.message import Request, Response
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId

_NO_FIELDS = Headers()
PROVISIONAL_REPEAT = 60.0
"""Seconds after which a provisional response is repeated so that proxies keep waiting (RFC 3261 section 13.3.1.1)."""


class UasLeg(Leg):
    """Answers one INVITE: provisionally, with 2xx or with a failure; then lives in its dialog.

    Raises RemoteProtocolError(400) where the INVITE has no usable Contact or Record-Route.
    """

    __slots__ = ("_answered_early", "_held", "_reliable", "_repeat", "_tx", "offer", "on_new_tag", "request")

    def __init__(
        self,
        leg_id: LegId,
        port: LegPort,
        flow: Flow,
        emit: Callable[[LegId, CallEvent], None],
        timers: TimerConfig,
        request: Request,
        tx: TransactionId,
        authorize: Authorize | None = None,
        *,
        customer: bool = False,
    ) -> None:
        super().__init__(leg_id, port, flow, emit, timers, authorize, customer=customer)
        self.request = request
        self.offer = sdp_of(request)
        self.local_tag = port.ids.token()
        self.call_id = request.call_id
        self.contact = port.contact(flow, request.parsed_uri().user or "")
        self.dialog = Dialog.uas(request, self.local_tag)
        self.on_new_tag: Callable[[str, Leg], None] = _nobody
        """Hears the old local tag where the leg goes on in another dialog."""
        self._tx: TransactionId | None = tx
        self._repeat: Timer | None = None
        self._remote_sdp = self.offer
        self._reliable = self._reliability(request, tx)
        self._answered_early: bytes | None = None
        """The answer that a reliable response gave: nothing else can be the answer in that dialog."""
        self._held: tuple[bytes | None] | None = None
        """The answer of a 2xx that waits for a PRACK."""
        self._note_abilities(request)

    def _reliability(self, request: Request, tx: TransactionId) -> ReliableProgress | None:
        """RFC 3262 section 3: what the caller requires is a must, what it supports is worth it for a description."""
        headers = request.headers
        if EXTENSION in headers.tokens("require"):
            required = True
        elif EXTENSION in headers.tokens("supported"):
            required = False
        else:
            return None
        return ReliableProgress(self.port, tx, request, self._timers, self._no_prack, wanted_for_all=required)

    @classmethod
    def revived(
        cls,
        leg_id: LegId,
        port: LegPort,
        flow: Flow,
        emit: Callable[[LegId, CallEvent], None],
        timers: TimerConfig,
        authorize: Authorize | None,
        *,
        customer: bool,
        request: Request,
    ) -> Self:
        """A leg of an earlier process, which `edge.b2bua.saved_leg` puts the rest into."""
        leg = cls.__new__(cls)
        Leg.__init__(leg, leg_id, port, flow, emit, timers, authorize, customer=customer)
        leg.request, leg.offer, leg._tx = request, sdp_of(request), None
        leg.on_new_tag = _nobody
        leg._reliable = leg._answered_early = leg._held = leg._repeat = None
        return leg

    @property
    def waits_on(self) -> TransactionId | None:
        """The INVITE that has no final answer yet."""
        return self._tx

    def progress(self, status: int, sdp: bytes | None) -> None:
        """180 or 183."""
        if self._tx is None or self._held is not None:
            return
        reliable = self._reliable
        if reliable is not None and (reliable.wanted_for_all or sdp is not None):
            return self._progress_reliably(reliable, status, sdp)
        self._provisional(self._tx, self._response(self.request, status, [], sdp))

    def _provisional(self, tx: TransactionId, response: Response) -> None:
        self.port.respond(tx, response)
        self.repeat(PROVISIONAL_REPEAT, lambda: self._provisional(tx, response))

    def repeat(self, after: float, send: Callable[[], None]) -> None:
        """`send` a provisional response once more after so many seconds, unless another response leaves before."""
        self._stop_repeating()
        self._repeat = self.port.later(after, send)

    def _stop_repeating(self) -> None:
        if self._repeat is not None:
            self._repeat.cancel()
            self._repeat = None

    def _stop(self) -> None:
        self._stop_repeating()
        super()._stop()

    def _progress_reliably(self, reliable: ReliableProgress, status: int, sdp: bytes | None) -> None:
        if self.offer is None:
            # a reliable response would have to carry the offer (RFC 3262 section 5), which only the 2xx brings
            return
        if sdp is not None:
            self._answer_early(sdp)
        reliable.send(self._response(self.request, status, [], sdp))

    def _answer_early(self, sdp: bytes) -> None:
        if self._answered_early not in (None, sdp):
            self._fork()
        self._answered_early = sdp
        self._local_sdp = sdp

    def _fork(self) -> None:
        """Go on in another dialog, as if a proxy had forked the INVITE: the only way to another answer than the one
        that a reliable response gave (RFC 3262 section 5, RFC 3261 section 13.2.1)."""
        before, self.local_tag = self.local_tag, self.port.ids.token()
        self.dialog = Dialog.uas(self.request, self.local_tag)
        self.on_new_tag(before, self)

    def accept(self, sdp: bytes | None) -> None:
        """200, resent until the ACK; where the caller has to acknowledge an answer first, once it did."""
        if self._tx is None:
            return
        if self._reliable is not None and not self._ready(self._reliable, sdp):
            return
        timer, headers = agree_as_uas(self.request)
        response = self._response(self.request, 200, headers, sdp)
        self._local_sdp = sdp
        self._answer_offers = self.offer is None
        self._stop_repeating()
        tx, self._tx = self._tx, None
        self._answer = FinalAnswer(self.port, tx, response, self._timers, self._no_ack)
        # a call is long, and of its INVITE nothing but the start line is asked for any more
        self.request = Request(self.request.method, self.request.uri, _NO_FIELDS)
        self.on_new_tag = _nobody
        self._run_session_timer(timer)
        if self._parting is not None:
            (q850, then), self._parting = self._parting, None
            self.release(q850, then)

    def _ready(self, reliable: ReliableProgress, sdp: bytes | None) -> bool:
        """Whether a 2xx may leave now (RFC 3262 section 3)."""
        if reliable.open:
            self._held = (sdp,)
            return False
        reliable.end()
        if sdp is not None and self._answered_early not in (None, sdp):
            self._fork()
        return True

    def _no_prack(self) -> None:
        if self._tx is not None:
            # RFC 3262 section 3: a 5xx; where the called side has answered the call ends at it as well
            if self._parting is not None:
                return self.reject(500, 102)
            self._emit(self.id, ev.Ended(102, "the PRACK never came"))

    def reject(self, status: int, q850: int | None = None, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Final failure."""
        if self._tx is None:
            return
        response = response_to(self.request, status, None, self.local_tag)
        if q850 is not None:
            response.headers.add("Reason", reason_header(q850))
        for name, value in headers:
            response.headers.add(name, value)
        tx, self._tx = self._tx, None
        self._held = self._parting = None
        if self._reliable is not None:
            self._reliable.end()
        self._stop()
        self.port.respond(tx, response)

    def forget(self) -> None:
        """Somebody else answers the INVITE: this leg is over before it began."""
        self._tx = None
        if self._reliable is not None:
            self._reliable.end()
        self._stop()

    def on_cancel(self, request: Request) -> None:
        """The caller gave up; the call answers with 487."""
        if self._tx is not None:
            self._gave_up(request.headers.get("reason"))

    def _gave_up(self, reason: str | None) -> None:
        q850 = parse_reason(reason)
        if self._held is None:
            self._emit(self.id, ev.Cancelled(q850, answered_elsewhere(reason)))
        else:  # the called side has answered already
            self.reject(487)
            self._emit(self.id, ev.Released(self.id, q850))

    def on_request(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        """PRACK, and what may come before the answer: BYE gives up like CANCEL (RFC 3261 section 15.1.2)."""
        if request.method == "PRACK":
            return self._on_prack(tx, request)
        if self._tx is None:
            return super().on_request(tx, request, flow)
        if request.method == "BYE":
            self._answer_with(tx, request, 200)
            self._gave_up(request.headers.get("reason"))
        elif request.method == "UPDATE":
            self._on_early_update(tx, request)
        elif request.method == "INVITE":
            self._answer_with(tx, request, 500, [("Retry-After", "5")])
        elif request.method == "OPTIONS" and self.dialog is not None:
            known = self.dialog.remote_tag == request.from_.tag
            status = 481 if not known else 200 if self.dialog.accept(request) else 500
            self._answer_with(tx, request, status, [*self._abilities(), ("Accept", SDP)] if status == 200 else [])
        else:
            self._answer_with(tx, request, 405, self._abilities()[:1])

    def release(self, q850: int | None, then: Callable[[], None] | None = None) -> None:
        """See Leg; where the 2xx still waits for its PRACK the BYE follows both, or nothing but a failure is left."""
        if self._held is not None and q850 == 102:
            return self.reject(500, q850)
        if self._held is not None:
            self._parting = (q850, then)
            return
        super().release(q850, then)

    def _on_prack(self, tx: TransactionId, request: Request) -> None:
        dialog, reliable = self.dialog, self._reliable
        if dialog is None or reliable is None or dialog.remote_tag != request.from_.tag:
            return self._answer_with(tx, request, 481)
        if not dialog.accept(request):
            return self._answer_with(tx, request, 500)
        sdp = sdp_of(request)
        if sdp is not None and not same_description(sdp, self._remote_sdp):
            # acknowledged or not: the caller takes back what it offers, and acknowledges again
            return self._answer_with(tx, request, 488)
        try:
            known = reliable.acknowledged(request)
        except RemoteProtocolError as error:
            return self._answer_with(tx, request, error.status or 400)
        if not known:
            return self._answer_with(tx, request, 481)
        self.port.respond(tx, self._response(request, 200, [], self._local_sdp if sdp is not None else None))
        reliable.go_on()
        self._emit(self.id, ev.NOTED)
        if self._held is not None and not reliable.open:
            (answer,), self._held = self._held, None
            self.accept(answer)

    def _on_early_update(self, tx: TransactionId, request: Request) -> None:
        """RFC 3311 section 5.2: without an offer it moves the caller; a new offer has to wait for the answer."""
        dialog = self.dialog
        if dialog is None or dialog.remote_tag != request.from_.tag:
            return self._answer_with(tx, request, 481)
        if not dialog.accept(request):
            return self._answer_with(tx, request, 500)
        sdp = sdp_of(request)
        if sdp is not None and (self._answered_early is None or not same_description(sdp, self._remote_sdp)):
            return self._answer_with(tx, request, 500, [("Retry-After", "5")])
        self._refresh_target(request)
        self.port.respond(tx, self._response(request, 200, [], self._answered_early if sdp is not None else None))


def _nobody(before: str, leg: Leg) -> None:
    """Nobody asks for the leg by its tag."""
