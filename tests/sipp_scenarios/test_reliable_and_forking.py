"""Reliable provisional responses (RFC 3262) and far sides that fork (RFC 3261 section 13.2.2.4), on the wire."""

from __future__ import annotations

import pytest
from peers.world import SEATS, World, assert_nothing_crossed

pytestmark = pytest.mark.sipp


def test_called_side_rings_reliably(world: World) -> None:
    """Each reliable response gets one PRACK at once; nothing of it is seen by a caller that knows none of it."""
    answering = world.sipp_phone("alice", "uas_100rel")
    caller = world.carrier_calls("uac_basic", SEATS["alice"][1]).wait()
    called = answering.wait()
    pracks = called.requests("PRACK", "in")
    assert [p.header("RAck") for p in pracks] == ["4711 1 INVITE", "4712 1 INVITE"]
    assert [m.status for m in caller.responses(method="INVITE")] == [100, 180, 183, 200]
    assert "RSeq" not in caller.received_text() and "100rel" not in caller.received_text()
    assert int(called.requests("BYE", "in")[0].header("CSeq").split()[0]) == 4
    assert_nothing_crossed(caller, called)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_caller_requires_it_of_us(world: World, transport: str) -> None:
    """`Require: 100rel` is no reason to refuse: the caller gets RSeq and 200 for its PRACK, the called side nothing."""
    answering = world.sipp_phone("alice", "uas_ring_and_play", transport)
    caller = world.carrier_calls("uac_100rel", SEATS["alice"][1]).wait()
    called = answering.wait()
    ringing, playing = caller.responses(180)[0], caller.responses(183)[0]
    assert int(playing.header("RSeq")) == int(ringing.header("RSeq")) + 1
    assert ringing.header("Require") == "100rel"
    assert not called.requests("PRACK", "in")
    assert caller.responses(200, "INVITE")[0].header("To") == ringing.header("To")
    assert_nothing_crossed(caller, called)


@pytest.mark.parametrize("late_ms", [0, 300])
def test_second_answer_of_a_fork_is_ended(world: World, late_ms: int) -> None:
    """Two early dialogs and two answers: the first has the call, the second gets ACK and BYE in its own dialog."""
    answering = world.sipp_phone("alice", "uas_forks", late_ms=late_ms)
    caller = world.carrier_calls("uac_basic", SEATS["alice"][1], talk_ms=800).wait()
    called = answering.wait()
    second, first = called.requests("BYE", "in")
    assert second.header("To").endswith("-two") and first.header("To").endswith("-one")
    assert [a.header("To").rpartition("-")[2] for a in called.requests("ACK", "in")] == ["one", "two"]
    assert len({m.header("To") for m in caller.responses(method="INVITE") if m.status > 100}) == 1
    assert_nothing_crossed(caller, called)
