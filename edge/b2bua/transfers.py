"""Transfers of live calls: executes what the reducer `edge.b2bua.transfer` wants, on two calls and their legs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from dialplan.engine import decide
from dialplan.model import CallAttempt, Called, PassedOn, Refusal, Source
from edge.b2bua import events as ev
from edge.b2bua import transfer as t
from edge.b2bua.bridge import BridgeLeg
from edge.b2bua.engine import Engine
from edge.b2bua.events import CallEvent, LegId
from edge.b2bua.leg import Leg
from edge.b2bua.patience import Patience
from edge.b2bua.refer import ReferTo, Subscription
from edge.b2bua.refused import note_refusal
from edge.b2bua.runner import CallRunner
from edge.b2bua.unanswered import Unanswered, unanswered
from edge.cdr.record import Attempt
from edge.observability.logging import get_logger
from edge.sip.causes import REFUSALS
from edge.sip.headers import Headers
from edge.sip.message import Request
from edge.sip.uri import Uri, encode_user
from media.relay.port import RelayError, UnusableSdp
from media.sdp.passing import agrees, reoffer

log = get_logger("transfer")

_ADJUSTMENTS = 2
"""How often the target is told anew after the calls were joined, until both parties agree."""


class Transfers:
    """Begins transfers; `Calls.on_refer` of an edge."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, call: CallRunner, leg_id: LegId, to: ReferTo) -> None:
        """A REFER came on a leg of a call that is up."""
        leg = call.legs[leg_id]
        who = call.source_of(leg_id)
        if not isinstance(leg, Leg) or who is None or not who.account:
            leg.refuse_refer(403)
            return
        if call.transfer is not None or call.consulted:
            leg.refuse_refer(491)
            return
        subscription = leg.accept_refer()
        if subscription is not None:
            call.transfer = Transferring(self._engine, call, leg, who, to, subscription)
            call.transfer.start()


