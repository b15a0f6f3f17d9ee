"""The two ends of a bridge between calls that a transfer joins: legs without a peer of their own (docs/calls.md).

Each end stands in its call where the transferor stood. Once the calls are joined, what a call wants of its end happens
to the other call as if a peer had done it: a re-INVITE, a BYE, DTMF. So each call stays a call of two legs, with its
own channels and record, and its reducer knows nothing of transfers.

Until then an end speaks for the transfer alone: it makes offers to its call, and what else comes is put off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge.b2bua import events as ev
from edge.b2bua.events import CallEvent, LegId, Text
from edge.b2bua.text import UNANSWERED
from edge.sip.message import Request
from edge.sip.transaction.key import TransactionId


class Settling(Protocol):
    """Hears what becomes of an end's offers before, and right after, the calls are joined."""

    def accepted(self, end: BridgeLeg, sdp: bytes | None) -> None:
        """The call of `end` took the offer."""
        ...

    def refused(self, end: BridgeLeg, status: int) -> None:
        """It did not; 491: not now."""
        ...

    def progressed(self, end: BridgeLeg) -> None:
        """The call of `end`, made for the transfer, rings."""
        ...

    def released(self, end: BridgeLeg, status: int, q850: int | None) -> None:
        """The call of `end` is over, or never came to be."""
        ...


class BridgeLeg:
    """One end. `request` is what a call made for the transfer is made of, in place of a caller's INVITE."""

    __slots__ = (
        "_emit",
        "_far",
        "_offered",
        "_offering",
        "_settling",
        "call_id",
        "far_call",
        "gone",
        "id",
        "local_tag",
        "offer",
        "remote_tag",
        "request",
    )

    def __init__(
        self,
        leg_id: LegId,
        emit: Callable[[LegId, CallEvent], None],
        settling: Settling,
        request: Request,
        offer: bytes | None = None,
    ) -> None:
        self.id = leg_id
        self.request = request
        self.offer = offer
        self.call_id = request.call_id
        self.local_tag = ""
        self.remote_tag: str | None = None
        self.gone = False
        self._emit = emit
        self._settling = settling
        self._far: BridgeLeg | None = None
        self.far_call: str | None = None
        """The call at the other end of the bridge, once they are joined."""
        self._offering = False
        self._offered: bytes | None = None

    # -- what the transfer does with it ------------------------------------------------------------------------------

    def join(self, far: BridgeLeg, call_id: str) -> None:
        """From now on what happens here happens there, in the call of that id."""
        self._far = far
        self.far_call = call_id

    def listen(self, emit: Callable[[LegId, CallEvent], None]) -> None:
        """Which call this end belongs to."""
        self._emit = emit

    def make_offer(self, sdp: bytes) -> None:
        """Offer `sdp` to the call, as a peer does by re-INVITE; `Settling` hears the answer."""
        self._offering, self._offered = True, sdp
        self._emit(self.id, ev.ModifyOffered(self.id, sdp))

    def repeat_offer(self) -> None:
        """Make the last offer again: another one had crossed it."""
        if self._offered is not None:
            self.make_offer(self._offered)

    def tell(self, event: CallEvent) -> None:
        """Let the call hear something as from a peer."""
        self._emit(self.id, event)

    def end(self, q850: int | None) -> None:
        """Hang up towards the call."""
        if not self.gone:
            self.gone = True
            self._emit(self.id, ev.Released(self.id, q850))

    # -- what the call does with its leg -----------------------------------------------------------------------------

    def modify(self, sdp: bytes | None, *, update: bool) -> None:
        """See Leg."""
        if self._far is not None and not self._far.gone:
            self._far.tell(ev.ModifyOffered(self._far.id, sdp, update))
        else:
            self._emit(self.id, ev.ModifyRefused(self.id, 491))

    def accept_modification(self, sdp: bytes | None) -> None:
        """See Leg."""
        if self._offering:
            self._offering = False
            self._settling.accepted(self, sdp)
        elif self._far is not None:
            self._far.tell(ev.ModifyAnswered(self._far.id, sdp))

    def refuse_modification(self, status: int) -> None:
        """See Leg."""
        if self._offering:
            self._offering = False
            self._settling.refused(self, status)
        elif self._far is not None:
            self._far.tell(ev.ModifyRefused(self._far.id, status))

    def ack(self, sdp: bytes | None) -> None:
        """See Leg."""
        if self._far is not None and sdp is not None:
            self._far.tell(ev.AnswerInAck(self._far.id, sdp))

    def info(self, content_type: str, body: bytes) -> None:
        """See Leg."""
        if self._far is not None:
            self._far.tell(ev.InfoReceived(self._far.id, content_type, body))

    def text(self, number: TransactionId, text: Text) -> None:
        """See Leg."""
        if self._far is not None and not self._far.gone:
            self._far.tell(ev.TextReceived(self._far.id, number, text))
        else:
            self._emit(self.id, ev.TextAnswered(self.id, number, UNANSWERED))

    def answer_text(self, number: TransactionId, status: int, accept: str = "") -> None:
        """See Leg."""
        if self._far is not None:
            self._far.tell(ev.TextAnswered(self._far.id, number, status, accept))

    def release(self, q850: int | None) -> None:
        """See Leg."""
        if self.gone:
            return
        self.gone = True
        if self._far is not None:
            self._far.end(q850)
        else:
            self._settling.released(self, 480, q850)

    def refuse_refer(self, status: int) -> None:
        """See Leg; nobody refers here."""

    # -- as the caller of a call that is made for the transfer ---------------------------------------------------------

    def progress(self, status: int, sdp: bytes | None) -> None:
        """See UasLeg."""
        self._settling.progressed(self)

    def accept(self, sdp: bytes | None) -> None:
        """See UasLeg."""
        self._settling.accepted(self, sdp)

    def reject(self, status: int, q850: int | None = None, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """See UasLeg."""
        if not self.gone:
            self.gone = True
            self._settling.released(self, status, q850)

    def forget(self) -> None:
        """See UasLeg."""
        self.gone = True
