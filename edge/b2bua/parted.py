"""Legs that are over as values and back, for as long as a peer may still speak of them or has not heard of it.

The journal keeps them for `LINGER`: a BYE that comes again after a restart is answered as it was before, and one of
ours that was not answered is repeated until it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.b2bua import events as ev
from edge.b2bua import saved_leg
from edge.b2bua.engine import Engine
from edge.b2bua.events import CallEvent, LegId
from edge.b2bua.leg import Leg
from edge.b2bua.saved_leg import SavedLeg, Wires
from edge.b2bua.uac_leg import UacLeg
from edge.sip.dialog.dialog import Dialog
from edge.sip.flow import Address, Flow

_NOWHERE = Flow("udp", Address("0.0.0.0", 0), Address("0.0.0.0", 0))


@dataclass(slots=True)
class SavedParted:
    """A dialog that is over. `at` is on the driver's clock."""

    at: float
    call_id: str
    remote_tag: str | None
    leg: SavedLeg | None = None
    """All of it, where something is under way in it."""


def under_way(leg: Leg) -> bool:
    """Whether the peer has not heard yet that it is over: a BYE or CANCEL that is not answered, a 2xx without ACK."""
    if leg._farewell is not None or leg._answer is not None:
        return True
    return isinstance(leg, UacLeg) and leg._cancelled and not leg._final and leg._tx is not None


def save(leg: Leg, wires: Wires, now: float) -> SavedParted:
    """What another process needs of a leg that is over."""
    return SavedParted(now, leg.call_id, leg.remote_tag, saved_leg.save(leg, wires) if under_way(leg) else None)


def restore(local_tag: str, saved: SavedParted, engine: Engine, wires: Wires, away: float) -> Leg:
    """The leg that `save` was given `away` seconds ago, among those that linger. Nothing is sent before the driver
    wakes."""
    if saved.leg is not None:
        leg: Leg = saved_leg.restore(saved.leg, engine.port, wires, _nobody, engine.timers, None, away)
        if isinstance(leg, UacLeg):
            leg.listen(_Unwanted(leg))
    else:
        leg = Leg("a", engine.port, _NOWHERE, _nobody, engine.timers)
        leg.local_tag, leg.call_id, leg.gone = local_tag, saved.call_id, True
        leg.dialog = Dialog(
            call_id=saved.call_id, local="", local_tag=local_tag, local_cseq=0, remote="", remote_tag=saved.remote_tag,
            remote_cseq=None, remote_target="", routes=[],
        )  # fmt: skip
    engine.calls.add_leg(leg)
    engine.calls.retire(leg, engine.driver.now())
    return leg


class _Unwanted:
    """Hears a branch that was given up: an answer that crossed its CANCEL gets ACK and BYE."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg

    def __call__(self, leg_id: LegId, event: CallEvent) -> None:
        if isinstance(event, ev.Answered):
            self._leg.ack(None)
            self._leg.release(16)


def _nobody(leg_id: LegId, event: CallEvent) -> None:
    """Hears nothing."""