class Transferring:
    """One transfer; hears the transferor's legs and both ends of the bridge (`edge.b2bua.bridge.Settling`)."""

    def __init__(
        self, engine: Engine, call: CallRunner, leg: Leg, who: Source, to: ReferTo, subscription: Subscription
    ) -> None:
        self._engine = engine
        self._home = call
        self._leg = leg
        self.leg_id = leg.id
        self._who = who
        self._to = to
        self.subscription = subscription
        self._transfer = t.Transfer()
        self._mailbox: deque[t.TransferEvent] = deque()
        self._draining = False
        self._request = _request(engine, call, leg, to)
        self._near = BridgeLeg(leg.id, call.post, self, self._request)
        self._far: BridgeLeg | None = None
        self._away: CallRunner | None = None
        self._consult: Leg | None = None
        self._unanswered: Unanswered | None = None
        self.consulted_description: bytes | None = None
        self.was_passive = False
        """Whether the away call had given its relay session up already: it is joined with another one."""
        self.described: bytes | None = None
        self._told = b""
        self.answer: bytes | None = None
        self._adjusted = 0
        self._offered = False
        self._parting = False
        self._patience = Patience()
        self.attempt = Attempt("transfer", to.user, engine.clock.utcnow(), by=f"{who.kind.value} {who.name}")

    def start(self) -> None:
        """The REFER is accepted."""
        log.info("transfer.asked", call=self._home.id, by=self._who.name, attended=self._to.replaces is not None)
        self._leg.listen(self._from_transferor)
        if self._to.replaces is not None:
            self._find_consultation()
        self._run(self._transfer.start())
        self._drain()

    @property
    def standing(self) -> dict[LegId, Leg]:
        """The transferor's leg, where the call would be if there were no transfer (it does not outlive a restart)."""
        return {} if self._leg.gone else {self._leg.id: self._leg}

    @property
    def consulting(self) -> dict[LegId, Leg]:
        """The same in the other call, where the transferor spoke to the target."""
        leg, away = self._consult, self._away
        placed = leg is not None and away is not None and away.legs.get(leg.id) is self._far
        return {leg.id: leg} if placed and leg is not None and not leg.gone else {}

    def joining(self, call: CallRunner) -> str | None:
        """The other call, where the target has taken the offer and the calls are being joined."""
        if self._transfer.stage is not t.Stage.JOINING or self._away is None:
            return None
        return self._away.id if call is self._home else self._home.id

    def home_ended(self, q850: int | None) -> None:
        """The home call is over."""
        self._post(t.HomeEnded(q850))

    def _post(self, event: t.TransferEvent) -> None:
        self._mailbox.append(event)
        self._drain()

    def _drain(self) -> None:
        if self._draining:
            return
        self._draining = True
        try:
            while self._mailbox:
                self._run(self._transfer.on_event(self._mailbox.popleft()))
        except Exception as error:
            self._engine.internal_error("b2bua.transfer", error, call=self._home.id)
            self._collapse()
        finally:
            self._draining = False

    def _run(self, actions: list[t.TransferAction]) -> None:
        for action in actions:
            _DO[type(action)](self, action)

    def _collapse(self) -> None:
        """A fault of ours: end all that has a part in it, so that nothing leaks."""
        self._mailbox.clear()
        self._home.transfer = None
        for leg in (self._leg, self._consult):
            if leg is not None:
                self._let_go(leg)
        for call in (self._home, self._away):
            if call is not None:
                call.end(41, "internal error")

    # -- the transferor's legs ---------------------------------------------------------------------------------------

    def _from_transferor(self, leg_id: LegId, event: CallEvent) -> None:
        if isinstance(event, ev.Released):
            self._post(t.TransferorLeft())
        elif self._home.legs.get(leg_id) is self._leg:
            self._home.post(leg_id, event)
        else:
            _put_off(self._leg, event)

    def _from_consultation(self, leg_id: LegId, event: CallEvent) -> None:
        away, leg = self._away, self._consult
        if away is None or leg is None:
            return
        if isinstance(event, ev.Released):
            self._place_far()
            away.post(leg_id, ev.ModifyRefused(leg_id, 480))
            self._post(t.ConsultLeft())
        elif away.legs.get(leg_id) is leg:
            away.post(leg_id, event)
        else:
            _put_off(leg, event)

    def _find_consultation(self) -> None:
        replaces = self._to.replaces
        assert replaces is not None
        found = self._engine.calls.find(replaces)
        if found is None:
            return
        call, leg = found
        who = call.source_of(leg.id)
        other = call.other(leg.id)
        ringing = unanswered(call, leg) if other is None else None
        if who is None or who.account != self._who.account or (other is None and ringing is None):
            return
        if call.conversation == self._home.conversation or call.transfer is not None or call.consulted:
            return
        call.consulted = self
        self._away, self._consult = call, leg
        self.attempt = self.attempt._replace(call=call.id)
        if ringing is not None:
            far = self._far = BridgeLeg(leg.id, call.post, self, ringing.request)
            self._unanswered = Unanswered(call, ringing, far, self._gave_up)
            return
        self._note_target()
        self._far = BridgeLeg(leg.id, call.post, self, self._request)
        leg.listen(self._from_consultation)

    def _note_target(self) -> None:
        """Who the away call reached, for the record."""
        away, leg = self._away, self._consult
        other = away.other(leg.id) if away is not None and leg is not None else None
        if away is not None and other is not None:
            kind, name = away.party(other)
            self.attempt = self.attempt._replace(kind=kind, name=name)

    def _gave_up(self) -> None:
        """The transferor gave up his call that rings."""
        assert self._consult is not None
        self._engine.calls.retire(self._consult, self._engine.driver.now())
        self._post(t.ConsultLeft())

    # -- what the reducer wants --------------------------------------------------------------------------------------

    def _notify(self, action: t.Notify) -> None:
        if action.status >= 200:
            self._patience.renew()
        if action.status >= 300:
            self._take_back()
        self.subscription.notify(action.status)

    def _describe(self, action: t.Describe) -> None:
        self._home.task(self._describe_async())

    async def _describe_async(self) -> None:
        home = self._home
        remaining = home.other(self._leg.id)
        sdp = home.description(remaining) if remaining is not None else None
        if remaining is None or sdp is None:
            self._post(t.Missed(488, 88))
            return
        try:
            offer = await home.media.offer(remaining, reoffer(sdp))
        except UnusableSdp as error:
            self._post(t.Missed(error.status, 88))
        except RelayError as error:
            log.warning("relay.failed", call=home.id, detail=str(error))
            self._post(t.Missed(503, 41))
        else:
            self.described = sdp
            self._post(t.Described(offer))

    def _take_back(self) -> None:
        """The relay was told of somebody else in the transferor's place."""
        sdp, self.described = self.described, None
        remaining = self._home.other(self._leg.id)
        if sdp is not None and remaining is not None:
            self._home.task(self._take_back_async(remaining, sdp))

    async def _take_back_async(self, remaining: LegId, sdp: bytes) -> None:
        with suppress(UnusableSdp, RelayError):
            await self._home.media.take_back(remaining, sdp, self._leg.id)

    def _reach(self, action: t.Reach) -> None:
        self._told = action.sdp
        if self._to.replaces is None:
            self._call_target(action.sdp)
        elif self._away is None or self._far is None:
            self._post(t.Missed(481, 1))
        elif self._unanswered is not None and not self._unanswered.answered:
            if self._away.ringing_at is not None:
                self._post(t.Progressed())
        else:
            self._patience.when_settled(self._away, self._offer_far, lambda: self._post(t.Missed(491)))

    def _call_target(self, offer: bytes) -> None:
        """A blind transfer: a call of the transferor, for the party that remains."""
        engine, home = self._engine, self._home
        attempt = _attempt(engine, home, self._leg.id, self._who, self._to)
        call_id = engine.new_call_id()
        engine.calls.books.begin("transfer")
        plan = decide(attempt, engine.snapshot(), engine.clock.utcnow())
        if isinstance(plan, Refusal):
            self._refused(plan, attempt, call_id)
            return
        target = plan.targets[0] if plan.targets else None
        if target is not None:
            self.attempt = self.attempt._replace(kind=target.kind.value, name=target.name)
        self.attempt = self.attempt._replace(call=call_id)
        far = self._far = BridgeLeg("a", _unheard, self, self._request, offer)
        away = self._away = CallRunner(call_id, engine, far, attempt, plan)
        away.media.passive = True
        away.consulted = self
        plan.trace.add("T1", f"made by {self.attempt.by}, who transfers call {home.id}")
        far.listen(away.post)
        engine.tap.join(home.id, call_id)
        engine.calls.add(away)
        log.info("call.offered", call=call_id, transfer_of=home.id, account=plan.account, called=plan.called)
        away.task(away.admit(lambda refusal: self._refused(refusal, attempt, call_id)))

    def _refused(self, refusal: Refusal, attempt: CallAttempt, call_id: str) -> None:
        status, q850 = REFUSALS[refusal.reason.value]
        status = refusal.status or status
        note_refusal(self._engine, refusal, attempt, call_id, status, self._leg.flow, self._leg.call_id)
        self._post(t.Missed(status, q850))

    def _place_far(self) -> None:
        away, leg, far = self._away, self._consult, self._far
        if away is not None and leg is not None and far is not None and away.legs.get(leg.id) is leg:
            self.consulted_description = away.description(leg.id)
            away.legs[leg.id] = far
            self.was_passive, away.media.passive = away.media.passive, True

    def _offer_far(self) -> None:
        if self._far is not None:
            self._place_far()
            self._far.make_offer(self._told)

    def _join(self, action: t.Join) -> None:
        self._place_near()
        self._near.tell(ev.ModifyRefused(self._leg.id, 480))
        self._patience.renew()
        self.answer = action.sdp
        if not self._parting or not self._patience.again(self._offer_near):
            self._offer_near()

    def _parted(self) -> None:
        """The transferor has answered the BYE: no packet of his comes any more."""
        self._parting = False
        if self._transfer.stage is t.Stage.JOINING:
            self._patience.renew()
            self._offer_near()

    def _offer_near(self) -> None:
        if self._transfer.stage is not t.Stage.JOINING:
            return
        home, answer = self._home, self.answer
        if answer is None or self._offered:
            return
        self._offered = True
        self._patience.when_settled(home, lambda: self._near.make_offer(answer), lambda: self._post(t.Declined(491)))

    def _place_near(self) -> None:
        if self._home.legs[self._leg.id] is self._leg:
            self._home.legs[self._leg.id] = self._near

    def _hold_place(self, action: t.HoldPlace) -> None:
        self._place_near()
        self._near.tell(ev.ModifyRefused(self._leg.id, 480))

    def _give_back(self, action: t.GiveBack) -> None:
        self._home.legs[self._leg.id] = self._leg
        self._leg.listen(self._home.post)

    def _drop_remaining(self, action: t.DropRemaining) -> None:
        self._place_near()
        self._near.end(action.q850 or 16)

    def _leave_target(self, action: t.LeaveTarget) -> None:
        away, far, leg = self._away, self._far, self._consult
        if away is None or far is None:
            return
        if leg is None:
            if not away.over:
                if away.answered_at is None:
                    far.tell(ev.Cancelled(action.q850))
                else:
                    far.end(action.q850 or 16)
            return
        if self._unanswered is not None:
            return self._leave_ringing(self._unanswered, away, far, action)
        placed = away.legs.get(leg.id) is far
        if not placed:
            leg.listen(away.post)
        elif away.over or far.gone:
            self._let_go(leg)
        elif leg.gone:
            far.end(action.q850 or 16)
        else:
            away.legs[leg.id] = leg
            away.media.passive = self.was_passive
            leg.listen(away.post)
            self._restore(away, leg.id, self.consulted_description)

    def _leave_ringing(self, ringing: Unanswered, away: CallRunner, far: BridgeLeg, action: t.LeaveTarget) -> None:
        if away.over:
            return
        if ringing.answered:
            ringing.failed(480, action.q850)
            far.end(action.q850 or 16)
        elif action.consulted:
            ringing.give_back()
        else:
            far.tell(ev.Cancelled(action.q850))

    def _restore(self, call: CallRunner, leg_id: LegId, sdp: bytes | None) -> None:
        """The other party of `leg_id` may have been told of somebody else's media: tell it this leg's again."""
        if sdp is not None and not call.over:
            offered = ev.ModifyOffered(leg_id, sdp)
            Patience().when_settled(call, lambda: call.post(leg_id, offered), lambda: None)

    def _release_transferor(self, action: t.ReleaseTransferor) -> None:
        self._parting = not self._leg.gone
        self._let_go(self._leg, self._parted)
        if action.everywhere and self._consult is not None:
            self._let_go(self._consult)

    def _let_go(self, leg: Leg, then: Callable[[], None] | None = None) -> None:
        leg.listen(_nobody)
        if leg is self._consult and self._unanswered is not None:
            self._unanswered.replaced()
        else:
            leg.release(16, then)
        self._engine.calls.retire(leg, self._engine.driver.now())

    def _over(self, action: t.Over) -> None:
        home, away = self._home, self._away
        home.transfer = None
        if away is not None:
            away.consulted = None
        made = self.attempt._replace(status=action.status)
        done = "transferred the call" if action.joined else f"could not transfer the call ({action.status})"
        home.note_transfer(made, f"{made.by} {done} to {made.kind} {made.name}")
        log.info(
            "call.transferred" if action.joined else "transfer.failed",
            call=home.id,
            by=self._who.name,
            to=f"{self.attempt.kind} {self.attempt.name}",
            status=action.status,
            away=away.id if away is not None else None,
        )
        if not action.joined or away is None or self._far is None:
            return
        self._near.join(self._far, away.id)
        self._far.join(self._near, home.id)
        was = away.conversation
        for call in self._engine.calls.live():
            if call.conversation == was:
                call.conversation = home.conversation
                self._engine.calls.on_change(call)
        self._engine.tap.join(home.id, away.id)
        if self._consult is not None:
            away.plan.trace.add("T1", f"joined with call {home.id} by {self.attempt.by}")
            away.task(_give_ports_back(away))
        self._adjust(self.answer)

    # -- the ends of the bridge --------------------------------------------------------------------------------------

    def accepted(self, end: BridgeLeg, sdp: bytes | None) -> None:
        """See Settling."""
        stage = self._transfer.stage
        if end is self._far and self._unanswered is not None and not self._unanswered.answered:
            self._unanswered.answered = True
            self._place_far()
            self._note_target()
            if stage is t.Stage.REACHING:
                self._reach(t.Reach(self._told))
        elif stage is t.Stage.OVER:
            if end is self._near:
                self._adjust(sdp)
            elif sdp is not None:
                self._near.make_offer(sdp)
        elif end is self._near:
            self.answer = sdp
            self._post(t.Took())
        elif sdp is None:
            self._post(t.Missed(488, 88))
        else:
            self._post(t.Reached(sdp))

    def _adjust(self, sdp: bytes | None) -> None:
        """Where the remaining party took less than the target was offered (it holds, say), the target hears of it."""
        if sdp is None or self._far is None or self._adjusted == _ADJUSTMENTS or agrees(sdp, self._told):
            return
        self._adjusted += 1
        self._told = sdp
        self._far.make_offer(sdp)

    def refused(self, end: BridgeLeg, status: int) -> None:
        """See Settling."""
        if self._transfer.stage is t.Stage.OVER:
            return
        if status != 491 or not self._patience.again(end.repeat_offer):
            self._post(t.Declined(status) if end is self._near else t.Missed(status))

    def progressed(self, end: BridgeLeg) -> None:
        """See Settling."""
        self._post(t.Progressed())

    def released(self, end: BridgeLeg, status: int, q850: int | None) -> None:
        """See Settling; of the home call's end `home_ended` tells."""
        if end is self._far:
            if self._unanswered is not None:
                self._unanswered.failed(status, q850)
            self._post(t.Missed(status, q850))


