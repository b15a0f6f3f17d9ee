"""INVITE with Replaces from a phone: it takes the place of another of its account in a call that is up (RFC 3891)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dialplan.model import Source
from edge.b2bua import events as ev
from edge.b2bua.engine import Engine
from edge.b2bua.events import CallEvent, LegId
from edge.b2bua.leg import Leg
from edge.b2bua.patience import Patience
from edge.b2bua.refer import Replaces
from edge.b2bua.uas_leg import UasLeg
from edge.cdr.record import Attempt
from edge.observability.logging import get_logger

if TYPE_CHECKING:
    from edge.b2bua.runner import CallRunner

log = get_logger("transfer")


class ReplacingLeg(UasLeg):
    """Answers its INVITE once the call has agreed to its media; from then on it is a leg like any other."""

    takeover: Takeover | None = None

    def accept_modification(self, sdp: bytes | None) -> None:
        """See Leg."""
        if self.takeover is not None:
            self.takeover.accepted(sdp)
        else:
            super().accept_modification(sdp)

    def refuse_modification(self, status: int) -> None:
        """See Leg."""
        if self.takeover is not None:
            self.takeover.refused(status)
        else:
            super().refuse_modification(status)

    def release(self, q850: int | None, then: Callable[[], None] | None = None) -> None:
        """See Leg."""
        if self.takeover is not None:
            self.reject(487, q850)
        else:
            super().release(q850, then)


def take_over(engine: Engine, new: ReplacingLeg, who: Source, replaces: Replaces, call_id: str) -> None:
    """Put `new` in the place that `replaces` names, or refuse it; `call_id` is what its messages are traced under."""
    found = engine.calls.find(replaces)
    refused = 481
    if found is not None:
        call, old = found
        of = call.source_of(old.id)
        if of is not None and of.account == who.account and call.other(old.id) is not None:
            refused = 486 if replaces.early_only else 491 if call.transfer is not None else 0
    if refused or found is None:
        log.info("takeover.refused", by=who.name, status=refused)
        new.reject(refused)
        return
    new.id = old.id
    engine.calls.add_leg(new)
    engine.tap.join(call.id, call_id)
    call.transfer = Takeover(engine, call, old, new, who)
    call.transfer.start()


class Takeover:
    """One leg takes another's place."""

    def __init__(self, engine: Engine, call: CallRunner, old: Leg, new: ReplacingLeg, who: Source) -> None:
        self._engine = engine
        self._call = call
        self._old = old
        self._new = new
        self._who = who
        self._before = call.description(old.id)
        self._patience = Patience()
        new.takeover = self

    def start(self) -> None:
        """Begin."""
        self._old.listen(self._from_old)
        self._new.listen(self._from_new)
        self._offer()

    def _offer(self) -> None:
        self._patience.when_settled(self._call, self._offer_now, lambda: self._fail(491))

    def _offer_now(self) -> None:
        self._call.legs[self._old.id] = self._new
        self._call.post(self._old.id, ev.ModifyOffered(self._old.id, self._new.offer))

    def accepted(self, sdp: bytes | None) -> None:
        """The call agreed."""
        call, new, who = self._call, self._new, self._who
        new.takeover = None
        new.listen(call.post)
        new.accept(sdp)
        self._let_go_of_old()
        kind = who.kind.value
        made = Attempt(kind, who.name, self._engine.clock.utcnow(), 200, by=f"{kind} {who.name}")
        call.taken[new.id] = who
        call.note_transfer(made, f"{kind} {who.name} took the call over")
        log.info("call.taken_over", call=call.id, by=who.name)

    def refused(self, status: int) -> None:
        """The call did not."""
        if status != 491 or not self._patience.again(self._offer):
            self._fail(status)

    @property
    def standing(self) -> dict[LegId, Leg]:
        """The old leg, which stays where the takeover comes to nothing (it does not outlive a restart)."""
        return {self._old.id: self._old}

    def home_ended(self, q850: int | None) -> None:
        """The call is over."""
        self._new.takeover = None
        self._new.reject(487, q850)
        self._let_go_of_old()

    def _from_old(self, leg_id: LegId, event: CallEvent) -> None:
        if self._call.legs[leg_id] is self._old:
            if isinstance(event, ev.Released):
                self._new.takeover = None
                self._new.reject(481)
                self._end()
            self._call.post(leg_id, event)
        elif isinstance(event, ev.ModifyOffered):
            self._old.refuse_modification(491)
        elif isinstance(event, ev.Referred):
            self._old.refuse_refer(491)
        elif isinstance(event, ev.TextReceived):
            self._old.answer_text(event.number, 480)

    def _from_new(self, leg_id: LegId, event: CallEvent) -> None:
        if isinstance(event, ev.Cancelled):
            self._fail(487)

    def _fail(self, status: int) -> None:
        """All is as it was; whoever was told of the new leg's media is told of the old one's."""
        call, old, new = self._call, self._old, self._new
        new.takeover = None
        new.reject(status)
        self._engine.calls.retire(new, self._engine.driver.now())
        self._end()
        call.legs[old.id] = old
        old.listen(call.post)
        if old.gone:
            call.post(old.id, ev.Released(old.id, 16))
        elif self._before is not None:
            offered = ev.ModifyOffered(old.id, self._before)
            Patience().when_settled(call, lambda: call.post(old.id, offered), lambda: None)

    def _let_go_of_old(self) -> None:
        self._end()
        self._old.listen(_nobody)
        self._old.release(16)
        self._engine.calls.retire(self._old, self._engine.driver.now())

    def _end(self) -> None:
        self._patience.renew()
        self._call.transfer = None


def _nobody(leg_id: LegId, event: CallEvent) -> None:
    """Hears a leg that has left its call."""
