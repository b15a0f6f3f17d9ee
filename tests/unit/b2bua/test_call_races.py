"""The call reducer under every order of events: a random world answers its actions and throws in events of its own.

Whatever happens, the three promises of `edge.b2bua.call` must hold at the end of the world.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.b2bua import actions as do
from edge.b2bua import events as ev
from edge.b2bua.call import Call, CallTimers, Phase
from edge.b2bua.refer import ReferTo
from edge.sip.uri import Uri

STEPS = 400
SOMEWHERE = ReferTo(Uri("sip", "203", "edge.example"))


class World:
    """Peers, relay and dial plan at the mercy of a random generator; a ledger of what each leg saw."""

    def __init__(self, seed: int, offer: bool, targets: int) -> None:
        self.rng = random.Random(seed)
        self.call = Call(b"offer" if offer else None, targets, CallTimers(), emergency=self.rng.random() < 0.1)
        self.pending: list[ev.CallEvent] = []
        self.a_final: list[str] = []
        self.a_up = False
        self.finished: list[do.Finish] = []
        self.b: dict[str, str] = {}
        self.unacked: set[str] = set()
        self.timers: set[str] = set()
        self.reroutes = 0
        self.legs = 0
        self.run(self.call.start())

    def run(self, actions: list[do.CallAction]) -> None:
        for action in actions:
            self.perform(action)

    def perform(self, action: do.CallAction) -> None:
        rng = self.rng
        match action:
            case do.RelayForward(purpose, leg, sdp):
                if rng.random() < 0.05:
                    self.pending.append(ev.RelayFailed(purpose, leg, 503, "away"))
                else:
                    self.pending.append(ev.Relayed(purpose, leg, b"relayed-" + sdp))
            case do.StartTarget(index, _, _):
                if rng.random() < 0.2:
                    self.pending.append(ev.TargetUnreachable(index, 480, 20, limited=rng.random() < 0.3))
                else:
                    legs = tuple(f"b{self.legs + i + 1}" for i in range(rng.randint(1, 3)))
                    self.legs += len(legs)
                    self.pending.append(ev.TargetStarted(index, legs, frozenset((503, 500))))
            case do.AskNextRoute(_) | do.Forward(_, _, _):
                self.reroutes += 1
                self.pending.append(ev.Rerouted(rng.randint(0, 2) if self.reroutes < 3 else 0))
            case do.Accept(_):
                assert not self.a_final, "a second final answer to the caller"
                self.a_final.append("200")
                self.a_up = True
            case do.Reject(status, _):
                assert not self.a_final, "a second final answer to the caller"
                self.a_final.append(str(status))
            case do.Progress(status, _):
                assert not self.a_final, "a provisional response after the final one"
                assert 180 <= status < 200
            case do.Cancel(leg, _):
                assert self.b[leg] == "calling", f"CANCEL of a {self.b[leg]} branch"
                self.b[leg] = "cancelling"
            case do.Ack(leg, _):
                assert leg == "a" or leg in self.b
                self.unacked.discard(leg)
            case do.Release(leg, _):
                if leg == "a":
                    assert self.a_up
                    self.a_up = False
                else:
                    assert self.b[leg] == "up", f"BYE to a {self.b[leg]} branch"
                    assert leg not in self.unacked, "BYE before the ACK"
                    self.b[leg] = "done"
            case do.Transfer(leg, _) | do.RefuseTransfer(leg, _):
                assert leg == "a" or self.b[leg] == "up", "a REFER of nobody"
            case do.StartTimer(name, _):
                self.timers.add(name)
            case do.StopTimer(name):
                self.timers.discard(name)
            case do.Finish():
                assert not self.finished, "finished twice"
                self.finished.append(action)

    def happen(self) -> ev.CallEvent | None:
        """Something that peers may do of themselves now."""
        rng = self.rng
        choices: list[ev.CallEvent] = []
        for leg, state in self.b.items():
            if state == "calling":
                choices += [ev.Ringing(leg), ev.EarlyMedia(leg, 183, b"early"), ev.Answered(leg, b"answer")]
                choices += [ev.Rejected(leg, rng.choice([404, 486, 503, 603, 408]), None, rng.random() < 0.2)]
                choices += [ev.Moved(leg, 302, "202")] if rng.random() < 0.3 else []
                choices += [ev.Answered(leg, None)] if rng.random() < 0.1 else []
            elif state == "cancelling":
                choices += [ev.Rejected(leg, 487), ev.Answered(leg, b"answer"), ev.Moved(leg, 302, "202")]
            elif state == "up":
                choices += [ev.Released(leg), ev.ModifyOffered(leg, b"hold"), ev.ModifyAnswered(leg, b"held")]
                choices += [ev.ModifyRefused(leg, 488), ev.ModifyOffered(leg, None), ev.InfoReceived(leg, "x", b"1")]
                choices += [ev.Referred(leg, SOMEWHERE)]
        if not self.a_final:
            choices.append(ev.Cancelled())
        elif self.a_up:
            choices += [ev.Released("a"), ev.ModifyOffered("a", b"hold"), ev.ModifyAnswered("a", b"held")]
            choices += [ev.AnswerInAck("a", rng.choice([b"late", None])), ev.MediaTimedOut()]
        choices += [ev.MediaLost("the relay ended")] if rng.random() < 0.02 else []
        choices += [ev.TimerFired(name) for name in sorted(self.timers)]
        choices += [ev.Ended(41, "operator")] if rng.random() < 0.02 else []
        return rng.choice(choices) if choices else None

    def deliver(self, event: ev.CallEvent) -> None:
        match event:
            case ev.TargetStarted(_, legs, _):
                self.b.update(dict.fromkeys(legs, "calling"))
            case ev.Answered(leg, _):
                self.b[leg] = "up"
                self.unacked.add(leg)
            case ev.Rejected(leg, _, _, _) | ev.Moved(leg, _, _, _):
                self.b[leg] = "done"
            case ev.Released(leg, _, _):
                if leg == "a":
                    self.a_up = False
                else:
                    self.b[leg] = "done"
            case ev.TimerFired(name):
                self.timers.discard(name)
            case _:
                pass
        self.run(self.call.on_event(event, 1.0))

    def live(self) -> None:
        for _ in range(STEPS):
            if self.pending and self.rng.random() < 0.6:
                event: ev.CallEvent | None = self.pending.pop(0)
            else:
                event = self.happen()
            if event is None:
                if not self.pending:
                    break
                event = self.pending.pop(0)
            self.deliver(event)
        # the world comes to rest: what is in flight arrives, the edge ends what lives, branches answer their CANCEL
        self.deliver(ev.Ended(41, "end of the world"))
        while self.pending:
            self.deliver(self.pending.pop(0))
        for leg, state in list(self.b.items()):
            if state == "cancelling":
                self.deliver(ev.Rejected(leg, 487) if self.rng.random() < 0.5 else ev.Answered(leg, b"answer"))
        self.check()

    def check(self) -> None:
        assert self.call.phase is Phase.ENDED
        assert len(self.a_final) == 1, f"final answers to the caller: {self.a_final}"
        assert len(self.finished) == 1, "ports and channels were not given back exactly once"
        assert not self.a_up, "the caller's leg was left behind"
        left = {leg: state for leg, state in self.b.items() if state not in ("done",)}
        assert not left, f"branches left behind: {left}"
        assert not self.unacked, f"2xx without ACK: {self.unacked}"


@settings(max_examples=1500, deadline=None)
@given(seed=st.integers(0, 2**32), offer=st.booleans(), targets=st.integers(1, 3))
def test_promises_hold_in_every_order(seed: int, offer: bool, targets: int) -> None:
    """One final answer to the caller, one Finish, no leg left, an ACK for each 2xx (architecture, principle 3)."""
    World(seed, offer, targets).live()


def up(call: Call) -> list[do.CallAction]:
    """Bring a call with one branch up."""
    call.start()
    call.on_event(ev.Relayed("offer", "a", b"o"), 0)
    call.on_event(ev.TargetStarted(1, ("b1",), frozenset()), 0)
    call.on_event(ev.Answered("b1", b"ans"), 1)
    return call.on_event(ev.Relayed("answer", "b1", b"ans'"), 2)


def test_answer_that_crosses_our_cancel_is_acked_and_ended() -> None:
    """RFC 3261 9.1: a 2xx after CANCEL makes a dialog that must be ended by BYE."""
    call = Call(b"o", 1, CallTimers())
    call.start()
    call.on_event(ev.Relayed("offer", "a", b"o"), 0)
    call.on_event(ev.TargetStarted(1, ("b1",), frozenset()), 0)
    assert call.on_event(ev.Cancelled(), 1) == [do.Reject(487), do.Cancel("b1"), do.Finish("cancelled", "a", 487)]
    assert call.on_event(ev.Answered("b1", b"ans"), 1) == [do.Ack("b1"), do.Release("b1", 16)]


def test_first_answer_wins_and_the_others_are_cancelled() -> None:
    """Several phones rung at once: one is answered, the others are told that it was answered elsewhere."""
    call = Call(b"o", 1, CallTimers())
    call.start()
    call.on_event(ev.Relayed("offer", "a", b"o"), 0)
    call.on_event(ev.TargetStarted(1, ("b1", "b2"), frozenset()), 0)
    actions = call.on_event(ev.Answered("b2", b"ans"), 1)
    assert do.Cancel("b1", True) in actions and do.Ack("b2") in actions
    assert call.on_event(ev.Answered("b1", b"too late"), 1) == [do.Ack("b1"), do.Release("b1", 16)]


def test_busy_speaks_louder_than_timeouts() -> None:
    """RFC 3261 16.7: of several failures the caller hears the one that says most."""
    call = Call(b"o", 1, CallTimers())
    call.start()
    call.on_event(ev.Relayed("offer", "a", b"o"), 0)
    call.on_event(ev.TargetStarted(1, ("b1", "b2"), frozenset()), 0)
    call.on_event(ev.Rejected("b1", 486), 1)
    assert do.AskNextRoute("busy") in call.on_event(ev.Rejected("b2", 408, None, True), 1)
    assert do.Reject(486, None) in call.on_event(ev.Rerouted(0), 1)


@pytest.mark.parametrize(("status", "next_target"), [(503, True), (404, False), (486, False), (603, False)])
def test_next_carrier_only_after_failover_causes(status: int, next_target: bool) -> None:
    """Domain rule 5.6: busy, unknown and declined are answers; overload and timeouts are not."""
    call = Call(b"o", 2, CallTimers())
    call.start()
    call.on_event(ev.Relayed("offer", "a", b"o"), 0)
    call.on_event(ev.TargetStarted(1, ("b1",), frozenset((503,))), 0)
    actions = call.on_event(ev.Rejected("b1", status), 1)
    assert any(isinstance(a, do.StartTarget) and a.target == 1 for a in actions) is next_target


def test_no_failover_after_early_media() -> None:
    """Domain rule T5.9: once the caller heard the called side there is no other target."""
    call = Call(b"o", 2, CallTimers())
    call.start()
    call.on_event(ev.Relayed("offer", "a", b"o"), 0)
    call.on_event(ev.TargetStarted(1, ("b1",), frozenset((503,))), 0)
    call.on_event(ev.EarlyMedia("b1", 183, b"tones"), 1)
    assert call.on_event(ev.Relayed("early-183", "b1", b"t"), 1) == [do.Progress(183, b"t")]
    assert do.Reject(503, None) in call.on_event(ev.Rejected("b1", 503), 1)


def test_glare_of_reinvites_is_refused_with_491() -> None:
    """RFC 3261 14.1: while a re-INVITE crosses, one from the other side gets 491."""
    call = Call(b"o", 1, CallTimers())
    assert do.Accept(b"ans'") in up(call)
    assert call.on_event(ev.ModifyOffered("a", b"hold"), 3) == [do.RelayForward("modify", "a", b"hold")]
    assert call.on_event(ev.ModifyOffered("b1", b"other"), 3) == [do.RefuseModify("b1", 491)]
    assert call.on_event(ev.Relayed("modify", "a", b"h'"), 3) == [do.Modify("b1", b"h'")]
    assert call.on_event(ev.ModifyAnswered("b1", b"held"), 3) == [do.RelayForward("modify-answer", "b1", b"held")]
    assert call.on_event(ev.Relayed("modify-answer", "b1", b"held'"), 3) == [do.AcceptModify("a", b"held'")]
    assert call.on_event(ev.ModifyOffered("b1", b"other"), 4) == [do.RelayForward("modify", "b1", b"other")]


def test_refused_reinvite_puts_the_relay_back() -> None:
    """RFC 3261 14.1: after a refused re-INVITE the session is as before, also for the relay."""
    call = Call(b"o", 1, CallTimers())
    up(call)
    call.on_event(ev.ModifyOffered("a", b"t38"), 3)
    call.on_event(ev.Relayed("modify", "a", b"t38'"), 3)
    actions = call.on_event(ev.ModifyRefused("b1", 488), 3)
    assert actions == [do.RefuseModify("a", 488), do.RelayForward("restore", "a", b"o")]
    call.on_event(ev.ModifyOffered("a", b"t38"), 4)
    call.on_event(ev.Relayed("modify", "a", b"t38'"), 4)
    actions = call.on_event(ev.ModifyAnswered("b1", None), 4)
    assert actions == [do.RefuseModify("a", 488), do.RelayForward("restore", "a", b"o")]


def test_no_answer_takes_the_next_route() -> None:
    """A number with on_no_answer: the phones are cancelled and the dial plan is asked."""
    call = Call(b"o", 1, CallTimers(), no_answer_after=25)
    call.start()
    call.on_event(ev.Relayed("offer", "a", b"o"), 0)
    assert do.StartTimer("answer", 25) in call.on_event(ev.TargetStarted(1, ("b1",), frozenset()), 0)
    actions = call.on_event(ev.TimerFired("answer"), 25)
    assert do.Cancel("b1") in actions and do.AskNextRoute("no-answer") in actions
    assert any(isinstance(a, do.StartTarget) for a in call.on_event(ev.Rerouted(1), 25))


def test_an_offer_of_ours_waits_for_the_callers_ack() -> None:
    """Delayed offer (race 3 of the catalogue): B's 2xx is acknowledged with the answer from A's ACK."""
    call = Call(None, 1, CallTimers())
    assert call.start() == [do.StartTarget(1, 0, None)]
    call.on_event(ev.TargetStarted(1, ("b1",), frozenset()), 0)
    actions = call.on_event(ev.Answered("b1", b"offer"), 1)
    assert not any(isinstance(a, do.Ack) for a in actions)
    assert do.Accept(b"offer'") in call.on_event(ev.Relayed("answer", "b1", b"offer'"), 1)
    assert call.on_event(ev.AnswerInAck("a", b"ans"), 2) == [do.RelayForward("late-answer", "a", b"ans")]
    assert call.on_event(ev.Relayed("late-answer", "a", b"ans'"), 2) == [do.Ack("b1", b"ans'")]


def trying(branches: tuple[str, ...] = ("b1",)) -> Call:
    """A call whose branches ring."""
    call = Call(b"o", 1, CallTimers())
    call.start()
    call.on_event(ev.Relayed("offer", "a", b"o"), 0)
    call.on_event(ev.TargetStarted(1, branches, frozenset()), 0)
    return call


def test_a_phones_forward_is_asked_for_and_the_others_stop() -> None:
    """One phone of a seat answers 302: the seat is forwarded, its other phones stop ringing."""
    call = trying(("b1", "b2"))
    call.on_event(ev.Ringing("b2"), 1)
    actions = call.on_event(ev.Moved("b1", 302, "202"), 1)
    assert do.Cancel("b2") in actions and do.Forward("b1", "202", False) in actions
    assert any(isinstance(a, do.StartTarget) for a in call.on_event(ev.Rerouted(1), 1))


def test_a_forward_that_is_not_allowed_is_not_available() -> None:
    """The caller hears 480: that somebody wanted to forward is not its business."""
    call = trying()
    call.on_event(ev.Moved("b1", 302, "202"), 1)
    assert do.Reject(480, 20) in call.on_event(ev.Rerouted(0), 1)


def test_no_forward_after_early_media() -> None:
    """Domain rule T5.9: who was heard is not exchanged for somebody else."""
    call = trying()
    call.on_event(ev.EarlyMedia("b1", 183, b"tones"), 1)
    actions = call.on_event(ev.Moved("b1", 302, "202"), 1)
    assert do.Reject(480, 20) in actions and not any(isinstance(a, do.Forward) for a in actions)


def test_a_redirection_of_a_carrier_is_a_failure() -> None:
    """What is not followed is not passed on to the caller either."""
    call = trying()
    call.on_event(ev.Rejected("b1", 302), 1)
    assert do.Reject(502, None) in call.on_event(ev.Rerouted(0), 1)


def test_refer_before_the_call_is_up_has_to_wait() -> None:
    """RFC 3515: 491 while the answer is still on its way to the caller."""
    call = trying()
    call.on_event(ev.Answered("b1", b"ans"), 1)
    assert call.on_event(ev.Referred("b1", SOMEWHERE), 1) == [do.RefuseTransfer("b1", 491)]
    call.on_event(ev.Relayed("answer", "b1", b"ans'"), 2)
    assert call.on_event(ev.Referred("b1", SOMEWHERE), 3) == [do.Transfer("b1", SOMEWHERE)]
