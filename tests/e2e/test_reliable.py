"""Phones that use reliable provisional responses (RFC 3262), with those that do and those that do not."""

from __future__ import annotations

import pytest
from peers import tones
from peers.world import SEATS, World

pytestmark = pytest.mark.phones


@pytest.mark.parametrize("caller_requires", [True, False])
@pytest.mark.parametrize("called", ["baresip", "pjsua2"])
def test_call_with_reliable_ringing(world: World, called: str, caller_requires: bool) -> None:
    """PJSIP that requires 100rel calls and hears its ringing; PJSIP that knows it rings reliably; both talk,
    and an UPDATE of the caller is answered."""
    phone = world.peers.pjsua(world.account("bobby"), tone=1010, prack_required=caller_requires)
    phone.wait_registered()
    other = world.phone(called, "alice", tone=440, **({"prack": True} if called == "pjsua2" else {}))
    phone.dial(SEATS["alice"][0])
    other.wait_incoming()
    other.answer()
    phone.wait_established()
    other.wait_established()
    phone.update()
    tones.talk()
    phone.hangup()
    other.wait_closed()
    sent = phone.trace
    world.peers.stop_phones()
    tones.assert_heard(phone.recording, 440)
    tones.assert_heard(other.recording, 1010)
    assert [m.status for m in sent.responses(method="UPDATE")] == [200], "RFC 3311"
    assert bool(sent.requests("PRACK", "out")) == caller_requires
    if caller_requires:
        assert [m.status for m in sent.responses(method="PRACK")] == [200] * len(sent.requests("PRACK", "out"))
