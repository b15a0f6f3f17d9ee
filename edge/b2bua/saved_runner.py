"""A live call as a value and back: its reducer, legs, media, timers, and what its record will say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeVar

from dialplan.model import CallAttempt, Reason, Refusal, RoutePlan, Source, SourceKind, Target, TargetKind
from edge.b2bua import actions as do
from edge.b2bua import saved_call, saved_leg, saved_transfer
from edge.b2bua.bridge import BridgeLeg
from edge.b2bua.call import Phase
from edge.b2bua.engine import Engine
from edge.b2bua.events import CallEvent, LegId
from edge.b2bua.leg import Leg
from edge.b2bua.runner import CallRunner
from edge.b2bua.saved_call import SavedCall
from edge.b2bua.saved_leg import SavedLeg, SavedRequest, Wires
from edge.b2bua.saved_transfer import SavedConsultation, SavedTransfer
from edge.b2bua.uas_leg import UasLeg
from edge.cdr.record import Attempt
from edge.journal.packed import fields_of, packer, unpack
from edge.journal.values import decode, encode, parse
from edge.sip.headers import Headers
from edge.sip.message import Request


@dataclass(slots=True)
class SavedRoute:
    """What was decided of a call: it changes seldom, and is written when it does."""

    attempt: CallAttempt
    plan: RoutePlan


@dataclass(slots=True)
class SavedBridge:
    """One end of a bridge to another call (`edge.b2bua.bridge`)."""

    id: LegId
    request: SavedRequest
    far_call: str | None = None
    """None: the transfer was under way, and the call has nobody on this leg."""
    gone: bool = False


@dataclass(slots=True)
class SavedRunner:
    """A live call. Times are on the driver's clock, those of timers in seconds from when it was saved."""

    at: float
    started_at: datetime
    call: SavedCall
    legs: list[SavedLeg]
    bridges: list[SavedBridge] = field(default_factory=list)
    legs_made: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    branch_attempt: dict[LegId, int] = field(default_factory=dict)
    leg_target: dict[LegId, int] = field(default_factory=dict)
    """Index of each leg's target in the plan."""
    old_targets: dict[LegId, Target] = field(default_factory=dict)
    """Targets of legs that an earlier plan had."""
    winner_sip: str | None = None
    timers: dict[str, float] = field(default_factory=dict)
    media: dict[str, object] = field(default_factory=dict)
    held: list[tuple[str, str, str, int]] = field(default_factory=list)
    """Channels of the call: level, key, direction, units."""
    target_claim: str | None = None
    target_held: list[tuple[str, str, str, int]] = field(default_factory=list)
    finish: do.Finish | None = None
    reason: Reason | None = None
    refusal: Refusal | None = None
    conversation: str | None = None
    """Where transfers joined calls: the same for all of them; None: the call's own id."""
    taken: dict[LegId, Source] = field(default_factory=dict)
    transfer: SavedTransfer | None = None
    consultation: SavedConsultation | None = None
    answered_here: bool = False
    """A fax: its machine is gone with the process."""


class Head(NamedTuple):
    """What is asked of a call before it is read."""

    calm: bool
    """It is up and nothing is under way in it: it can wait a moment after a restart."""
    tags: list[str]
    """Our tags of its dialogs."""
    held: list[tuple[str, str, str, int]]
    target_claim: str | None
    target_held: list[tuple[str, str, str, int]]


Names = dict[str, list[str]]
"""The fields of each dataclass, in the order in which they were written."""
T = TypeVar("T")
Held = Callable[[str], list[tuple[str, str, str, int]]]
"""Channels that a holder holds."""


def head(saved: SavedRunner) -> Head:
    """The head of a saved call."""
    call = saved.call
    calm = call.phase is Phase.UP and call.change is None and saved.finish is None and not saved.answered_here
    calm = calm and saved.transfer is None and saved.consultation is None
    if calm and not saved.bridges:
        for leg in saved.legs:
            calm = calm and leg.answer is None and leg.incoming is None and leg.outgoing is None and not leg.gone
    tags = [leg.local_tag for leg in saved.legs]
    return Head(calm and not saved.bridges, tags, saved.held, saved.target_claim, saved.target_held)


_pack, _pack_route = packer(SavedRunner), packer(SavedRoute)


