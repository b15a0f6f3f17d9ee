"""Requests too large for a datagram, towards a carrier that is known by its address (RFC 3261 section 18.1.1)."""

from __future__ import annotations

import pytest
from peers.world import PHONE_ADDRESS, SOMEBODY, STATIC_ADDRESS, World, password

pytestmark = pytest.mark.sipp

LARGE = "\n".join(
    ["v=0", "o=sipp 5 2 IN IP4 127.0.0.31", "s=-", "c=IN IP4 127.0.0.31", "t=0 0", "m=audio 20000 RTP/AVP 8 0 101"]
    + ["a=rtpmap:8 PCMA/8000", "a=rtpmap:0 PCMU/8000", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15"]
    + [f"a=x-feature:{number:02} {'abcdefgh' * 5}" for number in range(16)]
)


def test_large_calls_to_a_carrier(world: World) -> None:
    """Where the carrier takes TCP the INVITE comes over it, else as a datagram; what follows stays on its flow."""
    tcp = world.peers.sipp(
        "uas_answer", address=STATIC_ADDRESS, port=world.switchboard.port, transport="tcp", sdp=LARGE
    )
    for carrier, via in ((tcp, "TCP"), (None, "UDP")):
        answering = carrier or world.carrier_answers("uas_answer")
        caller = world.peers.sipp(
            "uac_phone", remote=world.edge.server(), called=SOMEBODY, challenge=401, username="bobby",
            password=password("bobby"), caller="bobby", address=PHONE_ADDRESS, sdp=LARGE,
        )  # fmt: skip
        caller.wait()
        seen = answering.wait()
        invite = seen.one("INVITE")
        assert len(invite.text) > 1300
        for message in (invite, seen.one("ACK"), seen.one("BYE")):
            assert message.header("Via").startswith(f"SIP/2.0/{via}")
        assert ("transport=tcp" in invite.header("Contact")) == (via == "TCP")
