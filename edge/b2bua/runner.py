"""One live call: executes what the reducer wants and posts what comes of it back (docs/calls.md).

The only caller of `Call.on_event` and the only executor of its actions. Events go through a mailbox, so that the
reducer never runs inside itself, whatever a leg or the relay does synchronously.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from dialplan.engine import next_route
from dialplan.explain import channels
from dialplan.model import (
    CallAttempt,
    Caller,
    Direction,
    Identity,
    Outcome,
    Reason,
    Refusal,
    RoutePlan,
    Source,
    SourceKind,
    TargetKind,
)
from edge.b2bua import actions as do
from edge.b2bua import events as ev
from edge.b2bua import targeting
from edge.b2bua.actions import CallAction
from edge.b2bua.bridge import BridgeLeg
from edge.b2bua.call import Call, CallTimers
from edge.b2bua.call_media import WITHIN, CallMedia, MediaTerms, media_terms
from edge.b2bua.engine import Engine
from edge.b2bua.events import CallEvent, LegId
from edge.b2bua.hearing import Hearing, over_all_proxies
from edge.b2bua.leg import Leg
from edge.b2bua.port import Timer
from edge.b2bua.recording import make_record
from edge.b2bua.refused import note_refusal
from edge.b2bua.targeting import demands_status, give_back, limited, names
from edge.b2bua.tries import Tries
from edge.b2bua.uac_leg import UacLeg
from edge.b2bua.uas_leg import UasLeg
from edge.b2bua.work import Work
from edge.cdr.record import Attempt, CallRecord, finished_fields
from edge.channels.ledger import LimitReached
from edge.observability.logging import get_logger
from edge.sip.causes import REFUSALS
from media.relay.port import RelayError, RelayFull, RelayStats, UnusableSdp
from media.sdp.srtp import Srtp

if TYPE_CHECKING:
    from edge.b2bua.takeover import Takeover
    from edge.b2bua.transfers import Transferring

log = get_logger("call")


class AnsweredHere(Protocol):
    """What in the edge answered a call, in place of a leg towards somebody."""

    def heard(self, leg: LegId, event: CallEvent) -> None:
        """Something happened on the caller's leg; what it does not deal with itself it posts to the call."""
        ...

    def ended(self, detail: str) -> None:
        """The call is over."""
        ...