def state(call: CallRunner, wires: Wires, held: Held, now: float) -> bytes:
    """A live call as it is written: its head in a line, then all of it."""
    saved = save(call, wires, held, now)
    return encode(tuple(head(saved))) + b"\n" + _pack(saved)


def route(call: CallRunner) -> bytes:
    """What was decided of the call, as it is written."""
    return _pack_route(SavedRoute(call.attempt, call.plan))


def names() -> bytes:
    """What is to be known in order to read what `state` and `route` of this program wrote."""
    return encode(fields_of(SavedRunner, SavedRoute))


def read(state: bytes | memoryview, route: bytes | memoryview, names: Names) -> tuple[SavedRoute, SavedRunner]:
    """What `state`, without its head, and `route` wrote. Raises ValueError, TypeError, KeyError, AttributeError."""
    return _read(SavedRoute, bytes(route), names), _read(SavedRunner, bytes(state), names)


def _read(kind: type[T], content: bytes, names: Names) -> T:
    if content.startswith(b"{"):
        return decode(kind, parse(content))  # as earlier versions wrote it
    value, form = unpack(content, names)
    return decode(kind, value, form)


def save(call: CallRunner, wires: Wires, held: Held, now: float) -> SavedRunner:
    """A value that shares what it can with the call: to be written before anything else happens."""
    if call._finish is not None:
        # what its record says of the caller's leg; what is still to be said is written as `parted`
        legs = [saved_leg.settled(call.a)] if isinstance(call.a, UasLeg) else []
    else:
        standing = saved_transfer.standing(call)
        legs = [
            saved_leg.save(leg, wires)
            for leg in (standing.get(leg_id, leg) for leg_id, leg in call.legs.items())
            if isinstance(leg, Leg) and (leg is call.a or not leg.gone)
        ]
    saved = SavedRunner(
        now,
        call.started_at,
        saved_call.save(call._call),
        legs,
        [],
        call.legs_made,
        call.tries.all,
        call.tries.branch,
        {},
        {},
        call.tries.winner_call_id,
        {name: wires.left(timer) for name, timer in call._timers.items()},
        call.media.save(),
        held(call.id),
        call.claim,
    )
    if call.claim is not None:
        saved.target_held = held(call.claim)
    there = {leg.id for leg in legs}
    for leg_id, leg in call.legs.items():
        if isinstance(leg, BridgeLeg) and leg_id not in there:
            request = leg.request
            kept = SavedRequest(request.method, request.uri, request.headers.raw())
            saved.bridges.append(SavedBridge(leg_id, kept, saved_transfer.far_call(call, leg), leg.gone))
    targets = call.plan.targets
    for leg_id, target in call.tries.target.items():
        for index, known in enumerate(targets):
            if known is target:
                saved.leg_target[leg_id] = index
                break
        else:
            saved.old_targets[leg_id] = target
    saved.finish, saved.reason, saved.refusal = call._finish, call.reason, call.refusal
    saved.conversation = call.conversation if call.conversation != call.id else None
    saved.taken = call.taken
    saved.transfer = saved_transfer.save(call)
    saved.consultation = saved_transfer.save_consultation(call)
    saved.answered_here = call._here is not None
    return saved


