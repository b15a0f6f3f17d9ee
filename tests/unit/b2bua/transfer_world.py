"""Two calls and a transfer between them, on virtual time: real reducers, bridge, executor; legs and peers by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import cast

import pytest

from dialplan.model import Identity, Reason, Refusal, RoutePlan, Source, SourceKind
from edge.b2bua import actions as do
from edge.b2bua import events as ev
from edge.b2bua import patience, transfers
from edge.b2bua.books import Books
from edge.b2bua.bridge import BridgeLeg
from edge.b2bua.call import Branch, Call, CallTimers, Phase
from edge.b2bua.events import CallEvent, LegId
from edge.b2bua.leg import Leg
from edge.b2bua.refer import ReferTo, Replaces
from edge.b2bua.runner import CallRunner
from edge.b2bua.uas_leg import UasLeg
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId
from edge.sip.uri import Uri
from tests.unit.b2bua.fake_port import FLOW, FakePort, request

WHO = Source(SourceKind.SEAT, "alice", "K1")


INVITE = """
INVITE sip:203@edge.example SIP/2.0
Via: SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bKa
From: <sip:boris@edge.example>;tag=f
To: <sip:203@edge.example>
Call-ID: c
CSeq: 1 INVITE
Contact: <sip:boris@192.0.2.7:5070>
Max-Forwards: 70
"""


def sdp(name: str, direction: str = "sendrecv", version: int = 1) -> bytes:
    """A description that says whose it is."""
    return (
        f"v=0\r\no={name} 1 {version} IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
        f"m=audio 4000 RTP/AVP 8\r\na={direction}\r\n"
    ).encode()


class PeerLeg(Leg):
    """A leg with a peer that a test plays: what is asked of the peer, and what it is owed."""

    def __init__(self, world: World, runner: HandRunner, leg_id: LegId, name: str) -> None:
        self.id = leg_id
        self.name = name
        self.flow = FLOW
        self.call_id = f"sip-{name}"
        self.local_tag = f"tag-{name}"
        self.gone = False
        self.asked: list[bytes | None] = []
        """re-INVITEs that the peer has not answered."""
        self.owed = 0
        """re-INVITEs of the peer that wait for an answer."""
        self.told: list[bytes] = []
        self.digits: list[bytes] = []
        self.texts: list[ev.Text] = []
        self.text_answers: list[tuple[int, int]] = []
        self.byes = 0
        self.parting: list[Callable[[], None]] = []
        self._world = world
        self._emit = runner.post

    @property
    def remote_tag(self) -> str | None:
        return f"far-{self.name}"

    def say(self, event: CallEvent) -> None:
        """Something comes from the peer."""
        if isinstance(event, ev.Released):
            self.gone = True
            self.owed = 0
        if isinstance(event, ev.ModifyOffered):
            self.owed += 1
        self._emit(self.id, event)

    def modify(self, sdp: bytes | None, *, update: bool) -> None:
        if not self.gone:
            self.asked.append(sdp)

    def answer(self, event: CallEvent) -> None:
        """The peer answers the oldest re-INVITE."""
        asked = self.asked.pop(0)
        if isinstance(event, ev.ModifyAnswered) and asked is not None:
            self.told.append(asked)
        if not self.gone:
            self._emit(self.id, event)

    def accept_modification(self, sdp: bytes | None) -> None:
        if self.owed:
            self.owed -= 1
            if sdp is not None:
                self.told.append(sdp)

    def refuse_modification(self, status: int) -> None:
        if self.owed:
            self.owed -= 1

    def ack(self, sdp: bytes | None) -> None:
        pass

    def info(self, content_type: str, body: bytes) -> None:
        self.digits.append(body)

    def text(self, number: TransactionId, text: ev.Text) -> None:
        self.texts.append(text)
        self._emit(self.id, ev.TextAnswered(self.id, number, 200))

    def answer_text(self, number: TransactionId, status: int, accept: str = "") -> None:
        self.text_answers.append((number, status))

    def refuse_refer(self, status: int) -> None:
        self._world.refused.append(status)

    def release(self, q850: int | None, then: Callable[[], None] | None = None) -> None:
        if not self.gone:
            self.gone = True
            self.owed = 0
            self.byes += 1
            if then is not None:
                self.parting.append(then)


class HandRunner:
    """What `Transferring` needs of a CallRunner, around a real reducer; branches are PeerLegs."""

    def __init__(self, world: World, name: str, offer: bytes, a: BridgeLeg | None = None) -> None:
        self.world = world
        self.id = name
        self.call = Call(offer, 1, CallTimers())
        self.legs: dict[LegId, PeerLeg | BridgeLeg | UasLeg] = {}
        self.a: Leg | BridgeLeg | None = a
        if a is not None:
            self.legs["a"] = a
        self.port = FakePort()
        self.finished: list[do.Finish] = []
        self.transfer: transfers.Transferring | None = None
        self.media = world.session(name)
        self.plan = SimpleNamespace(trace=SimpleNamespace(add=lambda rule, text: None))
        self.attempts: list[object] = []
        self.branches = 0
        self.consulted = False
        self.taken: dict[LegId, Source] = {}
        self.conversation = name
        self.calling: set[LegId] = set()
        self.over = False
        self._mailbox: list[CallEvent] = []
        self._draining = False
        world.runners.append(self)

    answered_at = property(lambda self: self.call.answered_at)
    ringing_at = property(lambda self: self.call.ringing_at)
    settled = property(lambda self: self.call.settled)

    def up(self, a: str, b: str) -> HandRunner:
        """Bring the call up between two peers."""
        self.legs = {"a": PeerLeg(self.world, self, "a", a), "b1": PeerLeg(self.world, self, "b1", b)}
        self.run(self.call.start())
        self.world.settle()
        self.post("b1", ev.Answered("b1", sdp(b)))
        self.world.settle()
        assert self.call.phase is Phase.UP
        return self

    def ring(self, caller: str) -> UasLeg:
        """Bring it to where its branches ring; the caller's leg is a real one."""
        invite = request(INVITE, sdp(caller))
        leg = UasLeg("a", self.port, FLOW, self.post, TimerConfig(), invite, TransactionId(1), customer=True)
        self.a = self.legs["a"] = leg
        self.run(self.call.start())
        self.world.settle()
        for branch in list(self.calling):
            self.branch(ev.Ringing(branch))
        return leg

    def post(self, _leg: LegId, event: CallEvent) -> None:
        self._mailbox.append(event)
        if self._draining:
            return
        self._draining = True
        while self._mailbox:
            self.run(self.call.on_event(self._mailbox.pop(0), self.world.now + 1))
        self._draining = False

    def end(self, q850: int, detail: str) -> None:
        self.post("a", ev.Ended(q850, detail))

    def other(self, leg: LegId) -> LegId | None:
        return self.call.other(leg)

    def description(self, leg: LegId) -> bytes | None:
        return self.call.description(leg)

    def party(self, leg: LegId) -> tuple[str, str]:
        return "seat", leg

    def source_of(self, leg: LegId) -> Source | None:
        return WHO

    def caller_on(self, leg: LegId) -> None:
        return None

    def identity_of(self, leg: LegId) -> tuple[Identity, bool]:
        return Identity("201"), True

    def note_transfer(self, attempt: object, text: str) -> None:
        self.attempts.append(attempt)

    def task(self, work: Coroutine[None, None, None]) -> None:
        self.world.tasks.append(work)

    async def admit(self, refuse: Callable[[Refusal], None]) -> None:
        if self.over:
            return
        if self.world.rng.random() < self.world.limit:
            self.over = True
            self.world.runners.remove(self)
            refuse(Refusal(Reason.ACCOUNT_LIMIT, status=503))
            return
        self.run(self.call.start())

    def finish(self, action: do.Finish) -> None:
        assert not self.finished, "finished twice"
        self.finished.append(action)
        self.over = True
        if self.transfer is not None:
            self.transfer.home_ended(action.q850)

    def run(self, actions: list[do.CallAction]) -> None:
        for action in actions:
            match action:
                case do.RelayForward(purpose, leg, body):
                    side = "a" if leg == "a" else "b"
                    self.task(self._forward(purpose, leg, body, side))
                case do.StartTarget(index, _, _):
                    self._start(index)
                case do.AskNextRoute(_) | do.Forward(_, _, _):
                    self._mailbox.append(ev.Rerouted(0))
                case do.Progress(status, body):
                    self._a.progress(status, body)
                case do.Accept(body):
                    if isinstance(self.a, BridgeLeg | UasLeg):
                        self._a.accept(body)
                    else:
                        cast(PeerLeg, self.legs["a"]).told.append(body or b"")
                case do.Reject(status, q850):
                    self._a.reject(status, q850)
                case do.Cancel(leg, _):
                    assert leg in self.calling, "CANCEL of a branch that does not ring"
                case do.Ack(leg, body):
                    self.legs[leg].ack(body)
                    self.world.unacked.discard((self.id, leg))
                case do.Release(leg, q850):
                    assert (self.id, leg) not in self.world.unacked, "BYE before the ACK"
                    self.legs[leg].release(q850)
                case do.Modify(leg, body, update):
                    self.legs[leg].modify(body, update=update)
                case do.AcceptModify(leg, body):
                    self.legs[leg].accept_modification(body)
                case do.RefuseModify(leg, status):
                    self.legs[leg].refuse_modification(status)
                case do.SendInfo(leg, kind, body):
                    self.legs[leg].info(kind, body)
                case do.SendText(leg, number, text):
                    self.legs[leg].text(number, text)
                case do.AnswerText(leg, number, status, accept):
                    self.legs[leg].answer_text(number, status, accept)
                case do.Finish():
                    self.finish(action)

    @property
    def _a(self) -> BridgeLeg | UasLeg:
        leg = self.a
        assert isinstance(leg, BridgeLeg | UasLeg), "only a call that rings is answered here"
        return leg

    def _start(self, index: int) -> None:
        if "b1" in self.legs and not self.calling and isinstance(self.legs["a"], PeerLeg):
            self._mailbox.append(ev.TargetStarted(index, ("b1",), frozenset()))
            return
        legs = []
        for _ in range(self.world.rng.randint(1, self.world.phones)):
            self.branches += 1
            leg = PeerLeg(self.world, self, f"b{self.branches}", f"target{self.branches}")
            self.legs[leg.id] = leg
            self.calling.add(leg.id)
            legs.append(leg.id)
        self._mailbox.append(ev.TargetStarted(index, tuple(legs), frozenset()))

    async def _forward(self, purpose: str, leg: LegId, body: bytes, side: str) -> None:
        self.post(leg, ev.Relayed(purpose, leg, await self.media.forward(body, side, leg)))

    # -- branches of a call that is made for the transfer --------------------------------------------------------------

    def branch(self, event: CallEvent) -> None:
        """A branch rings, answers or fails."""
        leg = event.leg  # type: ignore[union-attr]
        peer = cast(PeerLeg, self.legs[leg])
        if isinstance(event, ev.Answered):
            self.calling.discard(leg)
            self.world.unacked.add((self.id, leg))
        elif isinstance(event, ev.Rejected):
            self.calling.discard(leg)
            peer.gone = True
        self.post(leg, event)


