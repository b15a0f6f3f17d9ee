"""What strangers may do with a connection: little (domain rules 7.4, 7.12)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from edge.sip.events import RequestReceived
from edge.transport.guard import Guard, GuardLimits
from edge.transport.tcp import StreamLimits

from .shell import node, wire


async def test_half_a_message_is_not_waited_for() -> None:
    """A byte now and then keeps no connection, also after a first whole message; whole messages keep it."""
    async with node("tcp", limits=StreamLimits(message=0.3)) as b:
        reader, slow = await asyncio.open_connection(*b.address)
        other, steady = await asyncio.open_connection(*b.address)
        slow.write(wire(branch="z9hG4bKslow") + b"OPT")
        steady.write(wire(branch="z9hG4bK0")[:-5])
        dripping = asyncio.create_task(_drip(slow))
        for n in range(8):  # longer than the limit, each message in time
            await asyncio.sleep(0.06)
            steady.write(wire(branch=f"z9hG4bK{n}")[-5:] + wire(branch=f"z9hG4bK{n + 1}")[:-5])
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                await reader.read()
        dripping.cancel()
        assert len(b.driver.connections) == 1 and not other.at_eof()
        for stream in (slow, steady):
            stream.close()


async def _drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"I")
        await asyncio.sleep(0.05)


async def test_a_ban_closes_the_connections_of_its_source() -> None:
    guard = Guard()
    async with node("tcp", guard=guard) as b:
        reader, writer = await asyncio.open_connection(*b.address)
        writer.write(wire())
        await b.heard(RequestReceived)
        guard.ban("127.0.0.1", 60, b.driver.now())
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


async def test_a_flood_over_a_connection_ends_it() -> None:
    guard = Guard(GuardLimits(rate=1, burst=20))
    async with node("tcp", guard=guard) as b:
        reader, writer = await asyncio.open_connection(*b.address)
        with suppress(ConnectionError):
            for n in range(500):
                writer.write(wire(branch=f"z9hG4bK{n}"))
                await writer.drain()
            async with asyncio.timeout(5):
                await reader.read()
        assert len(b.events) < 60
        writer.close()


async def test_silent_strangers_make_room() -> None:
    """Who spoke once and then holds the connection is closed; somebody known is not."""
    for known in (False, True):
        guard = Guard(known=lambda host, known=known: known)
        async with node("tcp", guard=guard, limits=StreamLimits(idle=0.0)) as b:
            reader, writer = await asyncio.open_connection(*b.address)
            writer.write(wire())
            await b.heard(RequestReceived)
            await asyncio.sleep(0.01)
            b.driver.connections._close_idle()
            if not known:
                async with asyncio.timeout(5):
                    await reader.read()
            assert len(b.driver.connections) == (1 if known else 0)
            writer.close()
