"""What both legs share: everything inside an established dialog (RFC 3261 sections 12.2, 14, 15; RFC 3311; RFC 4028).

A leg translates between SIP and the call's events. It owns one dialog with one peer and knows nothing of the other leg.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from zlib import crc32

from edge.b2bua import events as ev
from edge.b2bua.description import SDP, same_description, sdp_of
from edge.b2bua.events import CallEvent, LegId, Text
from edge.b2bua.final_answer import FinalAnswer
from edge.b2bua.in_dialog import Modification, Quiet
from edge.b2bua.port import LegPort
from edge.b2bua.refer import UNDERSTOOD, Subscription, read_refer
from edge.b2bua.session_refresh import SessionRefresh
from edge.b2bua.text import Texts, send
from edge.sip.build import response_to
from edge.sip.causes import parse_reason, reason_header
from edge.sip.dialog.dialog import Dialog
from edge.sip.dialog.session_timer import MIN_SE, SessionTimer, agree_as_uas, asked_again, too_brief
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.message import Request, Response
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, PRACK, MESSAGE"
SUPPORTED = "timer"
ALLOW_TRANSFER = f"{ALLOW}, REFER"
SUPPORTED_TRANSFER = f"{SUPPORTED}, replaces, norefersub"
UNDERSTOOD_IN_DIALOG = frozenset(("timer", "100rel", "replaces"))
"""Extensions that a request inside a dialog may require of us."""
_DTMF = frozenset(("application/dtmf-relay", "application/dtmf"))

_MOST_ACKS = 4
"""Answers of the peer that may come again, each with an ACK of its own."""

Fields = list[tuple[str, str]]
_OTHER: Fields = [("Allow", ALLOW), ("Supported", SUPPORTED)]
_CUSTOMER: Fields = [("Allow", ALLOW_TRANSFER), ("Supported", SUPPORTED_TRANSFER)]
"""REFER and Replaces are offered only to those who may."""

Authorize = Callable[[Request, Response], Request | None]
"""Answers a 401 or 407: the request again with credentials, or None where there are none (or they were refused)."""


class Leg:
    """One dialog of a call, after and while it is set up. Subclasses do the setting up."""

    __slots__ = (
        "_acks",
        "_answer",
        "_answer_offers",
        "_authorize",
        "_customer",
        "_emit",
        "_farewell",
        "_incoming",
        "_local_sdp",
        "_outgoing",
        "_parting",
        "_peer_allows",
        "_referred",
        "_referring",
        "_remote_sdp",
        "_session",
        "_texts",
        "_timers",
        "_unacknowledged",
        "call_id",
        "contact",
        "dialog",
        "flow",
        "gone",
        "id",
        "local_tag",
        "port",
    )

    def __init__(
        self,
        leg_id: LegId,
        port: LegPort,
        flow: Flow,
        emit: Callable[[LegId, CallEvent], None],
        timers: TimerConfig,
        authorize: Authorize | None = None,
        *,
        customer: bool = False,
    ) -> None:
        """`customer`: the peer is a seat or a customer's PBX, which may transfer and forward."""
        self.id = leg_id
        self.port = port
        self.flow = flow
        self.dialog: Dialog | None = None
        self.contact = ""
        self.local_tag = ""
        self.call_id = ""
        self.gone = False
        self._emit = emit
        self._timers = timers
        self._authorize = authorize
        self._local_sdp: bytes | None = None
        self._remote_sdp: bytes | None = None
        self._answer: FinalAnswer | None = None
        self._answer_offers = False
        self._peer_allows: frozenset[str] = frozenset()
        self._incoming: tuple[TransactionId, Request] | None = None
        self._outgoing: Request | None = None
        self._acks: tuple[tuple[int, bytes | None], ...] = ()
        """The ACKs that may be asked for again: CSeq and description."""
        self._unacknowledged: int | None = None
        self._session: SessionRefresh | None = None
        self._customer = customer
        self._texts: Texts | None = None
        self._referring: tuple[TransactionId, Request] | None = None
        self._referred = 0
        self._parting: tuple[int | None, Callable[[], None] | None] | None = None
        """The BYE that waits for the ACK of our 2xx: its cause, and who hears of it."""
        self._farewell: Request | None = None
        """Our BYE, until it is answered."""

    owns_call_id = False
    """Whether this side made the Call-ID: it waits longer after requests that crossed."""

    def listen(self, emit: Callable[[LegId, CallEvent], None]) -> None:
        """Who hears this leg from now on."""
        self._emit = emit

    def move(self, flow: Flow) -> None:
        """The peer is reached another way from now on."""
        self.flow = flow
        self._emit(self.id, ev.NOTED)

    # -- requests from the peer -------------------------------------------------------------------------------------

    def on_request(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        """An in-dialog request (not ACK)."""
        dialog = self.dialog
        if dialog is None or dialog.remote_tag != request.from_.tag:
            return self._answer_with(tx, request, 481)
        if self.gone:
            return self._after_the_end(tx, request)
        if not dialog.accept(request):
            return self._answer_with(tx, request, 500)
        self.flow = flow
        method = request.method
        if "require" in request.headers and method not in ("BYE", "REFER"):
            strange = [token for token in request.headers.tokens("require") if token not in UNDERSTOOD_IN_DIALOG]
            if strange:
                return self._answer_with(tx, request, 420, [("Unsupported", ", ".join(strange))])
        if method == "BYE":
            self._answer_with(tx, request, 200)
            self._ended(ev.Released(self.id, parse_reason(request.headers.get("reason"))))
        elif method == "INVITE":
            self._on_reinvite(tx, request)
        elif method == "UPDATE":
            self._on_update(tx, request)
        elif method == "INFO":
            self._on_info(tx, request)
        elif method == "REFER":
            self._on_refer(tx, request)
        elif method == "MESSAGE":
            self._texts = self._texts or Texts(self)
            self._texts.receive(tx, request)
        elif method == "NOTIFY":
            self._on_notify(tx, request)
        elif method == "OPTIONS":
            self._answer_with(tx, request, 200, [*self._abilities(), ("Accept", SDP)])
        else:
            self._answer_with(tx, request, 405, self._abilities()[:1])

    def _after_the_end(self, tx: TransactionId, request: Request) -> None:
        """A BYE that crossed ours, or comes again, is right: the dialog is over. Nothing else can be meant."""
        if request.method != "BYE":
            return self._answer_with(tx, request, 481)
        self._answer_with(tx, request, 200)
        if self._answer is not None:
            self._answer.acknowledged()
            self._answer = None
        if self._parting is not None:
            (_, then), self._parting = self._parting, None
            if then is not None:
                then()

    def on_ack(self, request: Request) -> None:
        """The ACK of a 2xx of ours; matched by the CSeq of the 2xx that is being resent."""
        answer = self._answer
        if answer is None or request.cseq.number != answer.cseq:
            return
        answer.acknowledged()
        self._answer = None
        self._emit(self.id, ev.NOTED)
        if self._answer_offers:
            self._answer_offers = False
            sdp = sdp_of(request)
            if sdp is not None:
                self._remote_sdp = sdp
            self._emit(self.id, ev.AnswerInAck(self.id, sdp))
        self._part()

    def _on_reinvite(self, tx: TransactionId, request: Request) -> None:
        if self._incoming is not None:
            return self._answer_with(tx, request, 500, [("Retry-After", "3")])
        if self._outgoing is not None or self._answer is not None:
            return self._answer_with(tx, request, 491)
        if too_brief(request):
            return self._answer_with(tx, request, 422, [("Min-SE", str(MIN_SE))])
        if refused := _unacceptable_body(request):
            return self._answer_with(tx, request, *refused)
        sdp = sdp_of(request)
        self._refresh_target(request)
        if sdp is not None and self._local_sdp is not None and same_description(sdp, self._remote_sdp):
            self._accept_modification(tx, request, self._local_sdp)
            return
        self._incoming = (tx, request)
        self._emit(self.id, ev.ModifyOffered(self.id, sdp))

    def _on_update(self, tx: TransactionId, request: Request) -> None:
        if too_brief(request):
            return self._answer_with(tx, request, 422, [("Min-SE", str(MIN_SE))])
        sdp = sdp_of(request)
        if sdp is None or (self._local_sdp is not None and same_description(sdp, self._remote_sdp)):
            self._refresh_target(request)
            return self._accept_modification(tx, request, None if sdp is None else self._local_sdp)
        if self._incoming is not None:
            return self._answer_with(tx, request, 500, [("Retry-After", "3")])
        if self._outgoing is not None or self._answer is not None:
            return self._answer_with(tx, request, 491)
        self._refresh_target(request)
        self._incoming = (tx, request)
        self._emit(self.id, ev.ModifyOffered(self.id, sdp, update=True))

    def _on_info(self, tx: TransactionId, request: Request) -> None:
        if "info-package" in request.headers:
            # RFC 6086 section 4.2.2: we take none, which Recv-Info says
            return self._answer_with(tx, request, 469, [("Recv-Info", "")])
        kind = request.content_type
        if kind is not None and kind not in _DTMF:
            return self._answer_with(tx, request, 415, [("Accept", ", ".join(sorted(_DTMF)))])
        self._answer_with(tx, request, 200)
        if kind is not None:
            self._emit(self.id, ev.InfoReceived(self.id, kind, request.body))

    def _on_notify(self, tx: TransactionId, request: Request) -> None:
        """RFC 6665 section 4.1.3: we subscribe to nothing, and know only what a REFER would subscribe to."""
        event = (request.headers.get("event") or "").partition(";")[0].strip().lower()
        if event == "refer":
            return self._answer_with(tx, request, 481)
        self._answer_with(tx, request, 489, [("Allow-Events", "refer")])

    def _on_refer(self, tx: TransactionId, request: Request) -> None:
        """RFC 3515. A carrier that could have us call somebody would do so at the customer's cost."""
        if not self._customer:
            return self._answer_with(tx, request, 403)
        if self._referring is not None:
            return self._answer_with(tx, request, 491)
        strange = [token for token in request.headers.tokens("require") if token not in UNDERSTOOD]
        if strange:
            return self._answer_with(tx, request, 420, [("Unsupported", ", ".join(strange))])
        try:
            to = read_refer(request)
        except RemoteProtocolError as error:
            return self._answer_with(tx, request, error.status or 400)
        self._referring = (tx, request)
        self._emit(self.id, ev.Referred(self.id, to))

    def accept_refer(self) -> Subscription | None:
        """202 to the peer's REFER; how it goes is told through what is returned."""
        if self._referring is None:
            return None
        (tx, request), self._referring = self._referring, None
        self._referred += 1
        subscription = Subscription(self, request, self._referred == 1)
        declined = [] if subscription.wanted else [("Refer-Sub", "false")]
        self.port.respond(tx, self._response(request, 202, declined))
        return subscription

    def refuse_refer(self, status: int) -> None:
        """Final failure to the peer's REFER."""
        if self._referring is not None:
            (tx, request), self._referring = self._referring, None
            self._answer_with(tx, request, status)

    def accept_modification(self, sdp: bytes | None) -> None:
        """200 to the peer's re-INVITE or UPDATE."""
        if self._incoming is not None and not self.gone:
            tx, request = self._incoming
            self._incoming = None
            offered = sdp_of(request)
            if offered is not None:
                self._remote_sdp = offered
            self._answer_offers = request.method == "INVITE" and offered is None
            self._accept_modification(tx, request, sdp)

    def _accept_modification(self, tx: TransactionId, request: Request, sdp: bytes | None) -> None:
        timer, headers = agree_as_uas(request, self.session)
        response = self._response(request, 200, headers, sdp)
        if sdp is not None:
            self._local_sdp = sdp
        if request.method == "INVITE":
            self._answer = FinalAnswer(self.port, tx, response, self._timers, self._no_ack)
        else:
            self.port.respond(tx, response)
        self._run_session_timer(timer)
        self._emit(self.id, ev.NOTED)

    def refuse_modification(self, status: int) -> None:
        """Final failure to the peer's re-INVITE or UPDATE."""
        if self._incoming is not None:
            tx, request = self._incoming
            self._incoming = None
            self._answer_with(tx, request, status)

    def _no_ack(self) -> None:
        self._answer = None
        if self._parting is not None:
            return self._part()
        self.release(102)
        self._emit(self.id, ev.Released(self.id, 102, "the ACK never came"))

    # -- requests to the peer ---------------------------------------------------------------------------------------

    def modify(self, sdp: bytes | None, *, update: bool) -> None:
        """re-INVITE the peer, or UPDATE it where that was asked for and it allows it.

        A description that the peer has already needs no request: it stands by what it last said."""
        if sdp is not None and sdp == self._local_sdp and self._remote_sdp is not None and not self.gone:
            self._emit(self.id, ev.ModifyAnswered(self.id, self._remote_sdp))
            return
        method = "UPDATE" if update and sdp is not None and "UPDATE" in self._peer_allows else "INVITE"
        self._send_modification(method, sdp)

    def _send_modification(
        self, method: str, sdp: bytes | None, *, refresh: bool = False, retried: bool = False
    ) -> None:
        dialog = self.dialog
        if dialog is None or self.gone:
            return
        request = dialog.request(method)
        self._dress(request, sdp)
        if self._session is not None:
            for name, value in asked_again(self._session.agreed):
                request.headers.add(name, value)
        self._outgoing = request
        self.port.request(request, self.flow, Modification(self, request, refresh=refresh, retried=retried))

    def info(self, content_type: str, body: bytes) -> None:
        """INFO to the peer."""
        if self.dialog is not None and not self.gone:
            request = self.dialog.request("INFO")
            request.headers.add("Content-Type", content_type)
            request.body = body
            self.port.request(request, self.flow, Quiet(self, request))

    def text(self, number: TransactionId, text: Text) -> None:
        """MESSAGE to the peer; the call hears what it answers under `number`."""
        send(self, number, text)

    def answer_text(self, number: TransactionId, status: int, accept: str = "") -> None:
        """Final answer to the peer's MESSAGE; `accept`: what the far side takes instead (415)."""
        if self._texts is not None:
            self._texts.answer(number, status, accept)

    def release(self, q850: int | None, then: Callable[[], None] | None = None) -> None:
        """BYE, once; `then` is called when the peer has answered it (or never will).

        It waits for the ACK of a 2xx of ours, which comes again until then (RFC 3261 section 15)."""
        if self.gone or self.dialog is None:
            return
        self._parting = (q850, then)
        answer, self._answer = self._answer, None
        self._stop()
        self._answer = answer
        if answer is None:
            self._part()

    def _part(self) -> None:
        if self._parting is None or self.dialog is None:
            return
        (q850, then), self._parting = self._parting, None
        request = self.dialog.request("BYE")
        if q850 is not None:
            request.headers.add("Reason", reason_header(q850))
        self._farewell = request
        self.port.request(request, self.flow, Quiet(self, request, then))

    def ack(self, sdp: bytes | None) -> None:
        """ACK the 2xx that waits for it; `sdp` is the answer where the 2xx had the offer."""
        if self._unacknowledged is not None and self.dialog is not None:
            cseq, self._unacknowledged = self._unacknowledged, None
            self.send_ack(cseq, sdp)

    @property
    def remote_tag(self) -> str | None:
        """The peer's tag; None before there is a dialog."""
        return self.dialog.remote_tag if self.dialog is not None else None

    def send_ack(self, cseq: int, sdp: bytes | None) -> None:
        """Make and send the ACK for the INVITE with this CSeq, and remember what it takes to make it again."""
        if sdp is not None:
            self._local_sdp = sdp
        self._acks = (*self._acks[1 - _MOST_ACKS :], (cseq, sdp))
        self._make_ack(cseq, sdp)

    def _make_ack(self, cseq: int, sdp: bytes | None) -> None:
        assert self.dialog is not None
        request = self.dialog.request("ACK", cseq=cseq)
        if sdp is not None:
            request.headers.add("Content-Type", SDP)
            request.body = sdp
        self.port.ack(request, self.flow)

    def resend_ack(self, cseq: int) -> bool:
        """The 2xx came again: so does its ACK. False where it was not sent yet."""
        for known, sdp in self._acks:
            if known == cseq:
                self._make_ack(cseq, sdp)
                return True
        return False

    # -- shared -----------------------------------------------------------------------------------------------------

    def _dress(self, request: Request, sdp: bytes | None) -> None:
        headers = request.headers
        headers.add("Contact", self.contact)
        for name, value in self._abilities():
            headers.add(name, value)
        if sdp is not None:
            headers.add("Content-Type", SDP)
            request.body = sdp

    def _response(
        self, request: Request, status: int, headers: list[tuple[str, str]], sdp: bytes | None = None
    ) -> Response:
        response = response_to(request, status, None, self.local_tag)
        out = response.headers
        out.add("Contact", self.contact)
        for name, value in (*self._abilities(), *headers):
            out.add(name, value)
        if sdp is not None:
            out.add("Content-Type", SDP)
            response.body = sdp
        return response

    def _abilities(self) -> Fields:
        return _CUSTOMER if self._customer else _OTHER

    def _answer_with(
        self, tx: TransactionId, request: Request, status: int, headers: list[tuple[str, str]] | None = None
    ) -> None:
        response = response_to(request, status, None, self.local_tag or None)
        for name, value in headers or ():
            response.headers.add(name, value)
        self.port.respond(tx, response)

    def _refresh_target(self, message: Request | Response) -> None:
        if self.dialog is not None:
            try:
                self.dialog.refresh_target(message)
            except RemoteProtocolError:
                pass  # the old target stays: a broken Contact must not end a call
        self._note_abilities(message)

    def _note_abilities(self, message: Request | Response) -> None:
        if allow := message.headers.get_all("allow"):
            self._peer_allows = _methods(", ".join(allow))

    def _ended(self, event: ev.Released) -> None:
        """The dialog is over and the peer knows."""
        if not self.gone:
            self._stop()
            self._emit(self.id, event)

    def _stop(self) -> None:
        self.gone = True
        if self._answer is not None:
            self._answer.acknowledged()
            self._answer = None
        if self._session is not None:
            self._session.stop()
            self._session = None
        if self._incoming is not None:
            tx, request = self._incoming
            self._incoming = None
            self._answer_with(tx, request, 487)
        self.refuse_refer(487)
        if self._texts is not None:
            self._texts.end()

    # -- session timer ----------------------------------------------------------------------------------------------

    @property
    def session(self) -> SessionTimer | None:
        """What is agreed of session timers."""
        return self._session.agreed if self._session is not None else None

    def _run_session_timer(self, agreed: SessionTimer | None) -> None:
        if self._session is not None:
            self._session.stop()
        self._session = SessionRefresh(self, agreed) if agreed is not None and not self.gone else None

    @property
    def settled(self) -> bool:
        """True where no offer of either side waits for its answer or its ACK."""
        return self._outgoing is None and self._incoming is None and self._answer is None

    def refresh_session(self) -> None:
        """Tell the peer that the session lives, by UPDATE without a description where it allows that."""
        if "UPDATE" in self._peer_allows:
            self._send_modification("UPDATE", None, refresh=True)
        else:
            self._send_modification("INVITE", self._local_sdp, refresh=True)

    def session_expired(self) -> None:
        """The peer did not refresh the session."""
        self.release(102)
        self._emit(self.id, ev.Released(self.id, 102, "the session was not refreshed"))

    def back_off(self) -> float:
        """Seconds to wait after 491, so that two sides that collided do not do so again (RFC 3261 section 14.1)."""
        chance = crc32(self.port.ids.token().encode()) / 2**32
        return round(2.1 + 1.9 * chance if self.owns_call_id else 2.0 * chance, 2)


@lru_cache(maxsize=64)
def _methods(allow: str) -> frozenset[str]:
    return frozenset(method.strip().upper() for method in allow.split(","))


def _unacceptable_body(request: Request) -> tuple[int, list[tuple[str, str]]] | None:
    if request.body and request.content_type not in (None, SDP):
        return 415, [("Accept", SDP)]
    return None
