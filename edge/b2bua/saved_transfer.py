"""A transfer that a restart interrupts, as a value, and what becomes of it (docs/calls.md, "A restart").

Until the target has taken the offer the transfer is given up: both calls stay the transferor's, who hears that it
failed. Once it has, the transferor has left: the calls are joined, and the party that remains is told of the target's
media.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.b2bua import events as ev
from edge.b2bua.bridge import BridgeLeg
from edge.b2bua.events import LegId
from edge.b2bua.leg import Leg
from edge.b2bua.patience import Patience
from edge.b2bua.refer import Subscription
from edge.b2bua.runner import CallRunner
from edge.b2bua.transfers import Transferring
from edge.cdr.record import Attempt
from media.relay.port import RelayError, UnusableSdp

if TYPE_CHECKING:
    from edge.observability.trace import Tap


@dataclass(slots=True)
class SavedTransfer:
    """The transfer of the call that it is about."""

    leg: LegId
    """The transferor's."""
    event: str | None
    """What NOTIFY calls the REFER; None: none is wanted."""
    attempt: Attempt
    answer: bytes | None = None
    """What the target said, where it took the offer."""
    described: bytes | None = None
    """What the relay was told of the remaining party as the target's peer."""


@dataclass(slots=True)
class SavedConsultation:
    """The other call of a transfer that is not done: the transferor's leg, and what he last said there, where the
    target may have been told of somebody else."""

    leg: LegId
    sdp: bytes | None
    passive: bool


def standing(call: CallRunner) -> dict[LegId, Leg]:
    """Legs that are in the call if what is done with it is given up."""
    legs = dict(call.transfer.standing) if call.transfer is not None else {}
    if call.consulted is not None:
        legs |= call.consulted.consulting
    return legs


def far_call(call: CallRunner, end: BridgeLeg) -> str | None:
    """The call at the other end of a bridge, also where the calls are just being joined."""
    transfer = call.transfer if isinstance(call.transfer, Transferring) else call.consulted
    return end.far_call or (transfer.joining(call) if transfer is not None else None)


def save(call: CallRunner) -> SavedTransfer | None:
    """What is under way with a call."""
    transfer = call.transfer
    if not isinstance(transfer, Transferring):
        return None
    joining = transfer.joining(call) is not None
    event = transfer.subscription.event if transfer.subscription.wanted else None
    return SavedTransfer(
        transfer.leg_id, event, transfer.attempt, transfer.answer if joining else None, transfer.described
    )


def save_consultation(call: CallRunner) -> SavedConsultation | None:
    """What is under way with the call to which a transfer leads."""
    transfer = call.consulted
    if transfer is None or transfer.joining(call) is not None or not (legs := transfer.consulting):
        return None
    (leg_id,) = legs
    return SavedConsultation(leg_id, transfer.consulted_description, transfer.was_passive)


def resume(call: CallRunner, saved: SavedTransfer, calls: Callable[[str], CallRunner | None], tap: Tap) -> None:
    """What was under way is brought to its end. The calls are there, and bridges are joined."""
    leg = call.legs.get(saved.leg)
    if isinstance(leg, BridgeLeg) and leg.far_call is not None and not leg.gone:
        _joined(call, leg, saved, calls(leg.far_call), tap)
    elif isinstance(leg, Leg):
        if saved.event is not None:
            Subscription.of(leg, saved.event).notify(503)
        call.note_transfer(saved.attempt._replace(status=503), f"{saved.attempt.by}: the edge was restarted meanwhile")
        remaining = call.other(leg.id)
        if saved.described is not None and remaining is not None:
            call.task(_take_back(call, remaining, saved.described, leg.id))


def resume_consultation(call: CallRunner, saved: SavedConsultation) -> None:
    """The target hears of the transferor's media again."""
    call.media.passive = saved.passive
    if saved.sdp is not None:
        offered = ev.ModifyOffered(saved.leg, saved.sdp)
        Patience().when_settled(call, lambda: call.post(saved.leg, offered), lambda: None)


def _joined(call: CallRunner, near: BridgeLeg, saved: SavedTransfer, away: CallRunner | None, tap: Tap) -> None:
    if away is not None:
        away.conversation = call.conversation
        tap.join(call.id, away.id)
    made = saved.attempt._replace(status=200)
    call.note_transfer(made, f"{made.by} transferred the call to {made.kind} {made.name}")
    if saved.answer is not None and call.settled:
        near.make_offer(saved.answer)


async def _take_back(call: CallRunner, remaining: LegId, sdp: bytes, to: LegId) -> None:
    with suppress(UnusableSdp, RelayError):
        await call.media.take_back(remaining, sdp, to)
