"""An edge that is the only one decides by itself, and stops before another one may count on what it told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import pytest

from dialplan.model import ChannelClaim
from edge.channels.counts import ALONE_FOR, Claim, Exchanged, Lease
from edge.channels.ledger import STARTS
from edge.channels.shared import TELL_AFTER, SharedChannels
from tests.unit.channels.simulation import Database, SimulatedCounts, VirtualLoop

ONE = (ChannelClaim("number", "+4922838697", "in", 1),)
TWO = (ONE[0]._replace(key="+4922838698"),)
ROW = ONE[0][:3]


class Counted(Database):
    """Knows how many calls were asked for."""

    asks = 0

    def exchange(
        self, edge: str, epoch: int, leases: Sequence[Lease], claims: Sequence[Claim], stay: bool
    ) -> Exchanged | None:
        self.asks += len({claim[0] for claim in claims})
        return super().exchange(edge, epoch, leases, claims, stay)


class World:
    """A database and edges on a virtual clock."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.db = Counted(self.loop.time)
        self.edges: list[SharedChannels] = []

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def edge(self, name: str) -> SharedChannels:
        edge = SharedChannels(SimulatedCounts(self.db, name, name), self.loop.time)
        self.edges.append(edge)
        return edge

    def alone(self) -> SharedChannels:
        """An edge that has found out that it is the only one."""
        edge = self.edge("a")
        self.run(edge.start())
        assert self.run(edge.admit("first", ONE)) is None
        edge.release("first")
        self.wait(1)
        self.db.asks = 0
        return edge

    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    for edge in world.edges:
        world.run(edge.stop())
    world.loop.close()


def test_the_only_edge_does_not_ask(world: World) -> None:
    """It decides at once, and the counts hear of it within 50 ms, as of every release."""
    edge = world.alone()
    began = world.loop.time()
    assert world.run(edge.admit("x", ONE)) is None
    refused = world.run(edge.admit("y", ONE))
    assert refused is not None and (refused.limit, refused.used) == (1, 1)
    assert (world.loop.time(), world.db.asks, world.db.in_use()) == (began, 0, {})
    world.wait(TELL_AFTER + 0.002)
    assert world.db.in_use() == {ROW: 1}
    edge.release("x")
    world.wait(TELL_AFTER + 0.002)
    assert world.db.in_use() == {}


def test_nor_after_a_quiet_while(world: World) -> None:
    """It speaks every 3 s anyhow."""
    edge = world.alone()
    for n in range(50):
        world.wait(0.99)
        assert world.run(edge.admit(f"c{n}", ONE)) is None
        edge.release(f"c{n}")
    assert world.db.asks <= 2  # where a call meets the heartbeat


def test_calls_a_second_are_asked_for(world: World) -> None:
    """An edge that joins could not know of them."""
    edge = world.alone()
    assert world.run(edge.admit("x", (ChannelClaim("carrier", "c", STARTS, 5),))) is None
    assert world.db.asks == 1


def test_nothing_is_decided_while_others_are_asked(world: World) -> None:
    """The call that they are asked for may take the same channel."""
    edge = world.alone()

    async def both() -> list[object]:
        asked = asyncio.ensure_future(edge.admit("x", (ChannelClaim("carrier", "c", STARTS, 5), *ONE)))
        await asyncio.sleep(0.0005)
        return [await edge.admit("y", ONE), await asked]

    assert world.run(both()).count(None) == 1


@pytest.mark.parametrize(
    ("before", "answers_after", "tells"),
    [(0.0, 0.001, False), (0.04, 0.001, False), (2.485, 0.001, False), (0.3, 0.02, False), (0.3, 0.02, True)],
)
def test_the_last_channel_goes_to_one_of_two(world: World, before: float, answers_after: float, tells: bool) -> None:
    """A second edge joins and asks as soon as it can. Whenever the first one takes the channel meanwhile, at each
    quarter of a millisecond, the other one does not. The first one's answers may be on their way for long, and
    one of them, that it is alone, while the other comes."""
    edge = world.alone()
    counts = edge._counts
    assert isinstance(counts, SimulatedCounts)
    counts.answers_after = answers_after
    taken = []
    for nth in range(120):
        world.wait(0.5 + before)
        if tells:
            assert world.run(edge.admit("another", TWO)) is None
            edge.release("another")
            world.wait(TELL_AFTER - 0.002)
        assert world.db.in_use() == {} and edge._decides(ONE)
        other = world.edge(f"b{nth}")

        async def first(nth: int = nth) -> bool:
            await asyncio.sleep(nth / 4000)
            return await edge.admit(f"first{nth}", ONE) is None

        async def second(nth: int = nth, other: SharedChannels = other) -> bool:
            await other.start()
            return await other.admit(f"second{nth}", ONE) is None

        async def both() -> list[bool]:
            return await asyncio.gather(first(), second())

        taken.append(world.run(both()))
        edge.release(f"first{nth}")
        other.release(f"second{nth}")
        world.wait(0.1)
        world.run(other.stop())
        world.wait(3.1)
    assert all(sum(one) == 1 for one in taken), taken
    assert {tuple(one) for one in taken} == {(True, False), (False, True)}


@pytest.mark.parametrize("deaf", [False, True])
@pytest.mark.parametrize("answers_after", [0.001, 0.03])
def test_a_busy_edge_is_joined(world: World, answers_after: float, deaf: bool) -> None:
    """It takes and gives back the channel all the time, also where it hears of the other one only when it next speaks:
    no two calls have it at once, and both edges get it."""
    edge = world.alone()
    counts = edge._counts
    assert isinstance(counts, SimulatedCounts)
    counts.answers_after, counts.deaf = answers_after, deaf
    others = [world.edge(f"b{nth}") for nth in range(12)]
    got = [0] * 13
    over = False

    def held() -> int:
        return sum(one.used(*ROW) for one in (edge, *others))

    async def take(by: SharedChannels, rounds: int, nth: int = -1) -> None:
        for turn in range(rounds):
            if over:
                return
            if await by.admit(f"call{nth}", ONE) is None:
                got[nth] += 1
                await asyncio.sleep(0.0003)
                assert held() == 1
                by.release(f"call{nth}")
            await asyncio.sleep(0.08 if turn % 80 == 0 else 0.0007)

    async def all_of_them() -> None:
        nonlocal over
        first = asyncio.ensure_future(take(edge, 100_000))
        for nth, other in enumerate(others):
            await asyncio.sleep(0.2 + nth * 0.0047)
            await other.start()
            await take(other, 200, nth)
            await other.stop()
        over = True
        await first

    world.run(all_of_them())
    assert got[-1] > 100 and sum(got[:-1]) > 3


def test_an_edge_that_is_cut_off_is_waited_for(world: World) -> None:
    """It hears nothing of the one that joins, and decides by itself for so long at most: the other one waits."""
    edge = world.alone()
    world.db.unreachable.add("a")
    began = world.loop.time()
    other = world.edge("b")
    world.run(other.start())
    assert other.shared and ALONE_FOR - 3 < world.loop.time() - began < ALONE_FOR + 1.5
    assert edge._alone_until < world.loop.time()
