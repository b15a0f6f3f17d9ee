"""INVITE with Replaces: a phone takes a colleague's place in a call (RFC 3891)."""

from __future__ import annotations

import pytest

from dialplan.model import Source, SourceKind
from edge.b2bua import events as ev
from edge.b2bua.refer import Replaces
from edge.b2bua.takeover import ReplacingLeg, take_over
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId
from tests.unit.b2bua.fake_port import FLOW, SDP_A, FakePort, request
from tests.unit.b2bua.test_legs import IN_DIALOG, INVITE
from tests.unit.b2bua.transfer_world import HandRunner, PeerLeg, World, sdp

COLLEAGUE = Source(SourceKind.SEAT, "carla", "K1")
NAMED = Replaces("c", "t", "f")


class Stage:
    """Anna talks to boris; carla wants to talk to anna instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World(monkeypatch)
        self.call = HandRunner(self.world, "home", sdp("anna")).up("anna", "boris")
        anna, boris = self.call.legs["a"], self.call.legs["b1"]
        assert isinstance(anna, PeerLeg) and isinstance(boris, PeerLeg)
        self.anna, self.boris = anna, boris
        self.world.found = self.call, boris
        self.world.engine.calls.add_leg = lambda leg: None
        self.port = FakePort()

    def invite(self, who: Source = COLLEAGUE, replaces: Replaces = NAMED, body: bytes = SDP_A) -> ReplacingLeg:
        """Carla's INVITE comes."""
        message = request(INVITE.format(extra="Supported: replaces"), body)
        leg = ReplacingLeg(
            "a", self.port, FLOW, lambda _, e: None, TimerConfig(), message, TransactionId("s"), customer=True
        )
        take_over(self.world.engine, leg, who, replaces, "new")  # type: ignore[arg-type]
        self.world.settle()
        return leg


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def test_colleague_takes_over(stage: Stage) -> None:
    """Anna agrees to carla's media, carla gets 200 with anna's, boris a BYE; then they are one call."""
    leg = stage.invite()
    assert stage.port.statuses() == [] and not stage.boris.gone
    stage.anna.answer(ev.ModifyAnswered("a", sdp("anna", version=2)))
    stage.world.settle()
    assert stage.port.statuses() == [200] and b"o=anna" in stage.port.responses[-1][1].body
    assert stage.boris.byes == 1 and stage.call.transfer is None and stage.call.taken == {"b1": COLLEAGUE}
    leg.on_ack(request(IN_DIALOG.format(method="ACK", cseq=10)))
    stage.anna.say(ev.Released("a", 16))
    assert stage.port.methods() == ["BYE"] and stage.call.finished


def test_unknown_and_foreign_dialogs(stage: Stage) -> None:
    """481 for both: nobody learns what exists; 486 where only a ringing call was meant."""
    stage.invite(Source(SourceKind.SEAT, "mallory", "K2"))
    stage.invite(Source(SourceKind.CARRIER, "telekom"))
    stage.invite(replaces=Replaces("c", "t", "f", True))
    stage.world.found = None
    stage.invite()
    assert stage.port.statuses() == [481, 481, 486, 481]
    assert not stage.boris.gone and stage.call.transfer is None


def test_one_at_a_time(stage: Stage) -> None:
    """While somebody takes over or transfers, another has to wait."""
    stage.invite()
    stage.invite()
    assert stage.port.statuses() == [491]


def test_caller_declines(stage: Stage) -> None:
    """All is as it was."""
    stage.invite()
    stage.anna.answer(ev.ModifyRefused("a", 488))
    stage.world.settle()
    assert stage.port.statuses() == [488] and stage.call.legs["b1"] is stage.boris and not stage.boris.gone
    stage.anna.say(ev.InfoReceived("a", "x", b"5"))
    assert stage.boris.digits == [b"5"]


def test_colleague_gives_up(stage: Stage) -> None:
    """CANCEL: 487, and anna is told of boris's media again."""
    leg = stage.invite()
    leg.on_cancel(request(INVITE.format(extra="X: y").replace("INVITE", "CANCEL")))
    assert stage.port.statuses() == [487] and stage.call.legs["b1"] is stage.boris
    stage.anna.answer(ev.ModifyAnswered("a", sdp("anna", version=2)))
    stage.world.settle()
    stage.world.wait()
    assert b"o=boris" in (stage.anna.asked[-1] or b"")


def test_caller_hangs_up_meanwhile(stage: Stage) -> None:
    """487 for carla, BYE for boris."""
    stage.invite()
    stage.anna.say(ev.Released("a", 16))
    assert stage.port.statuses() == [487] and stage.boris.byes == 1 and stage.call.finished


def test_replaced_hangs_up_meanwhile(stage: Stage) -> None:
    """Boris is on his way out already: carla still takes over."""
    stage.invite()
    stage.boris.say(ev.Released("b1", 16))
    assert not stage.call.finished
    stage.anna.answer(ev.ModifyAnswered("a", sdp("anna", version=2)))
    stage.world.settle()
    assert stage.port.statuses() == [200] and not stage.call.finished


def test_without_an_offer(stage: Stage) -> None:
    """Carla's INVITE has no SDP: anna's comes in the 200, carla's with the ACK."""
    leg = stage.invite(body=b"")
    assert stage.anna.asked == [None]
    stage.anna.answer(ev.ModifyAnswered("a", sdp("anna", version=2)))
    stage.world.settle()
    assert stage.port.statuses() == [200] and b"o=anna" in stage.port.responses[-1][1].body
    leg.on_ack(request(IN_DIALOG.format(method="ACK", cseq=10), SDP_A))
    stage.world.settle()
    assert stage.call.settled
