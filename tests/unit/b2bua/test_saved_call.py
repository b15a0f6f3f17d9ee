"""The call reducer written down and read again, at any moment of any call: it comes to an end as good as before."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from dialplan.model import CallAttempt, Caller, Direction, RoutePlan, Source, SourceKind
from edge.b2bua import events as ev
from edge.b2bua import saved_call, saved_runner
from edge.b2bua.call import Call, CallTimers, Phase
from edge.b2bua.saved_call import SavedCall
from edge.b2bua.saved_runner import SavedRoute, SavedRunner
from edge.journal.packed import fields_of, packer, unpack
from edge.journal.values import decode, encode
from tests.unit.b2bua.test_call_races import World, up

_pack, _NAMES = packer(SavedCall), fields_of(SavedCall)
INSIDE = (ev.Relayed, ev.RelayFailed, ev.TargetStarted, ev.TargetUnreachable, ev.Rerouted)
"""Answers of the edge's own rooms, which a crash loses on their way."""


def again(call: Call) -> Call:
    """The call as another process reads it."""
    value, form = unpack(_pack(saved_call.save(call)), _NAMES)
    return saved_call.restore(decode(SavedCall, value, form), CallTimers())


class CrashingWorld(World):
    """The same world, whose daemon dies now and then."""

    def __init__(self, seed: int, offer: bool, targets: int) -> None:
        self.fate = random.Random(seed + 1)
        self.crashes = 0
        super().__init__(seed, offer, targets)

    def deliver(self, event: ev.CallEvent) -> None:
        super().deliver(event)
        if self.fate.random() < 0.15 and self.call.phase is not Phase.ENDED:
            self.crashes += 1
            self.pending = [e for e in self.pending if not isinstance(e, INSIDE)]
            self.call = again(self.call)
            self.run(saved_call.resume(self.call))


@settings(max_examples=1500, deadline=None)
@given(seed=st.integers(0, 2**32), offer=st.booleans(), targets=st.integers(1, 3))
def test_promises_hold_across_crashes(seed: int, offer: bool, targets: int) -> None:
    """One final answer, one Finish, no leg left, an ACK for each 2xx: also where the process dies at any moment."""
    CrashingWorld(seed, offer, targets).live()


def test_a_state_of_an_earlier_version_is_read() -> None:
    """Up to the first version that was packed, states were JSON with the names of all fields."""
    saved = SavedRunner(5.0, datetime(2026, 3, 29, tzinfo=UTC), SavedCall(Phase.UP, last={"a": b"v=0\r\n"}), [])
    decided = SavedRoute(
        CallAttempt(Source(SourceKind.CARRIER, "c"), (), Caller()), RoutePlan(Direction.INBOUND, (), "110", "K", "K")
    )
    assert saved_runner.read(encode(saved), encode(decided), {}) == (decided, saved)


def test_a_call_that_is_up_remembers_what_it_said() -> None:
    """What each party last said of its media is there for transfers, and the winner for BYE."""
    call = Call(b"o", 1, CallTimers())
    up(call)
    read = again(call)
    assert (read.winner, read.answered_at, read.settled) == ("b1", 2, True)
    assert read.description("a") == b"o" and read.description("b1") == b"ans"
    assert saved_call.resume(read) == []


def test_an_offer_that_waits_for_the_relay_is_asked_for_again() -> None:
    """A re-INVITE whose description was in the relay when the process died goes on."""
    call = Call(b"o", 1, CallTimers())
    up(call)
    asked = call.on_event(ev.ModifyOffered("a", b"hold"), 3)
    assert saved_call.resume(again(call)) == asked
