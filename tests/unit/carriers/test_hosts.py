"""What is remembered of the hosts behind a name, and the walk of a request from one to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from edge.carriers.hosts import Avoided, Hosts
from edge.sip.flow import Address, Flow
from edge.transport.errors import ConnectError
from edge.transport.resolver import ResolvedHop

LOCAL, ONE, TWO, THREE = (Address(f"192.0.2.{n}", 5060) for n in (10, 1, 2, 3))
HOPS = [ResolvedHop("udp", at, "many.example") for at in (ONE, TWO, THREE)]


class Driver:
    """Connects to all but some; those that are `stuck` never answer."""

    def __init__(self, refusing: set[Address], stuck: set[Address]) -> None:
        self.refusing, self.stuck = refusing, stuck

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def flow_to(self, hop: ResolvedHop) -> Flow:
        if hop.address in self.refusing:
            raise ConnectError(f"{hop.address}: connection refused")
        if hop.address in self.stuck:
            await asyncio.sleep(60)
        return Flow(hop.transport, LOCAL, hop.address)


def order(avoided: Avoided, now: float, *, anyway: bool = False) -> list[Address]:
    return [hop.address for hop in avoided.usable(HOPS, now, anyway=anyway)]


def test_silent_hosts_are_asked_last() -> None:
    """For 30 s, then twice as long each time; calls that were under way together count once; an answer ends it."""
    avoided = Avoided()
    avoided.silent("udp", ONE, 0.0)
    avoided.silent("udp", ONE, 1.0)
    assert order(avoided, 29.0) == [TWO, THREE, ONE]
    assert avoided.why("udp", ONE, 20.0) == "no answer, asked last for 10 s"
    assert order(avoided, 31.0) == [ONE, TWO, THREE]
    avoided.silent("udp", ONE, 31.0)
    assert order(avoided, 90.0) == [TWO, THREE, ONE]
    assert order(avoided, 92.0) == [ONE, TWO, THREE]
    avoided.silent("udp", ONE, 92.0)
    avoided.heard("udp", ONE)
    assert order(avoided, 93.0) == [ONE, TWO, THREE]


def test_who_answers_options_may_take_no_calls() -> None:
    """An answer to OPTIONS ends what silence to OPTIONS began, and nothing else."""
    avoided = Avoided()
    avoided.silent("udp", ONE, 0.0, asked=True)
    avoided.silent("udp", TWO, 0.0)
    for at in (ONE, TWO):
        avoided.heard("udp", at, asked=True)
    assert order(avoided, 1.0) == [ONE, THREE, TWO]


def test_hosts_that_said_503_are_left_alone() -> None:
    """For as long as Retry-After says, ten minutes at the most, also where they answer; but not by emergency calls."""
    avoided = Avoided()
    avoided.busy("udp", TWO, 5000.0, 0.0)
    avoided.heard("udp", TWO)
    assert order(avoided, 599.0) == [ONE, THREE]
    assert avoided.rests("udp", TWO, 599.0) and not avoided.rests("tcp", TWO, 599.0)
    assert order(avoided, 599.0, anyway=True) == [ONE, TWO, THREE]
    assert order(avoided, 601.0) == [ONE, TWO, THREE]


def test_memory_is_bounded() -> None:
    """Names may lead anywhere."""
    avoided = Avoided()
    for n in range(5000):
        avoided.silent("udp", Address("192.0.2.1", n), 0.0)
    assert len(avoided._hosts) <= 1000


@pytest.mark.looptime
async def test_walk() -> None:
    """A host that refuses or hangs is passed over, and what came of each is told."""
    avoided = Avoided()
    tasks: list[asyncio.Task[None]] = []

    def spawn(work: Coroutine[None, None, None]) -> None:
        tasks.append(asyncio.get_running_loop().create_task(work))

    hops = [ResolvedHop("tcp", at, "many.example") for at in (ONE, TWO, THREE)]
    hosts = Hosts(hops, Driver({ONE}, {TWO}), avoided, spawn, patience=2.5)
    flow = await hosts.first()
    assert flow.remote == THREE and not hosts.more and hosts.several
    hosts.refused(flow, 20.0)
    assert hosts.walked == [f"tcp {ONE}: no connection", f"tcp {TWO}: no connection", f"tcp {THREE}: 503"]
    found: list[Flow | None] = []
    hosts.next(found.append)
    await asyncio.gather(*tasks)
    assert found == [None]
    now = asyncio.get_running_loop().time()
    assert avoided.is_silent("tcp", ONE, now) and avoided.is_silent("tcp", TWO, now)
    assert avoided.rests("tcp", THREE, now)
