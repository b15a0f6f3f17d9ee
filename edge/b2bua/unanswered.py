"""The call of a transferor that still rings at the target ("semi-attended" transfer, RFC 5589 section 7.6; calls.md).

RFC 3891 section 3 has the target's phone refuse to replace a dialog that rings there. We stand between: the end of the
bridge takes the caller's place while the target rings on, and the transferor's INVITE waits for what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable

from edge.b2bua import events as ev
from edge.b2bua.bridge import BridgeLeg
from edge.b2bua.events import CallEvent, LegId
from edge.b2bua.leg import Leg
from edge.b2bua.runner import CallRunner
from edge.b2bua.uac_leg import ANSWERED_ELSEWHERE
from edge.b2bua.uas_leg import UasLeg


def unanswered(call: CallRunner, leg: Leg) -> UasLeg | None:
    """`leg`, where its INVITE made `call`, has an offer, and waits for its answer."""
    if call.over or leg is not call.a or not isinstance(leg, UasLeg) or leg.waits_on is None or leg.offer is None:
        return None
    return leg


class Unanswered:
    """Such a call, as long as its transfer lasts. `left` hears that the transferor gave it up."""

    __slots__ = ("_call", "_left", "_leg", "answered")

    def __init__(self, call: CallRunner, leg: UasLeg, end: BridgeLeg, left: Callable[[], None]) -> None:
        self._call = call
        self._leg = leg
        self._left = left
        self.answered = False
        """Whether the target has answered, to `end`."""
        call.a = end
        leg.listen(self._heard)

    def _heard(self, leg_id: LegId, event: CallEvent) -> None:
        """Most phones give their INVITE up once their REFER is accepted: the target rings on."""
        if isinstance(event, ev.Cancelled | ev.Released | ev.Ended):
            self._leg.reject(487)
            self._left()

    def give_back(self) -> None:
        """The call is the transferor's again."""
        self._call.a = self._leg
        self._leg.listen(self._call.post)

    def failed(self, status: int, q850: int | None) -> None:
        """The target did not answer, or the call could not go on: so hears the transferor."""
        self._leg.reject(status, q850)

    def replaced(self) -> None:
        """Somebody else has the answer."""
        self._leg.reject(487, None, (("Reason", ANSWERED_ELSEWHERE),))
