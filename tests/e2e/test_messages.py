"""What two people write to each other in a call (RFC 3428), between phones that are not ours."""

from __future__ import annotations

import pytest
from peers.world import SEATS, World

pytestmark = pytest.mark.phones


def test_texts_cross_a_call(world: World) -> None:
    """Each text arrives as it was written, and its sender hears so."""
    alice = world.phone("pjsua2", "alice")
    bobby = world.phone("pjsua2", "bobby")
    alice.dial(SEATS["bobby"][0])
    bobby.wait_incoming()
    bobby.answer()
    alice.wait_established()
    bobby.wait_established()
    assert alice.send_text("Grüße, 5 €") == 200
    assert bobby.wait_text() == "text/plain Grüße, 5 €"
    assert bobby.send_text("<b>yes</b>", "text/html") == 200
    assert alice.wait_text() == "text/html <b>yes</b>"
    assert len(bobby.trace.requests("MESSAGE", "in")) == 1
    bobby.hangup()
    alice.wait_closed()


def test_text_to_another_make(world: World) -> None:
    """Baresip answers a text by itself."""
    alice = world.phone("pjsua2", "alice")
    bobby = world.phone("baresip", "bobby")
    alice.dial(SEATS["bobby"][0])
    bobby.wait_incoming()
    bobby.answer()
    alice.wait_established()
    assert alice.send_text("hello") == 200
    alice.hangup()
    bobby.wait_closed()