async def _give_ports_back(call: CallRunner) -> None:
    await call.media.delete()


def _put_off(leg: Leg, event: CallEvent) -> None:
    """The transferor wants something of a call that he is leaving."""
    if isinstance(event, ev.ModifyOffered):
        leg.refuse_modification(491)
    elif isinstance(event, ev.Referred):
        leg.refuse_refer(491)
    elif isinstance(event, ev.TextReceived):
        leg.answer_text(event.number, 480)


def _attempt(engine: Engine, home: CallRunner, leg_id: LegId, who: Source, to: ReferTo) -> CallAttempt:
    """The transferor's call to the target, for whoever remains."""
    remaining = home.other(leg_id)
    return CallAttempt(
        who,
        (Called("request-uri", to.user, to.is_phone),),
        home.caller_on(leg_id),
        engine.draw(),
        PassedOn(*home.identity_of(remaining)) if remaining is not None else None,
    )


def _request(engine: Engine, home: CallRunner, leg: Leg, to: ReferTo) -> Request:
    """What the INVITEs to the target are made of, and the records."""
    uri = Uri("sip", encode_user(to.user), engine.domain)
    headers = Headers([("Max-Forwards", "70"), ("To", f"<{uri}>"), ("Call-ID", leg.call_id), ("CSeq", "1 INVITE")])
    headers.add("From", f"<sip:{encode_user(home.id)}@{engine.domain}>")
    return Request("INVITE", str(uri), headers)


def _nobody(leg_id: LegId, event: CallEvent) -> None:
    """Hears a leg that has left its call."""


def _unheard(leg_id: LegId, event: CallEvent) -> None:
    raise AssertionError("a bridge spoke before its call was there")


_DO: dict[type, Callable[..., None]] = {
    t.Notify: Transferring._notify,
    t.Describe: Transferring._describe,
    t.Reach: Transferring._reach,
    t.Join: Transferring._join,
    t.HoldPlace: Transferring._hold_place,
    t.GiveBack: Transferring._give_back,
    t.DropRemaining: Transferring._drop_remaining,
    t.LeaveTarget: Transferring._leave_target,
    t.ReleaseTransferor: Transferring._release_transferor,
    t.Over: Transferring._over,
}