def restore(
    call_id: str, saved: SavedRunner, decided: SavedRoute, engine: Engine, wires: Wires, away: float
) -> CallRunner:
    """The call that `save` was given `away` seconds ago; nothing is sent yet (`resume`)."""
    a_saved = next((leg for leg in saved.legs if leg.id == "a"), None)
    bridge = next((end for end in saved.bridges if end.id == "a"), None)
    call = CallRunner.__new__(CallRunner)
    made: dict[LegId, Leg | BridgeLeg] = {}
    stand_in = BridgeLeg("a", _nobody, Settled(), bridge.request.made() if bridge is not None else _gone(call_id))
    if a_saved is None and bridge is None:
        stand_in.gone = True
    # the rest of what a call is made of, before its legs can speak to it
    CallRunner.__init__(call, call_id, engine, stand_in, decided.attempt, decided.plan)
    call.plan = decided.plan
    call._call = saved_call.restore(saved.call, engine.call_timers)
    call.started_at = saved.started_at
    call.began = None
    call.media.restore(saved.media)
    call.legs_made = saved.legs_made
    call.tries.all = saved.attempts
    call.tries.branch = saved.branch_attempt
    call.tries.target = {
        leg_id: decided.plan.targets[index]
        for leg_id, index in saved.leg_target.items()
        if index < len(decided.plan.targets)
    }
    call.tries.target.update(saved.old_targets)
    call.tries.winner_call_id = saved.winner_sip
    call.claim = saved.target_claim
    call._finish, call.reason, call.refusal = saved.finish, saved.reason, saved.refusal
    call.conversation = saved.conversation or call_id
    call.taken = saved.taken
    for leg_saved in saved.legs:
        party = _carrier_on(call, leg_saved.id)
        authorize = engine.carriers.authorize(party) if party is not None else None
        leg = saved_leg.restore(leg_saved, engine.port, wires, call.post, engine.timers, authorize, away)
        made[leg.id] = leg
        engine.calls.add_leg(leg)
        if isinstance(leg, UasLeg):
            leg.on_new_tag = engine.calls.retag
        engine.tap.link(call_id, leg.call_id)
    for end in saved.bridges:
        made[end.id] = BridgeLeg(end.id, call.post, Settled(), end.request.made())
        made[end.id].gone = end.gone
    made.setdefault("a", stand_in)
    a = made["a"]
    assert isinstance(a, UasLeg | BridgeLeg)
    call.a, call.legs = a, made
    if saved.finish is not None:
        return call
    for name, left in saved.timers.items():
        call._timers[name] = engine.port.later(max(0.0, left - away), call._timer_fired, name)
    return call


def lost(call: CallRunner, last: datetime, why: str) -> None:
    """A call that cannot go on: it ended when the edge was last seen alive, which its record says."""
    call.lost_at = last
    call.end(41, why)


def resume(call: CallRunner, saved: SavedRunner, last: datetime) -> None:
    """Let a restored call go on: what was under way inside the edge is asked for again."""
    if saved.finish is not None:
        # it was over: only its media and its record are left to do
        call.engine.calls.finished(call, call.engine.driver.now())
        call.task(call._close())
        return
    if saved.answered_here:
        lost(call, last, "the edge was restarted during a fax")
        return
    nobody_calls = isinstance(call.a, BridgeLeg) and call.a.gone and call.answered_at is None
    cut_off = any(end.far_call is None for end in saved.bridges) or all(leg.gone for leg in call.legs.values())
    if nobody_calls or cut_off:
        lost(call, last, "the edge was restarted during a transfer")
        return
    call._run(saved_call.resume(call._call))
    call.drain()
    if saved.transfer is not None and not call.over:
        saved_transfer.resume(call, saved.transfer, call.engine.calls.get, call.engine.tap)
    if saved.consultation is not None and not call.over:
        saved_transfer.resume_consultation(call, saved.consultation)


def join(calls: Callable[[str], CallRunner | None], call: CallRunner, saved: SavedRunner) -> None:
    """Join the ends of bridges again, once all calls are there."""
    for end in saved.bridges:
        if end.far_call is None:
            continue
        far = calls(end.far_call)
        near = call.legs.get(end.id)
        other = next((leg for leg in far.legs.values() if isinstance(leg, BridgeLeg)), None) if far else None
        if isinstance(near, BridgeLeg) and other is not None and far is not None:
            near.join(other, far.id)


class Settled:
    """Nobody settles anything between calls whose transfer is over (`edge.b2bua.bridge.Settling`)."""

    def accepted(self, end: BridgeLeg, sdp: bytes | None) -> None: ...

    def refused(self, end: BridgeLeg, status: int) -> None: ...

    def progressed(self, end: BridgeLeg) -> None: ...

    def released(self, end: BridgeLeg, status: int, q850: int | None) -> None: ...


def _carrier_on(call: CallRunner, leg_id: LegId) -> str | None:
    """The carrier on a leg, whose challenges are answered."""
    if leg_id == "a":
        source = call.attempt.source
        return source.name if source.kind is SourceKind.CARRIER else None
    target = call.tries.target.get(leg_id)
    return target.name if target is not None and target.kind is TargetKind.CARRIER else None


def _gone(call_id: str) -> Request:
    return Request("INVITE", "sip:unknown.invalid", Headers([("Call-ID", call_id)]))


def _nobody(leg: LegId, event: CallEvent) -> None:
    """Hears nothing."""
