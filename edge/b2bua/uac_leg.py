"""A B-leg: one INVITE of ours and what becomes of it (RFC 3261 sections 9.1, 13.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

from edge.b2bua import events as ev
from edge.b2bua.description import sdp_of
from edge.b2bua.early import EarlyDialogs
from edge.b2bua.events import CallEvent, LegId
from edge.b2bua.leg import Authorize, Leg
from edge.b2bua.port import LegPort, NextHosts, Timer
from edge.b2bua.refer import dialled
from edge.carriers.registration import retry_after
from edge.sip.address import NameAddr
from edge.sip.causes import parse_reason, reason_header
from edge.sip.dialog.dialog import Dialog
from edge.sip.dialog.reliable import EXTENSION
from edge.sip.dialog.session_timer import MIN_SE, agree_as_uac
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.message import Request, Response
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId

ANSWERED_ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'
"""Tells a phone not to list a missed call (RFC 3326 section 2)."""

_NOBODY: Mapping[TransactionId, Flow] = {}
ANSWERED = Request("INVITE", "")
"""In place of an INVITE that was answered."""


class UacLeg(Leg):
    """Calls one peer. A 401, 407 or 422 is answered in place: for the call it is still the same branch."""

    owns_call_id = True
    __slots__ = (
        "_cancelled", "_challenges", "_contact_user", "_cseq", "_early", "_final", "_hung_up", "_impatience", "_left",
        "_progressed", "_tx", "hosts", "invite",
    )  # fmt: skip

    def __init__(
        self,
        leg_id: LegId,
        port: LegPort,
        flow: Flow,
        emit: Callable[[LegId, CallEvent], None],
        timers: TimerConfig,
        invite: Request,
        contact_user: str,
        authorize: Authorize | None = None,
        *,
        customer: bool = False,
    ) -> None:
        """`invite` has From (without tag), To, Request-URI and identity headers; the rest is put in here."""
        super().__init__(leg_id, port, flow, emit, timers, authorize, customer=customer)
        self.local_tag = port.ids.token()
        self.call_id = port.ids.token()
        self._contact_user = contact_user
        self.contact = port.contact(flow, contact_user)
        self.invite = invite
        """Nothing of it is kept once it is answered: a call is long, and its dialog says what another answer needs."""
        self.hosts: NextHosts | None = None
        """Where the INVITE goes on to where a host does not take it; None: there is one host."""
        self._impatience: Timer | None = None
        self._left: Mapping[TransactionId, Flow] = _NOBODY
        """INVITEs to hosts that were left, which may still be answered."""
        self._progressed = False
        self._tx: TransactionId | None = None
        self._cseq = 1
        """Of the INVITE: the first one's, then that of the answered one."""
        self._challenges = 0
        self._early: EarlyDialogs | None = None
        self._final = False
        self._cancelled = False
        self._hung_up: tuple[str, int | None] | None = None
        """The tag of a peer whose BYE overtook its answer, and the cause."""

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
        return cls(leg_id, port, flow, emit, timers, request, "", authorize, customer=customer)

    def call(self, sdp: bytes | None, session_expires: int | None) -> None:
        """Send the INVITE; `sdp` None asks the peer for an offer; `session_expires` in seconds (RFC 4028)."""
        request = self.invite
        request.set_from(request.from_.with_tag(self.local_tag))
        headers = request.headers
        headers.add("Call-ID", self.call_id)
        headers.add("CSeq", f"{self._cseq} INVITE")
        self._dress(request, sdp)
        if sdp is not None:
            # without an offer of ours a reliable response brings one, whose answer nobody has yet
            headers.add("Supported", EXTENSION)
        if session_expires is not None:
            headers.add("Session-Expires", str(session_expires))
            headers.add("Min-SE", str(MIN_SE))
        self._local_sdp = sdp
        self._tx = self.port.request(request, self.flow, self)
        self._await_host()

    def cancel(self, *, answered_elsewhere: bool) -> None:
        """CANCEL; where nothing came back yet the CANCEL waits for a provisional response (section 9.1)."""
        if not self._final and not self._cancelled and self._tx is not None:
            self._cancelled = True
            if self._tx in self._left:
                return  # on the way to the next host, where nobody was asked yet
            self.port.cancel(self._tx, ANSWERED_ELSEWHERE if answered_elsewhere else reason_header(16))

    # -- ClientHandler ----------------------------------------------------------------------------------------------

    def on_response(self, tx: TransactionId, response: Response) -> None:
        status = response.status
        if 200 <= status < 300:
            if tx in self._left:
                return self._refuse_second_answer(response, self._left[tx])
            self._host_answered()
            return self._on_success(response)
        if self._final or tx != self._tx or tx in self._left:
            return
        self._host_answered()
        if status < 200:
            return self._on_provisional(response)
        if status == 503 and self.hosts is not None:
            self.hosts.refused(self.flow, retry_after(response))
            if self._go_on(503, parse_reason(response.headers.get("reason"))):
                return
        if status in (401, 407, 422) and not self._cancelled and self._retry(response):
            return
        if 300 <= status < 400 and self._customer and self._moved(response):
            return
        self._fail(status, parse_reason(response.headers.get("reason")))

    def _moved(self, response: Response) -> bool:
        """A forward that is set on the phone (RFC 3261 section 21.3): the Contact it likes best."""
        try:
            contacts = response.contacts
        except RemoteProtocolError:
            return False
        if not contacts or self._cancelled:
            return False
        uri = max(contacts, key=_preference).uri
        self._final = True
        self.gone = True
        is_phone = uri.scheme == "tel" or uri.params.get("user") == "phone"
        self._emit(self.id, ev.Moved(self.id, response.status, dialled(uri), is_phone))
        return True

    def on_no_response(self, tx: TransactionId) -> None:
        if not self._final and tx == self._tx and tx not in self._left:
            if self.hosts is not None:
                self.hosts.silent(self.flow)
            if not self._go_on(408, 102, no_response=True):
                self._fail(408, 102, no_response=True)

    # -- from host to host (RFC 3263 section 4.3) -------------------------------------------------------------------

    def _await_host(self) -> None:
        if self.hosts is not None and self.hosts.several:
            self._impatience = self.port.later(self.hosts.patience, self._host_silent)

    def _host_answered(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None
            assert self.hosts is not None
            self.hosts.heard(self.flow)

    def _host_silent(self) -> None:
        self._impatience = None
        if self._final or self._cancelled or self.hosts is None:
            return
        self.hosts.silent(self.flow)
        tx = self._tx
        if self._go_on(408, 102, no_response=True) and tx is not None:
            self.port.cancel(tx)  # should it answer after all

    def _go_on(self, status: int, q850: int | None, *, no_response: bool = False) -> bool:
        """Send the INVITE to the next host; False where there is none, or somebody behind this one was reached."""
        hosts = self.hosts
        if hosts is None or not hosts.more or self._progressed or self._cancelled or self._tx is None:
            return False
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None
        self._left = {**self._left, self._tx: self.flow}

        def then(flow: Flow | None) -> None:
            if self._final:
                return
            if self._cancelled:
                self._fail(487, None)
            elif flow is None:
                self._fail(status, q850, no_response=no_response)
            else:
                self._send_to(flow)

        hosts.next(then)
        return True

    def _send_to(self, flow: Flow) -> None:
        """The same request in a transaction of its own."""
        again = Request("INVITE", self.invite.uri, self.invite.headers.copy(), self.invite.body)
        again.headers.remove("via")
        self.flow = flow
        self.contact = self.port.contact(flow, self._contact_user)
        again.headers.set("Contact", self.contact)
        self.invite = again
        self._tx = self.port.request(again, flow, self)
        self._await_host()

    def _on_provisional(self, response: Response) -> None:
        if response.status != 100 and "rseq" in response.headers and not self._acknowledge_early(response):
            return
        self._progressed = self._progressed or response.status > 100
        if response.status == 100 or self._cancelled:
            self._emit(self.id, ev.Ringing(self.id, 100))
            return
        sdp = sdp_of(response)
        if sdp is not None:
            self._emit(self.id, ev.EarlyMedia(self.id, response.status, sdp))
        else:
            self._emit(self.id, ev.Ringing(self.id, 180 if response.status in (180, 183) else 100))

    def _acknowledge_early(self, response: Response) -> bool:
        """PRACK a reliable response (RFC 3262 section 4); False where it is a copy, or is not its turn yet."""
        if self._early is None:
            self._early = EarlyDialogs(self)
        return self._early.heard(response)

    def on_request(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        """In-dialog requests; before the answer those of early dialogs."""
        if self.dialog is None and not self.gone and request.method == "BYE" and request.from_.tag:
            # only who has answered may say BYE (RFC 3261 section 15): the answer is on its way
            self._hung_up = (request.from_.tag, parse_reason(request.headers.get("reason")))
            return self._answer_with(tx, request, 200)
        if self.dialog is None and self._early is not None and not self.gone:
            return self._early.on_request(tx, request, flow)
        super().on_request(tx, request, flow)

    def answer_with(self, tx: TransactionId, request: Request, status: int) -> None:
        """Answer a request of an early dialog."""
        self._answer_with(tx, request, status)

    def credentials_for(self, request: Request, response: Response) -> Request | None:
        """The request again, as its challenge wants it; None where there are no credentials."""
        return self._authorize(request, response) if self._authorize is not None else None

    def answer_early_update(self, tx: TransactionId, request: Request, dialog: Dialog) -> None:
        """200 to an UPDATE before the answer (RFC 3311 section 5.2): our offer stands as the answer to theirs."""
        sdp = sdp_of(request)
        try:
            dialog.refresh_target(request)
        except RemoteProtocolError:
            pass
        self.port.respond(tx, self._response(request, 200, [], self._local_sdp if sdp is not None else None))
        if sdp is not None and not self._cancelled:
            self._emit(self.id, ev.EarlyMedia(self.id, 183, sdp))

    def _on_success(self, response: Response) -> None:
        if self._final:
            if self.dialog is not None and response.to.tag == self.dialog.remote_tag:
                self.resend_ack(self._cseq)
            else:
                self._refuse_second_answer(response, self.flow)
            return
        try:
            self.dialog = dialog = Dialog.uac(self.invite, response)
        except RemoteProtocolError:
            # a 2xx without Contact cannot even be ended: the branch has failed
            self._fail(502, 111)
            return
        self._final = True
        if self._early is not None:
            self._early.confirmed(dialog)
            self._early = None
        self._unacknowledged = self._cseq = self.invite.cseq.number
        self.invite = ANSWERED
        self._note_abilities(response)
        sdp = sdp_of(response)
        if sdp is not None:
            self._remote_sdp = sdp
        self._run_session_timer(agree_as_uac(response))
        self._emit(self.id, ev.Answered(self.id, sdp))
        if self._hung_up is not None and self._hung_up[0] == dialog.remote_tag:
            self._ended(ev.Released(self.id, self._hung_up[1]))

    def _refuse_second_answer(self, response: Response, flow: Flow) -> None:
        """A proxy forked our INVITE and a second one answered, or a host that was left (RFC 3261 section 13.2.2.4): ACK
        and BYE."""
        try:
            if self.dialog is None:
                dialog, cseq = Dialog.uac(self.invite, response), self.invite.cseq.number
            else:
                dialog, cseq = self.dialog.another(response, self._cseq), self._cseq
        except RemoteProtocolError:
            return
        self.port.ack(dialog.request("ACK", cseq=cseq), flow)
        self.port.request(dialog.request("BYE"), flow, _Ignore())

    def _fail(self, status: int, q850: int | None, *, no_response: bool = False) -> None:
        self._final = True
        self.gone = True
        self._emit(self.id, ev.Rejected(self.id, status, q850, no_response))

    def _retry(self, response: Response) -> bool:
        """Send the INVITE again as the peer wants it; False where it cannot be done."""
        if response.status == 422:
            try:
                asked = response.integer("min-se")
            except RemoteProtocolError:
                return False
            if asked is None or self._challenges >= 3:
                return False
            again = Request("INVITE", self.invite.uri, self.invite.headers.copy(), self.invite.body)
            again.headers.remove("via")
            again.headers.set("Session-Expires", str(asked))
            again.headers.set("Min-SE", str(asked))
            again.headers.set("CSeq", f"{self.invite.cseq.number + 1} INVITE")
        else:
            made = self._authorize(self.invite, response) if self._authorize and self._challenges < 3 else None
            if made is None:
                return False
            again = made
        self._challenges += 1
        self.invite = again
        self._tx = self.port.request(again, self.flow, self)
        return True


def _preference(contact: NameAddr) -> float:
    try:
        return float(contact.params.get("q") or 1)
    except ValueError:
        return 0.0


class _Ignore:
    def on_response(self, tx: TransactionId, response: Response) -> None:
        pass

    def on_no_response(self, tx: TransactionId) -> None:
        pass
