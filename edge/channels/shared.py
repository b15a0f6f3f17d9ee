"""The channel ledger of edges that share their numbers (docs/channels.md).

What an edge's own calls hold is in its memory, and that is the truth. The shared counts are told: asked before a call
that some limit could refuse, told afterwards of everything else. One statement is under way at a time, and what comes
meanwhile goes together in the next. Where an answer stays away the edge counts alone, then tells all it holds anew.
An edge that is the only one decides by itself. When another one joins it stops, and only then says that it has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import structlog

from dialplan.model import ChannelClaim
from edge.channels.counts import ALONE_FOR, Claim, Counts, CountsAway, Lease, Session, Verdict
from edge.channels.ledger import STARTS, Ledger, LimitReached, Row

WAIT = 1.0
"""Seconds that a call waits at most for the shared counts: for the statement under way, and for its own."""
TELL_AFTER = 0.05
"""Seconds after which the shared counts hear of what nobody waits for, if no call takes it along earlier."""
HEARTBEAT = 3.0
"""Seconds without a call after which this edge speaks all the same."""
_JOINING, _JOINING_PAUSE = ALONE_FOR + 1.5, 0.01
"""Seconds that this edge waits at most for another one to decide no longer by itself, and between two looks."""
_SECOND_LOOK = 0.01
_PATIENCE = WAIT / 2 - _SECOND_LOOK
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 2.0
_STOP_SECONDS = 2.0


class _Ask:
    """A call that waits for its verdict."""

    __slots__ = ("answer", "call_id", "claims", "released")

    def __init__(self, call_id: str, claims: tuple[ChannelClaim, ...], answer: asyncio.Future[LimitReached | None]):
        self.call_id = call_id
        self.claims = claims
        self.answer = answer
        self.released = False


class SharedChannels:
    """Counts this edge's calls together with those of other edges. `start` and `stop` it in the event loop.

    `now` gives seconds, monotonic.
    """

    def __init__(self, counts: Counts, now: Callable[[], float] = time.monotonic) -> None:
        self.shared = False
        """The shared counts are asked. False: this edge counts alone."""
        self._counts = counts
        self._now = now
        self._ledger = Ledger()
        self._epoch = 0
        self._fresh = True
        self._telling = False
        """Changes are noted in `_changed`; else the next `resume` tells everything."""
        self._changed: dict[tuple[str, Row], None] = {}
        self._asks: list[_Ask] = []
        self._under_way: list[_Ask] = []
        self._session: Session | None = None
        self._alone_until = 0.0
        self._stay = True
        """False: this edge decides by itself no longer, which the shared counts have to hear."""
        self._granted = False
        """They may believe that it does."""
        self._too_late = False
        self._wake: asyncio.Future[None] | None = None
        self._tell_timer: asyncio.TimerHandle | None = None
        self._tell_at = 0.0
        self._tell_now = False
        self._loop: asyncio.AbstractEventLoop
        self._late_at: float | None = None
        """When the answer of the statement under way is late; None: none is under way."""
        self._watch: asyncio.TimerHandle | None = None
        self._first_try: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._log = structlog.get_logger(room="channels")

    # -- what calls ask ----------------------------------------------------------------------------------------------

    async def admit(self, call_id: str, claims: tuple[ChannelClaim, ...]) -> LimitReached | None:
        """Take all claims for this call, or none and say which limit stands against it.

        Never fails, and waits at most `WAIT` seconds: where the shared counts do not answer in time, only this edge's
        own calls count against the limits. A call without limits does not wait.
        """
        if self.shared and not self._decides(claims):
            for claim in claims:
                if claim.limit is not None:
                    ask = _Ask(call_id, claims, self._loop.create_future())
                    self._asks.append(ask)
                    self._wake_up()
                    return await ask.answer
        return self._decide_alone(call_id, claims)

    def _decides(self, claims: tuple[ChannelClaim, ...]) -> bool:
        """Whether this edge may decide by itself: it is the only one, and its ledger has all that was admitted. Not
        while others are asked for a call, who know nothing of the last moment; nor of calls begun in this second, since
        who joins would not know of them."""
        if self._under_way or self._asks or self._now() >= self._alone_until:
            return False
        return all(claim.direction != STARTS for claim in claims)

    def release(self, call_id: str) -> None:
        """Give back all that this call took, or is being admitted to; twice is as good as once."""
        for ask in self._asks:
            if ask.call_id == call_id:
                ask.released = True
        for ask in self._under_way:
            if ask.call_id == call_id:
                ask.released = True
        self._note(call_id, self._ledger.release(call_id))

    def held(self, call_id: str) -> list[tuple[str, str, str, int]]:
        """What a call holds: level, key, direction, units."""
        return self._ledger.held(call_id)

    def restore(self, call_id: str, held: Iterable[tuple[str, str, str, int]]) -> None:
        """Before `start`: a call of an earlier process of this edge goes on with what it held, whatever the limits."""
        claims = tuple(ChannelClaim(level, key, direction, None, units) for level, key, direction, units in held)
        self._ledger.take(call_id, claims, self._now())

    def used(self, level: str, key: str, direction: str) -> int:
        """Channels of one row in use by calls of this edge."""
        return self._ledger.used(level, key, direction)

    def by_level(self) -> dict[str, int]:
        """Channels in use by calls of this edge, summed by level, for the metric."""
        return self._ledger.by_level()

    def leases(self) -> list[Lease]:
        """All that calls of this edge hold."""
        return list(self._ledger.leases())

    def holders(self) -> Iterable[str]:
        """Who holds something: calls of this edge, and their targets' claims."""
        return self._ledger.holders()

    @property
    def calls(self) -> int:
        """Calls of this edge that hold channels."""
        return self._ledger.calls

    def _decide_alone(self, call_id: str, claims: tuple[ChannelClaim, ...]) -> LimitReached | None:
        reached = self._ledger.admit(call_id, claims, self._now())
        if reached is None:
            self._note(call_id, (claim[:3] for claim in claims if claim.direction != STARTS))
        return reached

    def _note(self, call_id: str, rows: Iterable[Row]) -> None:
        """The shared counts have to hear what the call holds of `rows` now."""
        if not self._telling:
            return
        if not self._changed:
            self._tell_at = self._loop.time() + TELL_AFTER
        for row in rows:
            self._changed[call_id, row] = None
        if self._tell_timer is None and self._changed:
            self._tell_timer = self._loop.call_at(self._tell_at, self._tell)

    def _tell(self) -> None:
        self._tell_timer = None
        if not self._changed:
            return
        if self._loop.time() < self._tell_at:
            # a call took along what this timer was for
            self._tell_timer = self._loop.call_at(self._tell_at, self._tell)
            return
        self._tell_now = True
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect; where that fails, count alone and go on trying."""
        loop = self._loop = asyncio.get_running_loop()
        self._first_try = loop.create_future()
        self._task = loop.create_task(self._run())
        await self._first_try

    async def stop(self) -> None:
        """Tell what is to be told, give back what is still held, and end."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping = True
        self._wake_up()
        await asyncio.wait([task], timeout=_STOP_SECONDS)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while not self._stopping:
                connected_at = self._now()
                try:
                    self._session = await self._counts.connect()
                    await self._speak(self._session)
                except Exception as error:
                    if not isinstance(error, CountsAway):
                        # a fault of ours must not end the sharing, nor leave a call without its verdict
                        self._log.error("internal_error", where="channels", exc_info=error)
                    lasted = self.shared and self._now() - connected_at > _LAST_PAUSE
                    self._count_alone(str(error))
                    pause = _FIRST_PAUSE if lasted else min(pause * 2, _LAST_PAUSE)
                    self._tried()
                    if not self._stopping:
                        await self._rest(pause)
        finally:
            self._count_alone("this edge stops")
            self._tried()
            for timer in (self._tell_timer, self._watch):
                if timer is not None:
                    timer.cancel()

    def _tried(self) -> None:
        if self._first_try is not None and not self._first_try.done():
            self._first_try.set_result(None)

    def _count_alone(self, why: str) -> None:
        """The connection is no more."""
        session, self._session = self._session, None
        if session is not None:
            session.abort()
        if self.shared and not self._stopping:
            self._log.warning("channels.counting_alone", reason="no answer in time" if self._too_late else why)
        self._too_late = False
        self._fall_back()

    def _fall_back(self) -> None:
        """From now on this edge counts alone; so are those answered who wait."""
        self.shared = self._telling = False
        self._alone_until = 0.0
        self._changed.clear()
        asks, self._under_way, self._asks = self._under_way + self._asks, [], []
        for ask in asks:
            if not ask.answer.done():
                ask.answer.set_result(None if ask.released else self._decide_alone(ask.call_id, ask.claims))

    async def _rest(self, seconds: float) -> None:
        """Wait until woken up, at most `seconds`."""
        wake = self._wake = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._wake_up)
        try:
            await wake
        finally:
            timer.cancel()
            self._wake = None

    # -- over one connection -----------------------------------------------------------------------------------------

    async def _speak(self, session: Session) -> None:
        """Tell what is held, then answer calls until this edge stops. Raises CountsAway."""
        session.joined = self._joined
        wrong = await session.recount()
        if wrong:
            self._log.error("channels.recounted", rows=wrong, reason="the tables were changed by hand")
        while True:
            await self._resume(session)
            beat_at = self._now() + HEARTBEAT
            while True:
                now = self._now()
                if not self._asks and not self._tell_now and now < beat_at:
                    if not self._stopping:
                        await self._rest(max(beat_at - now, 0.001))
                        continue
                    if not self._changed:
                        await session.leave()
                        return
                beat_at = now + HEARTBEAT
                if not await self._exchange(session):
                    break
            self._log.warning("channels.given_up", reason="silent for too long, or another edge has the same name")

    async def _resume(self, session: Session) -> None:
        self._epoch += 1
        self._changed.clear()
        self._telling = True
        held = list(self._ledger.leases())
        if not await session.resume(self._epoch, self._fresh, held):
            raise CountsAway(f"epoch {self._epoch} of this edge is over")
        self._fresh = False
        self._stay = self._granted = True  # what the last answer was may be lost
        until = self._now() + _JOINING
        while await session.alone_elsewhere() and self._now() < until and not self._stopping:
            await self._rest(_JOINING_PAUSE)
        self.shared = True
        self._tried()
        self._log.info("channels.shared", calls=self._ledger.calls)

    async def _exchange(self, session: Session) -> bool:
        """Tell what changed and ask for those who wait. False: this edge was given up meanwhile."""
        asks, self._asks = self._asks, []
        holds = self._ledger.holds
        leases = [(call_id, *row, holds(call_id, row)) for call_id, row in self._changed]
        self._changed.clear()
        self._tell_now = False
        claims: list[Claim] = []
        rows: dict[Row, int] = {}
        under_way = self._under_way = []
        for ask in asks:
            if ask.released or ask.answer.done():
                _answer(ask, None)
                continue
            under_way.append(ask)
            for claim in ask.claims:
                row = claim[:3]
                number = rows.setdefault(row, len(rows) + 1)
                claims.append((len(under_way), number, ask.call_id, *row, claim.units, claim.limit))
        sent_at, stay = self._now(), self._stay
        self._late_at = self._loop.time() + _PATIENCE
        if self._watch is None:
            self._watch = self._loop.call_at(self._late_at, self._look)
        try:
            exchanged = await session.exchange(self._epoch, leases, claims, stay)
        finally:
            self._late_at = None
        if exchanged is None:
            self._fall_back()
            return False
        self._under_way = []
        for ask, verdict in zip(under_way, exchanged.verdicts, strict=True):
            self._settle(ask, verdict)
        self._granted = exchanged.alone or (self._granted and stay)
        if exchanged.alone and self._stay:
            self._alone_until = sent_at + ALONE_FOR
            self._decide_waiting()
        elif self._granted:
            self._joined()
        else:
            self._alone_until, self._stay = 0.0, True
        return True

    def _decide_waiting(self) -> None:
        """Nobody else counts: who asked while that was not known need not wait for a statement of his own."""
        asks, self._asks = self._asks, []
        for nth, ask in enumerate(asks):
            if not self._decides(ask.claims):
                self._asks = asks[nth:]
                return
            _answer(ask, None if ask.released else self._decide_alone(ask.call_id, ask.claims))

    def _joined(self) -> None:
        """Another edge is there, and waits for this one to say that it asks from now on."""
        self._alone_until = 0.0
        self._stay, self._tell_now = False, True
        self._wake_up()

    def _look(self) -> None:
        """Is the answer late? One timer watches over many statements: most answer within a millisecond."""
        self._watch = None
        if self._late_at is None or self._session is None:
            return
        if self._loop.time() < self._late_at:
            self._watch = self._loop.call_at(self._late_at, self._look)
        else:
            # after a pause of ours timers run before sockets are read: the answer may lie there
            self._watch = self._loop.call_later(_SECOND_LOOK, self._look_again, self._session, self._late_at)

    def _look_again(self, session: Session, late_at: float) -> None:
        self._watch = None
        if self._late_at == late_at:
            self._too_late = True
            session.abort()
        elif self._late_at is not None:
            self._watch = self._loop.call_at(self._late_at, self._look)

    def _settle(self, ask: _Ask, verdict: Verdict) -> None:
        if verdict.against:
            claim = ask.claims[verdict.against - 1]
            assert claim.limit is not None
            _answer(ask, LimitReached(claim.level, claim.key, claim.direction, claim.limit, verdict.in_use))
        elif ask.released or ask.answer.done():
            # nobody wants it any more
            self._note(ask.call_id, (claim[:3] for claim in ask.claims if claim.direction != STARTS))
            _answer(ask, None)
        else:
            self._ledger.take(ask.call_id, ask.claims, self._now())
            _answer(ask, None)


def _answer(ask: _Ask, reached: LimitReached | None) -> None:
    if not ask.answer.done():
        ask.answer.set_result(reached)
