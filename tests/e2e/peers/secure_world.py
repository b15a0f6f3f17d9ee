"""The telephone world with two rtpengines, and SRTP as it is provisioned: none, optional, required.

Seats: alice must have SRTP, carol may, the others have none. Of the carriers, the one over TLS must have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from peers import world as plain
from peers.certificates import Certificate
from peers.fixtures import Peers, artifacts
from peers.rtpengine import RtpEngine
from peers.world import World

SRTP = {"alice": "required", "carol": "optional"}


class SecureWorld(World):
    """`engines`: how many rtpengines relay; 0: the relay of the edge's own."""

    def __init__(self, folder: Path, certificate: Certificate, peers: Peers, engines: int = 2) -> None:
        super().__init__(folder, certificate, peers)
        self.engines = [RtpEngine(folder / "rtpengine", f"rtpengine-{n}") for n in range(1, engines + 1)]
        if self.engines:
            self.edge.set(relay="rtpengine", rtpengines=[engine.address for engine in self.engines])

    def start(self) -> None:
        """As that of the plain world, with its own provisioning."""
        self.edge.start()
        found = plain.document(self)
        for seat in found["seats"]:  # type: ignore[attr-defined]
            seat["srtp"] = SRTP.get(seat["username"], "off")
        for carrier in found["carriers"]:  # type: ignore[attr-defined]
            if carrier["name"] == "network-tls":
                carrier["srtp"] = "required"
        self.edge.provision(found)
        for transport in plain.REGISTERED_CARRIERS.values():
            self.edge.wait_carrier(f"network-{transport}", "registered")


def standing(request: pytest.FixtureRequest, certificate: Certificate, engines: int) -> Iterator[SecureWorld]:
    """A world for one module."""
    with artifacts(request) as folder:
        started = Peers(folder, certificate)
        world = SecureWorld(folder, certificate, started, engines)
        try:
            world.start()
            yield world
            world.stop()
        finally:
            world.edge.discard()
            world.switchboard.stop()
            started.stop()
            for engine in world.engines:
                engine.stop()
