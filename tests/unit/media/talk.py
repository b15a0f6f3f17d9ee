"""What the tests of relays do with a session and two peers."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from media.relay.port import MediaRelay, RelaySession
from tests.unit.media.peers import DEADLINE, Peer, Told, rtp

RELAY = "127.0.0.1"


def nobody() -> None:
    raise AssertionError("a media timeout that should not have been")


async def connect(session: RelaySession, a: Peer, b: Peer) -> tuple[Told, Told]:
    """Offer of A, answer of B; what B was told, what A was told."""
    to_b = Told.read(await session.forward(a.sdp(), "a", "b1"))
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1", answer=True))
    return to_b, to_a


async def talk(a: Peer, b: Peer, to_b: Told, to_a: Told, sequence: int = 1, line: int = 0) -> None:
    """One packet each way, coming from the port the receiver was told to send to."""
    a.send((to_a.address, to_a.ports[line]), rtp(sequence, 0xA))
    assert await b.receive() == (rtp(sequence, 0xA), (to_b.address, to_b.ports[line]))
    b.send((to_b.address, to_b.ports[line]), rtp(sequence, 0xB))
    assert await a.receive() == (rtp(sequence, 0xB), (to_a.address, to_a.ports[line]))


async def ready_again(relay: MediaRelay) -> None:
    for _ in range(int(DEADLINE / 0.02)):
        if relay.ready:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the relay did not come back")


async def heard(sender: Peer, to: tuple[str, int], data: bytes, receiver: Peer) -> None:
    """Send until the receiver has it: the relay may have to learn the receiver's address first."""
    for _ in range(50):
        sender.send(to, data)
        with suppress(TimeoutError):
            while (await receiver.receive(0.1))[0] != data:
                pass
            return
    raise AssertionError("not heard")
