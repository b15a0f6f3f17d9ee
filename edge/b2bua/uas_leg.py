"""The A-leg: the call as it came in (RFC 3261 section 13.3)."""

from __future__ import annotations

from collections.abc import Callable

from edge.b2bua import events as ev
from edge.b2bua.events import CallEvent, LegId
from edge.b2bua.final_answer import FinalAnswer
from edge.b2bua.leg import Authorize, Leg, sdp_of
from edge.b2bua.port import LegPort
from edge.sip.build import response_to
from edge.sip.causes import parse_reason, reason_header
from edge.sip.dialog.dialog import Dialog
from edge.sip.dialog.session_timer import agree_as_uas
from edge.sip.flow import Flow
from edge.sip.message import Request
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId

PROVISIONAL_REPEAT = 60.0
"""Seconds after which a provisional response is repeated so that proxies keep waiting (RFC 3261 section 13.3.1.1)."""


class UasLeg(Leg):
    """Answers one INVITE: provisionally, with 2xx or with a failure; then lives in its dialog.

    Raises RemoteProtocolError(400) where the INVITE has no usable Contact or Record-Route.
    """

    __slots__ = ("_tx", "offer", "request")

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
        self._tx: TransactionId | None = tx
        self._remote_sdp = self.offer
        self._note_abilities(request)

    def progress(self, status: int, sdp: bytes | None) -> None:
        """180 or 183."""
        if self._tx is not None:
            response = self._response(self.request, status, [], sdp)
            self.port.respond(self._tx, response)
            if self._session_timer is not None:
                self._session_timer.cancel()
            self._session_timer = self.port.later(PROVISIONAL_REPEAT, lambda: self.progress(status, sdp))

    def accept(self, sdp: bytes | None) -> None:
        """200, resent until the ACK."""
        if self._tx is None:
            return
        timer, headers = agree_as_uas(self.request)
        response = self._response(self.request, 200, headers, sdp)
        self._local_sdp = sdp
        self._answer_offers = self.offer is None
        tx, self._tx = self._tx, None
        self._answer = FinalAnswer(self.port, tx, response, self._timers, self._no_ack)
        # a call is long, and of its INVITE nothing but the start line is asked for any more
        self.request = Request(self.request.method, self.request.uri)
        self._run_session_timer(timer)

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
        self._stop()
        self.port.respond(tx, response)

    def forget(self) -> None:
        """Somebody else answers the INVITE: this leg is over before it began."""
        self._tx = None
        self._stop()

    def on_cancel(self, request: Request) -> None:
        """The caller gave up; the call answers with 487."""
        if self._tx is not None:
            self._emit(self.id, ev.Cancelled(parse_reason(request.headers.get("reason"))))

    def on_request(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        """In-dialog requests before the answer: BYE gives up like CANCEL (RFC 3261 section 15.1.2), others wait."""
        if self._tx is None:
            return super().on_request(tx, request, flow)
        if request.method == "BYE":
            self._answer_with(tx, request, 200)
            self._emit(self.id, ev.Cancelled(parse_reason(request.headers.get("reason"))))
        elif request.method in ("INVITE", "UPDATE"):
            self._answer_with(tx, request, 500, [("Retry-After", "5")])
        else:
            self._answer_with(tx, request, 481 if request.method == "PRACK" else 405)