class CallRunner:
    """A call from its admission to its record."""

    __slots__ = (
        "_call",
        "_draining_mailbox",
        "_finish",
        "_here",
        "_mailbox",
        "_timers",
        "_works",
        "a",
        "attempt",
        "began",
        "claim",
        "consulted",
        "conversation",
        "engine",
        "hearing",
        "id",
        "legs",
        "legs_made",
        "lost_at",
        "media",
        "plan",
        "reason",
        "refusal",
        "started_at",
        "taken",
        "transfer",
        "tries",
    )

    def __init__(
        self, call_id: str, engine: Engine, a: UasLeg | BridgeLeg, attempt: CallAttempt, plan: RoutePlan
    ) -> None:
        """`a` is the caller's leg, or the end of a bridge where a transfer makes the call."""
        if plan.direction is Direction.EMERGENCY:
            # carriers that work first; those that count as down are tried after them, for want of anything better
            up = engine.carriers.up()
            plan = replace(plan, targets=tuple(sorted(plan.targets, key=lambda t: not up.get(t.name, False))))
        plan = over_all_proxies(plan, engine.carriers)
        self.id = call_id
        self.attempt = attempt
        self.plan = plan
        self.a = a
        self.legs: dict[LegId, Leg | BridgeLeg] = {"a": a}
        self.transfer: Transferring | Takeover | None = None
        """The transfer that replaces one of the legs, as long as it lasts."""
        self.consulted: Transferring | None = None
        """Whether a transfer of another call is to join this one."""
        self.conversation = call_id
        """The same for all calls that transfers have joined."""
        self.taken: dict[LegId, Source] = {}
        """Who took over a leg from whom the call was routed from or to."""
        self.started_at: datetime = engine.clock.utcnow()
        self.lost_at: datetime | None = None
        """When a call ended that a restart of the edge cut off; None: it ends when it ends."""
        self.began: float | None = engine.driver.now()
        """The same on the driver's clock; None for a call that an earlier process began."""
        self.engine = engine
        self._call = Call(
            a.offer,
            len(plan.targets),
            _call_timers(engine, plan),
            no_answer_after=plan.no_answer_after,
            emergency=plan.direction is Direction.EMERGENCY,
        )
        self.media = CallMedia(
            engine.relay.session(call_id, self._media_ended), engine.relay.bridges, self._media_terms
        )
        self._mailbox: list[CallEvent] = []  # a deque has 700 bytes, and there is hardly ever more than one event
        self._draining_mailbox = False
        self._timers: dict[str, Timer] = {}
        self._works: list[Work] = []
        self.tries = Tries()
        self._finish: do.Finish | None = None
        self.hearing = Hearing(engine.carriers)
        self.legs_made = 0
        self.claim: str | None = None
        """Who holds the channels of the target that is being tried."""
        self._here: AnsweredHere | None = None
        self.reason: Reason | None = None
        self.refusal: Refusal | None = None
        """Why the target that was to be tried last was not, by our own doing; None once INVITEs are out."""

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Admitted: route it."""
        if self._finish is None:
            self._run(self._call.start())
            self.drain()

    async def admit(self, refuse: Callable[[Refusal], None]) -> None:
        """Take the channels that the plan needs and start; where there is none free the number's `on_limit` route is
        taken, or the call is refused."""
        plan = self.plan
        while plan.claims:
            reached = await self.engine.channels.admit(self.id, plan.claims)
            if self.over:
                self.engine.channels.release(self.id)  # the caller gave up while the ledger answered
                return
            if reached is None:
                plan.trace.add("L1", f"channels: {channels(plan.claims)}")
                break
            plan.trace.add("L2", str(reached))
            following = next_route(
                plan, Outcome.LIMIT, self.attempt, self.engine.snapshot(), self.engine.clock.utcnow()
            )
            if not isinstance(following, RoutePlan):
                self._limited(plan, reached, following, refuse)
                return
            log.info("call.rerouted", call=self.id, outcome="limit", limit_level=reached.level, to=names(following))
            plan = over_all_proxies(following, self.engine.carriers)
        self.plan = plan
        self._call.retarget(len(plan.targets), plan.no_answer_after)
        self.start()

    def _limited(
        self, plan: RoutePlan, reached: LimitReached, following: Refusal | None, refuse: Callable[[Refusal], None]
    ) -> None:
        self.a.forget()
        self._finish = do.Finish("refused", "edge", 486)
        self._let_go()
        self.engine.calls.finished(self, self.engine.driver.now())
        why = limited(reached, plan)
        if demands_status(following):
            why = replace(why, status=following.status or REFUSALS[following.reason.value][0])
        trace = plan.trace if following is None else following.trace
        refuse(replace(why, account=plan.account, number=plan.called, trace=trace))

    @property
    def over(self) -> bool:
        """True once the call has its outcome (the caller may give up while it is still being admitted)."""
        return self._finish is not None

    @property
    def state(self) -> str:
        """Where the call stands, for the live view."""
        return self._call.phase.value

    @property
    def answered_at(self) -> float | None:
        """When the call was answered, on the driver's clock."""
        return self._call.answered_at

    @property
    def ringing_at(self) -> float | None:
        """When the called side first rang, on the driver's clock."""
        return self._call.ringing_at

    @property
    def winner_call_id(self) -> str | None:
        """Call-ID of the B-leg that answered."""
        return self.tries.winner_call_id

    # -- what transfers ask ------------------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """True where nobody in the call waits for the answer to an offer."""
        return self._call.settled

    def other(self, leg: LegId) -> LegId | None:
        """The other leg of a call that is up."""
        return self._call.other(leg)

    def description(self, leg: LegId) -> bytes | None:
        """What the party of a leg last said of its media."""
        return self._call.description(leg)

    def party(self, leg: LegId) -> tuple[str, str]:
        """Kind and name of who is on a leg: carrier, trunk or seat."""
        who = self.taken.get(leg) or (self.attempt.source if leg == "a" else self.tries.target[leg])
        return who.kind.value, who.name

    def source_of(self, leg: LegId) -> Source | None:
        """Who is on a leg, as one who calls; None for carriers, which call nobody at a customer's cost."""
        who = self.taken.get(leg) or (self.attempt.source if leg == "a" else None)
        if who is not None:
            return who if who.kind is not SourceKind.CARRIER else None
        target = self.tries.target[leg]
        if target.kind not in (TargetKind.SEAT, TargetKind.TRUNK):
            return None
        return Source(SourceKind(target.kind.value), target.name, target.account)

    def caller_on(self, leg: LegId) -> Caller:
        """What the party of a leg says of itself when it calls somebody."""
        if leg in self.taken:
            return Caller()
        return self.attempt.caller if leg == "a" else Caller(from_user=self.tries.target[leg].user)

    def identity_of(self, leg: LegId) -> tuple[Identity, bool]:
        """Who is on a leg, as others may know it, and whether that party is the caller."""
        return (self.plan.caller, True) if leg == "a" else (Identity(self.plan.called), False)

    def note_transfer(self, attempt: Attempt, text: str) -> None:
        """Keep for the record that a leg was, or was to be, replaced."""
        self.tries.noted(attempt)
        self.plan.trace.add("T1", text)

    # -- events ------------------------------------------------------------------------------------------------------

    def post(self, leg: LegId, event: CallEvent) -> None:
        """Something happened on a leg."""
        if self.hearing.awaited:
            self.hearing.heard(leg, event)
        self.enqueue(event)
        self.drain()

    def enqueue(self, event: CallEvent) -> None:
        """An event that the reducer gets with the next `drain`."""
        self._mailbox.append(event)

    def end(self, q850: int, detail: str) -> None:
        """End the call from our side."""
        self.post("a", ev.Ended(q850, detail))

    def drain(self) -> None:
        """Let the reducer see what is queued, and do what it wants."""
        if self._draining_mailbox:
            return
        self._draining_mailbox = True
        try:
            while self._mailbox:
                event = self._mailbox.pop(0)
                if type(event) is ev.Rejected or type(event) is ev.Moved:
                    self.tries.failed(event)
                self._run(self._call.on_event(event, self.engine.driver.now()))
        except Exception as error:
            self.engine.internal_error("b2bua.call", error, call=self.id)
            self._collapse()
        finally:
            self._draining_mailbox = False
        self.engine.calls.on_change(self)
        if self._finish is not None:
            self._let_go()

    def _run(self, actions: list[CallAction]) -> None:
        for action in actions:
            _DO[type(action)](self, action)

    def _collapse(self) -> None:
        """A fault of ours: end what can be ended, so that nothing leaks."""
        self._mailbox.clear()
        self.a.reject(500)
        for leg in self.legs.values():
            if isinstance(leg, UacLeg):
                leg.cancel(answered_elsewhere=False)
            leg.release(41)
        if self._finish is None:
            self._finished(do.Finish("failed", "edge", 500, 41, "internal error"))

    def task(self, work: Coroutine[None, None, None]) -> None:
        """Do something beside the call, at once as far as it need not wait; a fault in it ends the call."""
        begun = Work(work, self._worked)
        self._works.append(begun)
        begun.begin()

    def _worked(self, work: Work, error: BaseException | None) -> None:
        self._works.remove(work)
        if error is not None and not isinstance(error, asyncio.CancelledError):
            self.engine.internal_error("b2bua.task", error, call=self.id)
            self.end(41, "internal error")

    # -- answered by the edge itself ---------------------------------------------------------------------------------

    def answer_here(self, owner: AnsweredHere, sdp: bytes) -> None:
        """The edge itself is the called party: it answers the caller with `sdp`, and hears the caller's leg first."""
        target = self.plan.targets[self._call.target]
        self.tries.not_sent(target, self.engine.clock.utcnow(), 200)
        self.refusal = None
        self._here = owner
        self.media.passive = True
        self.task(self._give_back_media())
        self.a.listen(owner.heard)
        self._run(self._call.answer_here(sdp, self.engine.driver.now()))

    async def _give_back_media(self) -> None:
        await self.media.delete()

    # -- legs -------------------------------------------------------------------------------------------------------

    def _progress(self, action: do.Progress) -> None:
        self.a.progress(action.status, action.sdp)

    def _accept(self, action: do.Accept) -> None:
        self.a.accept(action.sdp)
        winner = self._call.winner
        if winner is not None:
            self.tries.answered(winner, self.legs[winner].call_id)
        log.info("call.answered", call=self.id)

    def _reject(self, action: do.Reject) -> None:
        self.a.reject(action.status, action.q850)

    def _cancel(self, action: do.Cancel) -> None:
        self.hearing.given_up(action.leg, self.engine.driver.now())
        leg = self.legs[action.leg]
        if isinstance(leg, UacLeg):
            leg.cancel(answered_elsewhere=action.answered_elsewhere)

    def _ack(self, action: do.Ack) -> None:
        self.legs[action.leg].ack(action.sdp)

    def _release(self, action: do.Release) -> None:
        self.legs[action.leg].release(action.q850)

    def _modify(self, action: do.Modify) -> None:
        self.legs[action.leg].modify(action.sdp, update=action.update)

    def _accept_modify(self, action: do.AcceptModify) -> None:
        self.legs[action.leg].accept_modification(action.sdp)

    def _refuse_modify(self, action: do.RefuseModify) -> None:
        self.legs[action.leg].refuse_modification(action.status)

    def _send_info(self, action: do.SendInfo) -> None:
        self.legs[action.leg].info(action.content_type, action.body)

    def _send_text(self, action: do.SendText) -> None:
        self.legs[action.leg].text(action.number, action.text)

    def _answer_text(self, action: do.AnswerText) -> None:
        self.legs[action.leg].answer_text(action.number, action.status, action.accept)

    def _transfer(self, action: do.Transfer) -> None:
        self.engine.calls.on_refer(self, action.leg, action.to)

    def _refuse_transfer(self, action: do.RefuseTransfer) -> None:
        self.legs[action.leg].refuse_refer(action.status)

    # -- media and timers -------------------------------------------------------------------------------------------

    def _relay_forward(self, action: do.RelayForward) -> None:
        self.task(self._relay_forward_async(action))

    async def _relay_forward_async(self, action: do.RelayForward) -> None:
        try:
            sdp = await self._described(action)
        except UnusableSdp as error:
            log.info("media.unusable", call=self.id, leg=action.leg, reason=error.reason, detail=error.detail)
            if action.purpose == "offer":
                self.refusal = Refusal(Reason(error.reason), error.detail, error.status)
            elif self._call.answered_at is None:
                self.reason = Reason(error.reason)
            self.post("a", ev.RelayFailed(action.purpose, action.leg, error.status, error.detail))
        except RelayError as error:
            log.warning("relay.failed", call=self.id, detail=str(error))
            if action.purpose == "offer":
                reason = Reason.MEDIA_FULL if isinstance(error, RelayFull) else Reason.UNAVAILABLE
                self.refusal = Refusal(reason, f"the media relay: {error}")
            self.post("a", ev.RelayFailed(action.purpose, action.leg, 503, str(error)))
        else:
            self.post("a", ev.Relayed(action.purpose, action.leg, sdp))

    async def _described(self, action: do.RelayForward) -> bytes:
        if action.purpose == "offer":
            carriers = self.engine.snapshot().carriers
            names = [t.name for t in self.plan.targets if t.kind is TargetKind.CARRIER]
            lists = [carriers[name].codecs for name in names if name in carriers]
            return await self.media.offer(action.leg, action.sdp, lists)
        to = self._call.winner if action.leg == "a" else "a"
        return await self.media.forward(
            action.purpose, action.leg, action.sdp, to or "a", self._call.description(to or "a")
        )

    def srtp_of_caller(self) -> Srtp:
        """Whether the caller's media are encrypted, for who answers the call here. Raises UnusableSdp."""
        return self._media_terms("a").srtp

    def _media_terms(self, leg_id: LegId) -> MediaTerms:
        leg = self.legs[leg_id]
        if isinstance(leg, BridgeLeg):
            return WITHIN
        engine = self.engine
        kind, name = self.party(leg_id)
        who = self.taken.get(leg_id) or (self.attempt.source if leg_id == "a" else self.tries.target[leg_id])
        keys = leg.flow.transport == "tls" or engine.srtp_without_tls
        return media_terms(engine.snapshot(), kind, name, who.account, tls=keys)

    def _media_ended(self) -> None:
        if lost := self.media.lost:
            return self.post("a", ev.MediaLost(lost))
        self.engine.metrics.media_timed_out()
        self.post("a", ev.MediaTimedOut())

    def _start_timer(self, action: do.StartTimer) -> None:
        self._stop_timer(action)
        self._timers[action.name] = self.engine.port.later(action.after, self._timer_fired, action.name)

    def _stop_timer(self, action: do.StartTimer | do.StopTimer) -> None:
        timer = self._timers.pop(action.name, None)
        if timer is not None:
            timer.cancel()

    def _timer_fired(self, name: str) -> None:
        self._timers.pop(name, None)
        self.post("a", ev.TimerFired(name))

    # -- the end ----------------------------------------------------------------------------------------------------

    def _finished(self, action: do.Finish) -> None:
        self._finish = action
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        give_back(self)
        self.engine.channels.release(self.id)
        self.engine.calls.finished(self, self.engine.driver.now())
        if self.transfer is not None:
            self.transfer.home_ended(action.q850)
        if self._here is not None:
            self._here.ended(action.detail)
        self.task(self._close())

    def _let_go(self) -> None:
        """Legs outlive the call, to acknowledge a repeated 2xx: those that have nothing more to say forget it."""
        for leg in self.legs.values():
            if leg.gone:
                leg.listen(_nobody)

    async def _close(self) -> None:
        finish = self._finish
        assert finish is not None
        engine, why = self.engine, self.refusal
        stats = await self.media.delete()
        if why is not None and finish.outcome not in ("answered", "cancelled"):
            self.reason = self.reason or why.reason
            if not self.legs_made and isinstance(self.a, UasLeg):
                # nobody was called: that is a refusal of ours, whatever it looks like from outside
                finish = replace(finish, outcome="refused", released_by="edge")
                why = replace(why, account=self.plan.account, number=self.plan.called)
                note_refusal(engine, why, self.attempt, self.id, finish.status, self.a.flow, None)
                self._write(make_record(self, finish, stats))
                return
        record = make_record(self, finish, stats)
        self._write(record)
        started = record.ringing_at or record.answered_at
        engine.metrics.call_finished(
            record.direction,
            record.outcome,
            (started - record.started_at).total_seconds() if started is not None else None,
            (record.ended_at - record.answered_at).total_seconds() if record.answered_at is not None else None,
        )
        if record.media is not None:
            media = record.media
            engine.metrics.heard(media.mos_a, media.mos_b, media.jitter_a, media.jitter_b)
        log.info("call.finished", **finished_fields(record))

    def _write(self, record: CallRecord) -> None:
        self.engine.calls.books.recorded(self.id, record.outcome)
        if record.outcome in _WORTH_KEEPING or (record.outcome == "answered" and record.released_by == "edge"):
            self.engine.tap.keep(self.id)
        self.engine.records.put(record)

    def record_so_far(self) -> CallRecord:
        """The record as it would be if the call ended now; its outcome is the call's state."""
        return make_record(self, do.Finish(self.state, "", 0), RelayStats())