class World:
    """Everything; nothing happens but what a test says, or `rng` draws."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int = 0, *, limit: float = 0.0, phones: int = 1) -> None:
        """`limit`: how often there is no channel; `phones`: how many a target has at most."""
        self.rng = random.Random(seed)
        self.limit = limit
        self.phones = phones
        self.now = 0.0
        self.runners: list[HandRunner] = []
        self.tasks: list[Coroutine[None, None, None]] = []
        self.timers: list[list[Callable[[], None]]] = []
        self.unacked: set[tuple[str, LegId]] = set()
        self.notified: list[int] = []
        """What the newest transferor heard."""
        self.finals = 0
        """REFERs so far, for the random world."""
        self.final_notifies = 0
        self.refused: list[int] = []
        self.faults: list[Exception] = []
        self.faults_wanted = False
        self.retired: list[Leg] = []
        self.marked: list[CallRunner] = []
        """Calls that the journal is to write again."""
        self.refuse: Refusal | None = None
        self.found: tuple[HandRunner, PeerLeg] | None = None
        self.engine = SimpleNamespace(
            calls=SimpleNamespace(
                add=lambda runner: None,
                retire=lambda leg, now: self.retired.append(leg),
                find=lambda replaces: self.found,
                live=lambda: self.runners,
                on_change=self.marked.append,
                books=Books(),
            ),
            clock=SimpleNamespace(utcnow=lambda: None),
            driver=SimpleNamespace(now=lambda: self.now),
            snapshot=lambda: None,
            new_call_id=lambda: f"away{len(self.runners)}",
            draw=lambda: 0.0,
            internal_error=self._fault,
            domain="edge.example",
            tap=SimpleNamespace(join=lambda call, other: None),
        )
        monkeypatch.setattr(patience, "asyncio", SimpleNamespace(get_running_loop=lambda: self))
        monkeypatch.setattr(transfers, "decide", lambda attempt, snapshot, now: self.refuse or self._plan())
        monkeypatch.setattr(transfers, "note_refusal", lambda *args: None)
        monkeypatch.setattr(transfers, "CallRunner", self._away)

    def _fault(self, where: str, error: Exception, **context: str) -> None:
        self.faults.append(error)
        if not self.faults_wanted:
            raise error

    def _plan(self) -> RoutePlan:
        trace = SimpleNamespace(add=lambda rule, text: None)
        return cast(RoutePlan, SimpleNamespace(targets=(), account="K1", called="203", trace=trace))

    def _away(self, call_id: str, engine: object, far: BridgeLeg, attempt: object, plan: object) -> HandRunner:
        assert far.offer is not None
        return HandRunner(self, call_id, far.offer, far)

    def session(self, name: str) -> SimpleNamespace:
        """A relay session that says where a description passed."""
        found = SimpleNamespace(passive=False, deleted=0)

        async def forward(body: bytes, side: str, leg: str) -> bytes:
            return body if found.passive else body.replace(b"s=-", f"s={name}".encode())

        async def delete() -> None:
            found.deleted += 1

        async def offer(leg: str, body: bytes) -> bytes:
            return await forward(body, "a" if leg == "a" else "b", leg)

        async def take_back(leg: str, body: bytes, to: str) -> None:
            assert found.passive or not found.deleted, "the relay is told of a session that has no ports any more"

        found.forward, found.delete, found.offer, found.take_back = forward, delete, offer, take_back
        return found

    def call_later(self, after: float, then: Callable[[], None]) -> SimpleNamespace:
        """The loop's timers."""
        entry = [then]
        self.timers.append(entry)
        return SimpleNamespace(cancel=entry.clear)

    # -- what happens ------------------------------------------------------------------------------------------------

    def transfer(self, home: HandRunner, leg_id: LegId, replaces: Replaces | None = None) -> transfers.Transferring:
        """A REFER is accepted on a leg."""
        leg = home.legs[leg_id]
        assert isinstance(leg, PeerLeg)
        heard: list[int] = []
        self.notified = heard

        def notify(status: int) -> None:
            assert not heard or heard[-1] < 200, "a NOTIFY after the last"
            heard.append(status)
            self.final_notifies += status >= 200

        subscription = SimpleNamespace(notify=notify)
        to = ReferTo(Uri("sip", "203", "edge.example"), replaces)
        runner = cast(CallRunner, home)
        home.transfer = transfers.Transferring(self.engine, runner, leg, WHO, to, subscription)  # type: ignore[arg-type]
        home.transfer.start()
        return home.transfer

    def step(self, task: Coroutine[None, None, None]) -> None:
        """Run a task to its end: nothing here ever waits."""
        try:
            task.send(None)
        except StopIteration:
            return
        raise AssertionError("a task waits")

    def settle(self) -> None:
        """The relay answers, and what is due happens; peers do nothing."""
        while self.tasks:
            self.step(self.tasks.pop(0))

    def wait(self) -> None:
        """Time passes: all timers that run now fire, once."""
        self.settle()
        timers, self.timers = self.timers, []
        for entry in timers:
            for then in entry[:]:
                then()
        self.settle()

    @property
    def peers(self) -> list[PeerLeg]:
        """All legs that have a peer."""
        seen: dict[int, PeerLeg] = {}
        for runner in self.runners:
            for leg in runner.legs.values():
                if isinstance(leg, PeerLeg):
                    seen[id(leg)] = leg
        for leg in self.retired:
            if isinstance(leg, PeerLeg):
                seen[id(leg)] = leg
        return list(seen.values())

    def check_ended(self) -> None:
        """All calls are over: finished once, nobody left behind, everybody answered."""
        for runner in self.runners:
            assert runner.call.phase is Phase.ENDED, f"{runner.id} is {runner.call.phase}"
            assert len(runner.finished) == 1, f"{runner.id} finished {len(runner.finished)} times"
            states = {state for state in runner.call.branches.values()}
            assert states <= {Branch.DONE, Branch.CANCELLING}, f"{runner.id} left branches: {states}"
            assert runner.transfer is None, f"{runner.id} is still being transferred"
        left = [leg.name for leg in self.peers if not leg.gone]
        assert not left, f"legs left behind: {left}"
        assert not self.unacked, f"2xx without ACK: {self.unacked}"
