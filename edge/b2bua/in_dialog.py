"""What follows our own requests in a dialog: BYE and INFO, re-INVITE and UPDATE (RFC 3261 sections 14.1 and 15.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.b2bua import events as ev
from edge.b2bua.description import sdp_of
from edge.sip.dialog.session_timer import agree_as_uac, longer
from edge.sip.message import Request, Response
from edge.sip.transaction.key import TransactionId

if TYPE_CHECKING:
    from edge.b2bua.leg import Leg


class Quiet:
    """Follows a request whose outcome changes nothing (BYE, INFO), except that a challenge is answered once."""

    __slots__ = ("_leg", "_request", "_retried", "_then")

    def __init__(self, leg: Leg, request: Request, then: Callable[[], None] | None = None) -> None:
        self._leg = leg
        self._request = request
        self._retried = False
        self._then = then

    def on_response(self, tx: TransactionId, response: Response) -> None:
        if response.status in (401, 407) and not self._retried:
            self._retried = True
            again = self._leg._authorize(self._request, response) if self._leg._authorize else None
            if again is not None and self._leg.dialog is not None:
                self._leg.dialog.local_cseq = max(self._leg.dialog.local_cseq, again.cseq.number)
                if self._leg._farewell is self._request:
                    self._leg._farewell = again
                self._request = again
                self._leg.port.request(again, self._leg.flow, self)
                return
        if response.status >= 200:
            self.on_no_response(tx)

    def on_no_response(self, tx: TransactionId) -> None:
        if self._leg._farewell is self._request:
            self._leg._farewell = None
        if self._then is not None:
            self._then()


class Modification:
    """Follows a re-INVITE or UPDATE of ours."""

    __slots__ = ("_acked", "_leg", "_request", "_retried", "refresh")

    def __init__(self, leg: Leg, request: Request, *, refresh: bool, retried: bool = False) -> None:
        self._leg = leg
        self._request = request
        self.refresh = refresh
        self._retried = retried
        self._acked = False

    def on_response(self, tx: TransactionId, response: Response) -> None:
        leg = self._leg
        status = response.status
        if status < 200:
            return
        if self._acked:
            leg.resend_ack(self._request.cseq.number)
            return
        if status < 300:
            return self._accepted(response)
        if status in (401, 407) and not self._retried and leg._authorize is not None:
            self._retried = True
            again = leg._authorize(self._request, response)
            if again is not None and leg.dialog is not None and not leg.gone:
                leg.dialog.local_cseq = max(leg.dialog.local_cseq, again.cseq.number)
                self._request = again
                leg._outgoing = again
                leg.port.request(again, leg.flow, self)
                return
        if status == 422 and not self._retried and not leg.gone and leg._session is not None:
            self._retried = True
            more = longer(leg._session.agreed, response)
            if more is not None:
                leg._session.agreed = more
                return leg._send_modification(
                    self._request.method, self._request.body or None, refresh=self.refresh, retried=True
                )
        self._refused(status)

    def _accepted(self, response: Response) -> None:
        leg = self._leg
        self._acked = True
        leg._outgoing = None
        if leg.gone:
            # answered after we hung up: the ACK is owed all the same
            if self._request.method == "INVITE":
                leg.send_ack(self._request.cseq.number, None)
            return
        leg._refresh_target(response)
        leg._run_session_timer(agree_as_uac(response, leg.session))
        sdp = sdp_of(response)
        offered = bool(self._request.body)
        if offered:
            leg._local_sdp = self._request.body
        if sdp is not None:
            leg._remote_sdp = sdp
        if self._request.method == "INVITE" and (offered or self.refresh):
            leg.send_ack(self._request.cseq.number, None)
        if self.refresh:
            leg._emit(leg.id, ev.NOTED)
            return
        if not offered:
            leg._unacknowledged = self._request.cseq.number
        leg._emit(leg.id, ev.ModifyAnswered(leg.id, sdp))

    def _refused(self, status: int) -> None:
        leg = self._leg
        leg._outgoing = None
        if leg.gone:
            return
        if status in (408, 481):
            if not self.refresh:
                leg._emit(leg.id, ev.ModifyRefused(leg.id, status))
            leg.release(102)
            leg._emit(leg.id, ev.Released(leg.id, 102, f"the dialog is dead at the peer ({status})"))
        elif self.refresh:
            if leg._session is not None:
                leg._session.refresh_later(leg.back_off() if status == 491 else 30.0)
        else:
            leg._emit(leg.id, ev.ModifyRefused(leg.id, status))

    def on_no_response(self, tx: TransactionId) -> None:
        self._refused(408)
