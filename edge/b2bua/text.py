"""MESSAGE in a dialog: what people in a call write to each other (RFC 3428). The body crosses to the other leg as it
is, and the sender gets what the far side answered: nobody is told that a text arrived which did not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.b2bua import events as ev
from edge.b2bua.events import Text
from edge.sip.message import Request, Response
from edge.sip.transaction.key import TransactionId

if TYPE_CHECKING:
    from edge.b2bua.leg import Leg

LONGEST = 4096
"""Bytes of one text. RFC 3428 section 8 allows 1300 outside of sessions; typing phones send far less."""
_MOST_OPEN = 8
"""Texts of one leg that wait for the far side's answer."""
_LONGEST_ACCEPT = 200

UNANSWERED = 480
"""For the sender of a text that nobody answered: 408 to what is not an INVITE is forbidden (RFC 4320 section 4.2)."""
_CROSS = frozenset((200, 202, 400, 403, 405, 406, 413, 415, 480, 486, 488, 493, 500, 501, 513, 600, 603, 606))
"""Answers that mean the same to the sender. Others speak of our request (401, 503), or would end the dialog in which
they are given (404, 481 and more: RFC 5057 section 5.1)."""


class Texts:
    """The texts of one leg's peer that are on their way to the other leg."""

    __slots__ = ("_leg", "_open")

    def __init__(self, leg: Leg) -> None:
        self._leg = leg
        self._open: dict[TransactionId, Request] = {}

    def receive(self, tx: TransactionId, request: Request) -> None:
        """Let the call hear of a text, or refuse it."""
        leg = self._leg
        content_type = request.headers.get("content-type") or ""
        if len(request.body) > LONGEST:
            return leg._answer_with(tx, request, 413)
        if request.body and not content_type:
            return leg._answer_with(tx, request, 400)
        if any(coding != "identity" for coding in request.headers.tokens("content-encoding")):
            return leg._answer_with(tx, request, 415, [("Accept-Encoding", "identity")])
        if len(self._open) >= _MOST_OPEN:
            return leg._answer_with(tx, request, 500, [("Retry-After", "3")])
        self._open[tx] = request
        leg._emit(leg.id, ev.TextReceived(leg.id, tx, Text(content_type, request.body)))

    def answer(self, tx: TransactionId, status: int, accept: str) -> None:
        """What became of a text; `accept`: what the far side takes instead, with 415."""
        request = self._open.pop(tx, None)
        if request is None:
            return
        headers = [("Accept", accept)] if status == 415 and accept else []
        if status == 405:
            headers = self._leg._abilities()[:1]
        self._leg._answer_with(tx, request, status, headers)

    def end(self) -> None:
        """The leg is over."""
        for tx in list(self._open):
            self.answer(tx, UNANSWERED, "")


def send(leg: Leg, number: TransactionId, text: Text) -> None:
    """MESSAGE to the peer of `leg`; the call hears the outcome under `number`."""
    if leg.dialog is None or leg.gone:
        leg._emit(leg.id, ev.TextAnswered(leg.id, number, UNANSWERED))
    elif leg._peer_allows and "MESSAGE" not in leg._peer_allows:
        leg._emit(leg.id, ev.TextAnswered(leg.id, number, 405))
    else:
        request = leg.dialog.request("MESSAGE")
        if text.content_type:
            request.headers.add("Content-Type", text.content_type)
        request.body = text.body
        leg.port.request(request, leg.flow, _Sent(leg, request, number))


class _Sent:
    """Follows a MESSAGE of ours; a challenge is answered once. Nothing that comes back ends the call."""

    __slots__ = ("_leg", "_number", "_request", "_retried")

    def __init__(self, leg: Leg, request: Request, number: TransactionId) -> None:
        self._leg = leg
        self._request = request
        self._number = number
        self._retried = False

    def on_response(self, tx: TransactionId, response: Response) -> None:
        leg, status = self._leg, response.status
        if status < 200:
            return
        if status in (401, 407) and not self._retried and leg._authorize is not None:
            self._retried = True
            again = leg._authorize(self._request, response)
            if again is not None and leg.dialog is not None and not leg.gone:
                leg.dialog.local_cseq = max(leg.dialog.local_cseq, again.cseq.number)
                leg.port.request(again, leg.flow, self)
                return
        accept = ", ".join(response.headers.get_all("accept")) if status == 415 else ""
        self._answered(_crossing(status), accept if len(accept) <= _LONGEST_ACCEPT else "")

    def on_no_response(self, tx: TransactionId) -> None:
        self._answered(UNANSWERED)

    def _answered(self, status: int, accept: str = "") -> None:
        self._leg._emit(self._leg.id, ev.TextAnswered(self._leg.id, self._number, status, accept))


def _crossing(status: int) -> int:
    if status in _CROSS:
        return status
    return 200 if status < 300 else 500 if status >= 500 else UNANSWERED
