"""The early dialogs of an INVITE of ours, where the called side makes use of them (RFC 3261 section 12.1; RFC 3262).

A forking proxy may make several. Peers that send no reliable response have none: nothing could be said in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.b2bua.port import ClientHandler
from edge.sip.dialog.dialog import Dialog
from edge.sip.dialog.reliable import in_order, number_of
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.message import Request, Response
from edge.sip.transaction.key import TransactionId

if TYPE_CHECKING:
    from edge.b2bua.uac_leg import UacLeg

_MOST = 16
"""Early dialogs of one INVITE."""


class EarlyDialogs:
    """By the called side's tag: the dialog and the number of the last reliable response."""

    __slots__ = ("_dialogs", "_leg", "_numbers")

    def __init__(self, leg: UacLeg) -> None:
        self._leg = leg
        self._dialogs: dict[str, Dialog] = {}
        self._numbers: dict[str, int] = {}

    def heard(self, response: Response) -> bool:
        """A response with RSeq: acknowledge it. False where it is not to be looked at (a copy, or out of order)."""
        number = number_of(response)
        tag = response.to.tag
        if number is None or tag is None:
            return True
        dialog = self._dialogs.get(tag)
        if dialog is None:
            if len(self._dialogs) >= _MOST:
                return False
            try:
                dialog = Dialog.uac(self._leg.invite, response)
            except RemoteProtocolError:
                return True  # without Contact there is nowhere to send a PRACK to
            self._dialogs[tag] = dialog
        elif not in_order(number, self._numbers.get(tag)):
            return False
        self._numbers[tag] = number
        prack = dialog.request("PRACK")
        prack.headers.add("RAck", f"{number} {self._leg.invite.cseq.number} INVITE")
        self._leg.port.request(prack, self._leg.flow, _Prack(self._leg, prack, dialog))
        return True

    def on_request(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        """A request of the called side before it answers: UPDATE (RFC 3311)."""
        leg = self._leg
        dialog = self._dialogs.get(request.from_.tag or "")
        if dialog is None:
            return leg.answer_with(tx, request, 481)
        if not dialog.accept(request):
            return leg.answer_with(tx, request, 500)
        leg.flow = flow
        if request.method != "UPDATE":
            return leg.answer_with(tx, request, 405)
        leg.answer_early_update(tx, request, dialog)

    def confirmed(self, dialog: Dialog) -> None:
        """A 2xx made one of them a dialog: it goes on counting where the early one was (section 13.2.2.4)."""
        early = self._dialogs.get(dialog.remote_tag or "")
        if early is not None:
            dialog.local_cseq = max(dialog.local_cseq, early.local_cseq)
            dialog.remote_cseq = early.remote_cseq


class _Prack(ClientHandler):
    """Follows a PRACK: a challenge is answered once; else the peer sends its response again, or gives up itself."""

    __slots__ = ("_dialog", "_leg", "_request", "_retried")

    def __init__(self, leg: UacLeg, request: Request, dialog: Dialog) -> None:
        self._leg = leg
        self._request = request
        self._dialog = dialog
        self._retried = False

    def on_response(self, tx: TransactionId, response: Response) -> None:
        if response.status not in (401, 407) or self._retried:
            return
        self._retried = True
        again = self._leg.credentials_for(self._request, response)
        if again is not None:
            self._dialog.local_cseq = max(self._dialog.local_cseq, again.cseq.number)
            self._leg.port.request(again, self._leg.flow, self)

    def on_no_response(self, tx: TransactionId) -> None:
        pass
