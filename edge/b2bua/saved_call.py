"""The call reducer as a value and back, and what a call that was interrupted has to do again. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge.b2bua import actions as do
from edge.b2bua import events as ev
from edge.b2bua import hunt
from edge.b2bua.actions import CallAction
from edge.b2bua.call import A, Branch, Call, CallTimers, Phase
from edge.b2bua.changes import Change
from edge.b2bua.events import LegId


@dataclass(slots=True)
class SavedCall:
    """The state of a `Call`; fields are its own."""

    phase: Phase
    branches: dict[LegId, Branch] = field(default_factory=dict)
    winner: LegId | None = None
    ringing_at: float | None = None
    answered_at: float | None = None
    offer: bytes | None = None
    relayed_offer: bytes | None = None
    targets: int = 1
    target: int = 0
    attempt: int = 0
    no_answer_after: float | None = None
    emergency: bool = False
    failure: hunt.Failure | None = None
    failover_on: frozenset[int] = frozenset()
    progress_status: int = 0
    early_leg: LegId | None = None
    accepted_late_offer: bool = False
    last: dict[LegId, bytes] = field(default_factory=dict)
    change: Change | None = None
    digits: list[ev.InfoReceived] = field(default_factory=list)
    hung_up: ev.Released | None = None
    """What the called side said before the caller had its answer."""


def save(call: Call) -> SavedCall:
    """A value that shares what it can with the call: to be written before the call goes on."""
    up = call.phase is Phase.UP
    return SavedCall(
        call.phase,
        call.branches,
        call.winner,
        call.ringing_at,
        call.answered_at,
        # of a call that is up only whether there was one is asked for, and its description is in `last`
        call._offer if not up else None if call._offer is None else b"",
        None if up else call._relayed_offer,
        call._targets,
        call._target,
        call._attempt,
        call._no_answer_after,
        call._emergency,
        call._failure,
        call._failover_on,
        call._progress_status,
        call._early_leg,
        call._accepted_late_offer,
        call._media.last,
        call._media.change,
        [event for event in call._waiting if isinstance(event, ev.InfoReceived)],
        next((event for event in call._waiting if isinstance(event, ev.Released)), None),
    )


def restore(saved: SavedCall, timers: CallTimers) -> Call:
    """The call that `save` was given."""
    call = Call(
        saved.offer,
        saved.targets,
        timers,
        no_answer_after=saved.no_answer_after,
        emergency=saved.emergency,
    )
    call.phase = saved.phase
    call.branches = dict(saved.branches)
    call.winner = saved.winner
    call.ringing_at = saved.ringing_at
    call.answered_at = saved.answered_at
    call._relayed_offer = saved.relayed_offer
    call._target = saved.target
    call._attempt = saved.attempt
    call._failure = saved.failure
    call._failover_on = saved.failover_on
    call._progress_status = saved.progress_status
    call._early_leg = saved.early_leg
    call._accepted_late_offer = saved.accepted_late_offer
    call._media.last = dict(saved.last)
    call._media.change = saved.change
    call._waiting = [*saved.digits, *([saved.hung_up] if saved.hung_up is not None else [])]
    return call


def resume(call: Call) -> list[CallAction]:
    """What was under way inside the edge and has to be asked for again: the relay, the dial plan, a target."""
    media, phase = call._media, call.phase
    if phase is Phase.ROUTING:
        if call._failure is not None:
            return [do.AskNextRoute(hunt.outcome(call._failure))]
        if call._offer is not None and call._relayed_offer is None:
            return [do.RelayForward("offer", A, call._offer)]
        return call._start_target()
    if phase is Phase.TRYING:
        early = media.last.get(call._early_leg) if call._early_leg is not None else None
        if early is not None and call._early_leg is not None and call._progress_status < 183:
            return [do.RelayForward("early-183", call._early_leg, early)]
    if phase is Phase.ANSWERING and call.winner is not None:
        purpose = "answer" if call._offer is not None else "late-offer"
        return [do.RelayForward(purpose, call.winner, media.last[call.winner])]
    if phase is Phase.UP:
        if call._offer is None and not call._accepted_late_offer and A in media.last:
            return [do.RelayForward("late-answer", A, media.last[A])]
        return media.resume()
    return []