_WORTH_KEEPING = frozenset(("refused", "failed", "rejected", "unreachable"))
"""Outcomes that somebody will ask about."""


def _call_timers(engine: Engine, plan: RoutePlan) -> CallTimers:
    """The edge's timers, with the account's own limit for a call that is no emergency."""
    account = engine.snapshot().accounts.get(plan.account)
    if account is None or account.max_call_minutes is None or plan.direction is Direction.EMERGENCY:
        return engine.call_timers
    return replace(engine.call_timers, longest=min(engine.call_timers.longest, account.max_call_minutes * 60.0))


def _nobody(leg: LegId, event: CallEvent) -> None:
    """Hears a leg of a call that is over."""


_DO: dict[type, Callable[..., None]] = {
    do.StartTarget: targeting.start,
    do.AskNextRoute: targeting.ask_next_route,
    do.Forward: targeting.follow,
    do.RelayForward: CallRunner._relay_forward,
    do.Progress: CallRunner._progress,
    do.Accept: CallRunner._accept,
    do.Reject: CallRunner._reject,
    do.Cancel: CallRunner._cancel,
    do.Ack: CallRunner._ack,
    do.Release: CallRunner._release,
    do.Modify: CallRunner._modify,
    do.AcceptModify: CallRunner._accept_modify,
    do.RefuseModify: CallRunner._refuse_modify,
    do.SendInfo: CallRunner._send_info,
    do.SendText: CallRunner._send_text,
    do.AnswerText: CallRunner._answer_text,
    do.Transfer: CallRunner._transfer,
    do.RefuseTransfer: CallRunner._refuse_transfer,
    do.StartTimer: CallRunner._start_timer,
    do.StopTimer: CallRunner._stop_timer,
    do.Finish: CallRunner._finished,
}
