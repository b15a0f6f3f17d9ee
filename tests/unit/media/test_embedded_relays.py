"""Several relay processes of one edge: how calls spread over them, and what the death of one costs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from media.relay.child import RelayChild
from media.relay.embedded import EmbeddedRelays
from media.relay.port import RelayError, RelayFull
from media.relay.process import Bind, RelayOptions
from media.relay.rtpio import RtpIoRelay
from tests.unit.media.conftest import RelayUnderTest
from tests.unit.media.peers import DEADLINE, Peer, Told
from tests.unit.media.talk import connect, nobody, talk

pytestmark = pytest.mark.adapter

MakePeer = Callable[..., Peer]
StartRelay = Callable[..., RelayUnderTest]


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[EmbeddedRelays, list[RelayChild]]]:
    """An edge's two relay processes."""
    ports = ((23700, 23749), (23750, 23799))
    children = [RelayChild(RelayOptions(str(folder / f"s{n}"), (Bind("127.0.0.1"),), p)) for n, p in enumerate(ports)]
    relays = EmbeddedRelays([RtpIoRelay(child=child, name=f"embedded-{n}") for n, child in enumerate(children)])
    await relays.start()
    yield relays, children
    await relays.stop()
    assert os.listdir(folder) == []


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what other processes do."""
    for _ in range(int(DEADLINE / 0.01)):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


async def test_calls_spread_and_a_death_takes_its_own_only(tmp_path: Path, peer: MakePeer) -> None:
    """Principle 7, for each of several: the calls of the dead one are told, the others talk on, new ones are taken at
    once, and it is started again."""
    async with two(tmp_path) as (relays, children):
        a, b = peer(), peer()
        lost: list[str] = []
        sessions = [relays.session(f"call-{n}", lambda n=n: lost.append(f"call-{n}")) for n in range(6)]  # type: ignore[misc]
        told = [await connect(session, a, b) for session in sessions]
        first = [session for session, (to_b, _) in zip(sessions, told, strict=True) if to_b.ports[0] < 23750]
        assert len(first) == 3 and relays.sessions == await relays.media_in_relay() == 6
        pid = children[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: len(lost) == 3)
        assert Counter(lost) == Counter(session.id for session in first)
        assert relays.ready and relays.sessions == 3 and not relays.instances["embedded-0"]
        for session, (to_b, to_a) in zip(sessions, told, strict=True):
            if session not in first:
                await talk(a, b, to_b, to_a)
        fresh = relays.session("fresh", nobody)
        to_b, to_a = await connect(fresh, a, b)
        assert to_b.ports[0] >= 23750
        await talk(a, b, to_b, to_a)
        await until(lambda: relays.instances["embedded-0"])
        to_b, _ = await connect(again := relays.session("again", nobody), a, b)
        assert to_b.ports[0] < 23750, "the emptiest gets the next"
        for session in (*sessions, fresh, again):
            await session.delete()
        assert relays.sessions == 0


async def test_a_session_finds_its_process_again(tmp_path: Path, peer: MakePeer) -> None:
    """After a restart of the edge a call is where it was; where that process is no more, its media are lost."""
    async with two(tmp_path) as (relays, _):
        a, b = peer(), peer()
        saved = {}
        for name in ("one", "two"):
            await connect(session := relays.session(name, nobody), a, b)
            saved[name] = json.loads(json.dumps(session.save()))
        assert {state["relay"] for state in saved.values()} == {"embedded-0", "embedded-1"}
        later = EmbeddedRelays([RtpIoRelay(str(tmp_path / f"s{n}"), name=f"embedded-{n}") for n in range(2)])
        await later.start()
        for name, state in saved.items():
            taken = later.session(name, nobody)
            taken.restore(state)
            assert await taken.check()
            await taken.delete()
        gone = later.session("one", nobody)
        gone.restore(saved["one"] | {"relay": "embedded-7"})
        assert not await gone.check()
        with pytest.raises(RelayError, match="not there any more"):
            await gone.forward(a.sdp(), "a", "b1")
        await gone.delete()
        await later.stop()


async def test_a_process_that_hangs_is_passed_over(start_relay: StartRelay, peer: MakePeer) -> None:
    """The call that finds out waits for one command's time, and then goes to the other."""
    hung, well = start_relay("--ports", "23700-23749"), start_relay("--ports", "23750-23799")
    relays = EmbeddedRelays([RtpIoRelay(r.path, name=r.path, command_timeout=0.5) for r in (hung, well)])
    await relays.start()
    a, b = peer(), peer()
    hung.process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.to_thread(os.waitid, os.P_PID, hung.process.pid, os.WSTOPPED | os.WNOWAIT)
        session = relays.session("patient", nobody)
        to_b, to_a = await connect(session, a, b)
        assert to_b.ports[0] >= 23750 and relays.sessions == 1
        await talk(a, b, to_b, to_a)
        await session.delete()
    finally:
        hung.process.send_signal(signal.SIGCONT)
    await relays.stop()


async def test_full_by_descriptors(start_relay: StartRelay, peer: MakePeer) -> None:
    """A small limit of descriptors is raised as far as may be, and then named; no call fails at its answer."""
    small = start_relay("--ports", "23000-23899", limit=80)
    relay = RtpIoRelay(small.path)
    relays = EmbeddedRelays([relay])
    await relays.start()
    assert relay.room is not None and (relay.room.calls, relay.room.short_of) == (4, "descriptors")
    a, b = peer(), peer()
    sessions = [relays.session(f"call-{n}", nobody) for n in range(5)]
    offered = [Told.read(await session.forward(a.sdp(), "a", "b1")) for session in sessions[:4]]
    with pytest.raises(RelayFull, match=r"out of file descriptors \(4 calls\): raise LimitNOFILE or ulimit -n"):
        await sessions[4].forward(a.sdp(), "a", "b1")
    answered = [Told.read(await s.forward(b.sdp(), "b", "b1", answer=True)) for s in sessions[:4]]
    for line, (to_b, to_a) in enumerate(zip(offered, answered, strict=True), 1):
        await talk(a, b, to_b, to_a, line)
    await sessions[0].delete()
    await sessions[4].forward(a.sdp(), "a", "b1")
    for session in sessions:
        await session.delete()
    await relays.stop()


async def test_full_by_ports(start_relay: StartRelay, peer: MakePeer) -> None:
    """Two processes with room for one call each take two, in either; the third is told why not."""
    started = [start_relay("--ports", "23700-23707"), start_relay("--ports", "23750-23757")]
    relays = EmbeddedRelays([RtpIoRelay(r.path, name=r.path) for r in started])
    await relays.start()
    a = peer()
    sessions = [relays.session(f"call-{n}", nobody) for n in range(3)]
    for session in sessions[:2]:
        await session.forward(a.sdp(), "a", "b1")
    with pytest.raises(RelayFull, match=r"out of ports \(1 calls\): widen media_ports"):
        await sessions[2].forward(a.sdp(), "a", "b1")
    for session in sessions:
        await session.delete()
    await relays.stop()
