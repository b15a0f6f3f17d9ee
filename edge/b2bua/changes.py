"""Changes of a session that is up: one offer at a time crosses from leg to leg (RFC 3264; RFC 3261 section 14). Pure.

A part of the reducer in `edge.b2bua.call`, which knows when a session may be changed.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.b2bua import actions as do
from edge.b2bua import events as ev
from edge.b2bua.actions import CallAction
from edge.b2bua.events import LegId


@dataclass(slots=True)
class Change:
    """A re-INVITE or UPDATE on its way from one leg to the other."""

    source: LegId
    to: LegId
    offer: bytes | None
    update: bool
    sent: bool = False
    answered: bool = False

    @property
    def reply(self) -> str:
        """What the other party's description is to the relay: an answer, or the offer that was asked for."""
        return "modify-answer" if self.offer is not None else "modify-offer"


class Changes:
    """What each party last said of its media, and the change that is under way."""

    __slots__ = ("change", "last")

    def __init__(self) -> None:
        self.last: dict[LegId, bytes] = {}
        """The last description of each leg's party, as it came."""
        self.change: Change | None = None
        """The one that is under way."""

    @property
    def idle(self) -> bool:
        """True where no offer waits for its answer."""
        return self.change is None

    def forget(self) -> None:
        """The call is over."""
        self.change = None

    def resume(self) -> list[CallAction]:
        """After a restart: what the relay was asked for and did not answer."""
        change = self.change
        if change is None or (change.offer is None and not change.answered):
            return []
        if not change.sent:
            return [do.RelayForward("modify", change.source, change.offer or b"")]
        if change.answered and change.to in self.last:
            return [do.RelayForward(change.reply, change.to, self.last[change.to])]
        return []

    def offered(self, event: ev.ModifyOffered, to: LegId) -> list[CallAction]:
        """The party of a leg offers a change, or asks the other for an offer."""
        self.change = Change(event.leg, to, event.sdp, event.update)
        if event.sdp is None:
            self.change.sent = True
            return [do.Modify(to, None, event.update)]
        return [do.RelayForward("modify", event.leg, event.sdp)]

    def answered(self, event: ev.ModifyAnswered) -> list[CallAction]:
        """The other party agreed; or, asked for an offer, made one."""
        change = self.change
        if change is None or change.to != event.leg or not change.sent or change.answered:
            return []
        change.answered = True
        if event.sdp is None:
            self.change = None
            return self._unchanged(change, 488)
        if change.offer is not None:
            self.last[change.source] = change.offer
        self.last[event.leg] = event.sdp
        return [do.RelayForward(change.reply, event.leg, event.sdp)]

    def refused(self, event: ev.ModifyRefused) -> list[CallAction]:
        """The other party did not agree."""
        change = self.change
        if change is None or change.to != event.leg or change.answered:
            return []
        self.change = None
        return self._unchanged(change, event.status)

    def _unchanged(self, change: Change, status: int) -> list[CallAction]:
        out: list[CallAction] = [do.RefuseModify(change.source, status)]
        before = self.last.get(change.source)
        if change.offer is not None and before is not None:
            # the session stays as it was (RFC 3261 section 14.1), so the relay must hear the old addresses again
            out.append(do.RelayForward("restore", change.source, before))
        return out

    def expects_answer_of(self, leg: LegId) -> bool:
        """Whether this leg's ACK has to bring the answer to an offer that it asked for."""
        return self.change is not None and self.change.answered and self.change.source == leg

    def relayed(self, event: ev.Relayed) -> list[CallAction]:
        """The relay wrote a description of the change; one of a change that was given up means nothing."""
        change = self.change
        if change is None:
            return []
        if event.purpose == "modify" and event.leg == change.source and not change.sent:
            change.sent = True
            return [do.Modify(change.to, event.sdp, change.update)]
        if event.purpose in ("modify-answer", "modify-offer") and event.leg == change.to and change.answered:
            if change.offer is not None:
                self.change = None
            return [do.AcceptModify(change.source, event.sdp)]
        if event.purpose == "modify-ack" and event.leg == change.source:
            self.change = None
            return [do.Ack(change.to, event.sdp)]
        return []

    def relay_failed(self, event: ev.RelayFailed) -> list[CallAction] | None:
        """The relay could not; None where the call cannot go on without it."""
        change = self.change
        if change is None or not event.purpose.startswith("modify"):
            return []
        self.change = None
        return [do.RefuseModify(change.source, event.status)] if event.purpose == "modify" else None
