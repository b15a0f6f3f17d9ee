"""The relay of our own: its process, its child, its time limits."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from media.relay.child import RelayChild
from media.relay.port import RelayError, RelayStats
from media.relay.process import Bind, RelayOptions
from media.relay.rtpio import RtpIoRelay
from tests.unit.media.conftest import RelayUnderTest, none_left
from tests.unit.media.peers import DEADLINE, Peer, Told, rtp
from tests.unit.media.talk import RELAY, connect, nobody, ready_again, talk

pytestmark = pytest.mark.adapter

MakePeer = Callable[..., Peer]
StartRelay = Callable[..., RelayUnderTest]


async def test_the_advertised_address_is_told(embedded: RtpIoRelay, peer: MakePeer) -> None:
    """A relay behind NAT tells the address outside, and takes packets inside."""
    a, b = peer(), peer()
    session = embedded.session("outside", nobody)
    to_b = Told.read(await session.forward(a.sdp(), "a", "b1", network="nat"))
    assert to_b.address == "192.0.2.77" and "o=- " in to_b.text and "IN IP4 192.0.2.77" in to_b.text
    await session.forward(b.sdp(), "b", "b1", answer=True)
    b.send((RELAY, to_b.ports[0]), rtp(1))
    await a.receive()
    await session.delete()


async def test_a_nat_that_forgets_in_a_call(embedded: RtpIoRelay, peer: MakePeer) -> None:
    """A NAT gives a phone another port, or another address, in the middle of its stream, and nobody says so in SIP:
    what goes on with the same SSRC and the next numbers is followed, and the other side's sound goes there. Who cannot
    see the stream knows neither: another SSRC, or a number far from the last one, moves nothing."""
    a, moved, away, thief, b = peer(), peer(), peer("127.0.0.3"), peer("127.0.0.2"), peer()
    session = embedded.session("rebinding", nobody)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a, 7)
    for source, sequence in ((moved, 8), (away, 12)):
        thief.send((to_a.address, to_a.ports[0]), rtp(sequence, 0xBAD))
        thief.send((to_a.address, to_a.ports[0]), rtp(sequence + 20_000, 0xA))
        source.send((to_a.address, to_a.ports[0]), rtp(sequence, 0xA))
        assert (await b.receive())[0] == rtp(sequence, 0xA)
        b.send((to_b.address, to_b.ports[0]), rtp(sequence, 0xB))
        assert (await source.receive())[0] == rtp(sequence, 0xB)
    assert thief.nothing_waits() and b.nothing_waits() and a.nothing_waits()
    await session.delete()


async def test_two_hundred_calls_at_once(embedded: RtpIoRelay, relay_process: RelayUnderTest, peer: MakePeer) -> None:
    """All calls have ports of their own, and all descriptors are given back."""

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{relay_process.process.pid}/fd"))

    before = descriptors()
    a, b = peer(), peer()
    sessions = [embedded.session(f"load-{n}", nobody) for n in range(200)]
    told = await asyncio.gather(*(connect(session, a, b) for session in sessions))
    ports = [port for to_b, to_a in told for port in (*to_b.ports, *to_a.ports)]
    assert len(set(ports)) == 400
    assert descriptors() > 800
    assert embedded.sessions == await embedded.media_in_relay() == 200
    await asyncio.gather(*(session.delete() for session in sessions))
    for _ in range(100):
        if descriptors() <= before + 4:
            break
        # The engine closes sockets in threads of its own, within a second.
        await asyncio.sleep(0.02)
    # The relay's own medium may have been made in between.
    assert descriptors() <= before + 4


async def test_two_clients_share_a_relay_and_one_takes_a_call_over(
    embedded: RtpIoRelay, relay_process: RelayUnderTest, peer: MakePeer
) -> None:
    """Principle 7: a signalling process that comes again finds the relay and the media of its calls."""
    a, b = peer(), peer()
    first = RtpIoRelay(relay_process.path)
    await first.start()
    to_b, to_a = await connect(first.session("survivor", nobody), a, b)
    await first.stop()
    await talk(a, b, to_b, to_a)
    session = embedded.session("survivor", nobody)
    again = Told.read(await session.forward(b.sdp(), "b", "b1", answer=True))
    assert again.ports == to_a.ports
    assert Told.read(await session.forward(a.sdp(), "a", "b1")).ports == to_b.ports
    await talk(a, b, to_b, to_a, 2)
    assert (await session.delete()).from_a == 2


async def test_a_session_the_relay_does_not_know(embedded: RtpIoRelay, peer: MakePeer) -> None:
    """A call whose media are gone is told so, and does not get ports the far side knows nothing of."""
    a, b = peer(), peer()
    session = embedded.session("unknown", nobody)
    await session.forward(a.sdp(), "a", "b1")
    await embedded.clear()
    with pytest.raises(RelayError, match="does not know the media"):
        await session.forward(b.sdp(), "b", "b1", answer=True)
    assert await session.delete() == RelayStats()


async def test_out_of_ports_is_an_error_in_words_and_passes(start_relay: StartRelay, peer: MakePeer) -> None:
    """A full relay refuses the new call and serves it when another ends."""
    process = start_relay("--ports", "23900-23913")
    relay = RtpIoRelay(process.path)
    await relay.start()
    a = peer()
    calls = [relay.session(f"full-{n}", nobody) for n in range(8)]
    with pytest.raises(RelayError, match="out of ports"):
        for session in calls:
            await session.forward(a.sdp(), "a", "b1")
    assert relay.sessions == 3
    await calls[0].delete()
    for _ in range(200):
        with suppress(RelayError):
            await calls[7].forward(a.sdp(), "a", "b1")
            break
        # The engine closes the ports of the call before in threads of its own, within a second.
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("the ports did not come back")
    for session in calls:
        await session.delete()
    assert relay.sessions == 0
    await relay.stop()


@pytest.fixture
async def impatient(start_relay: StartRelay) -> AsyncIterator[RtpIoRelay]:
    """A relay that gives a silent call one second, and one that is not answered two."""
    process = start_relay("--ports", "23900-23949", "--timeout", "1", "--setup-timeout", "2")
    client = RtpIoRelay(process.path, hold_timeout=60)
    await client.start()
    yield client
    await client.stop()


async def test_a_silent_call_is_told_once(impatient: RtpIoRelay, peer: MakePeer) -> None:
    """3.10-16: no packet from either side ends the call once; one on hold, or not answered yet, is left alone."""
    a, b = peer(), peer()
    silent, held = asyncio.Event(), asyncio.Event()
    dead = impatient.session("silent", silent.set)
    await connect(dead, a, b)
    on_hold = impatient.session("held", held.set)
    await on_hold.forward(a.sdp(direction="inactive"), "a", "b1")
    await on_hold.forward(b.sdp(direction="inactive"), "b", "b1", answer=True)
    ringing = impatient.session("ringing", held.set)
    await ringing.forward(a.sdp(), "a", "b1")
    await ringing.forward(b.sdp(), "b", "b1", answer=True, early=True)
    began = asyncio.get_running_loop().time()
    await asyncio.wait_for(silent.wait(), DEADLINE)
    assert asyncio.get_running_loop().time() - began < 3.5
    assert not held.is_set()
    with pytest.raises(RelayError, match="timed out"):
        await dead.forward(a.sdp(), "a", "b1")
    await dead.delete()
    await on_hold.delete()
    await ringing.delete()
    assert await none_left(impatient) == 0


async def test_an_early_dialog_has_the_longer_time(impatient: RtpIoRelay, peer: MakePeer) -> None:
    """A 183 with SDP but no packets may ring on; after the answer silence counts."""
    a, b = peer(), peer()
    order: list[str] = []
    done = asyncio.Event()

    def rung_out() -> None:
        order.append("ringing")
        done.set()

    ringing = impatient.session("ringing", rung_out)
    answered = impatient.session("answered", lambda: order.append("answered"))
    for session, early in ((ringing, True), (answered, False)):
        await session.forward(a.sdp(), "a", "b1")
        await session.forward(b.sdp(), "b", "b1", answer=True, early=early)
    await asyncio.wait_for(done.wait(), DEADLINE)
    assert order == ["answered", "ringing"]
    await ringing.delete()
    await answered.delete()


async def test_a_second_medium_that_is_silent_ends_no_call(impatient: RtpIoRelay, peer: MakePeer) -> None:
    """Video that is switched off is no dead call: the first medium decides."""
    a, b, va, vb = peer(), peer(), peer(), peer()
    session = impatient.session("video", nobody)
    to_b = Told.read(await session.forward(a.sdp(more=f"m=video {va.port} RTP/AVP 99\r\n"), "a", "b1"))
    to_a = Told.read(await session.forward(b.sdp(more=f"m=video {vb.port} RTP/AVP 99\r\n"), "b", "b1", answer=True))
    for sequence in range(1, 31):
        await talk(a, b, to_b, to_a, sequence)
        await asyncio.sleep(0.1)
    await talk(va, vb, to_b, to_a, line=1)
    await session.delete()


def child_options(tmp_path: Path) -> RelayOptions:
    return RelayOptions(str(tmp_path / "s"), (Bind("127.0.0.1"),), (23950, 23999))


async def test_a_killed_engine_is_noticed_and_started_again(tmp_path: Path, peer: MakePeer) -> None:
    """Principle 7: the relay dies, calls are told, `ready` goes, and new calls work after the restart."""
    child = RelayChild(child_options(tmp_path))
    relay = RtpIoRelay(child=child)
    await relay.start()
    assert relay.ready
    a, b = peer(), peer()
    lost = asyncio.Event()
    session = relay.session("victim", lost.set)
    await connect(session, a, b)
    pid = child.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await asyncio.wait_for(lost.wait(), DEADLINE)
    assert not relay.ready and relay.sessions == 0
    with pytest.raises(RelayError, match="ended and took the media"):
        await session.forward(a.sdp(), "a", "b1")
    with pytest.raises(RelayError, match="away"):
        await relay.session("too-soon", nobody).forward(a.sdp(), "a", "b1")
    assert await session.delete() == RelayStats()
    await ready_again(relay)
    assert relay.ready and child.starts == 2 and child.pid != pid
    session = relay.session("next", nobody)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    await session.delete()
    await relay.stop()
    assert child.pid is None
    assert os.listdir(tmp_path) == []


async def test_sigterm_with_calls_up(start_relay: StartRelay, peer: MakePeer) -> None:
    """The relay ends at once and cleanly, calls or no calls, and its clients know."""
    process = start_relay("--ports", "23950-23999")
    relay = RtpIoRelay(process.path)
    await relay.start()
    a, b = peer(), peer()
    lost = asyncio.Event()
    session = relay.session("cut", lost.set)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    process.process.terminate()
    await asyncio.wait_for(lost.wait(), DEADLINE)
    assert await asyncio.to_thread(process.process.wait, DEADLINE) == 0
    await relay.stop()


async def crashed_parent(options: RelayOptions) -> int:
    """The process id of a relay whose parent was killed."""
    program = (
        "import asyncio, sys\n"
        "from media.relay.child import RelayChild\n"
        "from media.relay.process import Bind, RelayOptions\n"
        "async def main():\n"
        "    bind, alone = (Bind('127.0.0.1'),), int(sys.argv[2])\n"
        "    child = RelayChild(RelayOptions(sys.argv[1], bind, (23950, 23999), alone=alone))\n"
        "    await child.start()\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, options.socket, str(options.alone), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    words: list[bytes] = []
    while not words or not words[0].isdigit():
        words = (await asyncio.wait_for(parent.stdout.readline(), DEADLINE)).split()
    parent.kill()
    await parent.communicate()
    return int(words[0])


async def test_a_relay_outlives_its_parent_and_is_taken_over(tmp_path: Path, peer: MakePeer) -> None:
    """The signalling process is killed: its relay goes on, with its calls; the next one adopts it, a clean stop ends
    it."""
    options = RelayOptions(str(tmp_path / "s"), (Bind("127.0.0.1"),), (23950, 23999), alone=600)
    pid = await crashed_parent(options)
    first = RtpIoRelay(options.socket)
    await first.start()
    a, b = peer(), peer()
    session = first.session("kept", nobody)
    to_b, to_a = await connect(session, a, b)
    saved = json.loads(json.dumps(session.save()))
    await first.stop()
    child = RelayChild(options)
    relay = RtpIoRelay(child=child)
    await relay.start()
    assert (child.pid, child.starts, child.adopted) == (pid, 0, True)
    await talk(a, b, to_b, to_a)
    again = relay.session("kept", nobody)
    again.restore(saved)
    assert relay.sessions == 1 and await again.check()
    unknown = relay.session("unknown", nobody)
    unknown.restore(saved)
    assert not await unknown.check()
    await unknown.delete()
    moved = Told.read(await again.forward(a.sdp(), "a", "b1"))
    assert moved.ports == to_b.ports
    assert (await again.delete()).from_a == 1
    await relay.stop()
    assert not alive(pid)
    assert os.listdir(tmp_path) == []


async def test_a_relay_of_other_options_is_not_taken_over(tmp_path: Path) -> None:
    """Ports or addresses were changed in the settings: the relay that was left behind is ended for a new one."""
    pid = await crashed_parent(RelayOptions(str(tmp_path / "s"), (Bind("127.0.0.1"),), (23950, 23999), alone=600))
    child = RelayChild(RelayOptions(str(tmp_path / "s"), (Bind("127.0.0.1"),), (23900, 23949), alone=600))
    await child.start()
    assert not alive(pid) and child.pid is not None and child.pid != pid
    await child.stop()


async def test_a_relay_that_nobody_comes_for_ends(tmp_path: Path) -> None:
    """No edge for `alone` seconds: the relay ends, and leaves no socket."""
    pid = await crashed_parent(RelayOptions(str(tmp_path / "s"), (Bind("127.0.0.1"),), (23950, 23999), alone=1))
    for _ in range(250):
        if not alive(pid):
            break
        await asyncio.sleep(0.02)
    assert not alive(pid)
    assert os.listdir(tmp_path) == ["s.log"]


def alive(pid: int) -> bool:
    """Whether the process runs; one that is only waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_on_the_loop_of_the_daemon(tmp_path: Path) -> None:
    """The same on uvloop, which has transports and subprocesses of its own."""

    async def calls() -> RelayStats:
        relay = RtpIoRelay(child=RelayChild(child_options(tmp_path)))
        await relay.start()
        a, b = Peer(), Peer()
        session = relay.session("uv", nobody)
        to_b, to_a = await connect(session, a, b)
        await talk(a, b, to_b, to_a)
        stats = await session.delete()
        await relay.stop()
        a.close()
        b.close()
        return stats

    assert uvloop.run(calls()) == RelayStats(1, 1, 1, 1, 0, 0)
    assert os.listdir(tmp_path) == []


async def test_a_hung_engine_fails_in_time(start_relay: StartRelay, peer: MakePeer) -> None:
    """A relay that does not answer gives an error within the limit; its calls go on when it does again."""
    process = start_relay("--ports", "23950-23999")
    relay = RtpIoRelay(process.path, command_timeout=0.5)
    await relay.start()
    a, b = peer(), peer()
    session = relay.session("patient", nobody)
    await session.forward(a.sdp(), "a", "b1")
    process.process.send_signal(signal.SIGSTOP)
    try:
        # All threads have stopped when the parent can see it.
        await asyncio.to_thread(os.waitid, os.P_PID, process.process.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(RelayError, match=r"did not answer within 0\.5 s"):
            await session.forward(b.sdp(), "b", "b1", answer=True)
        assert not relay.ready
    finally:
        process.process.send_signal(signal.SIGCONT)
    await ready_again(relay)
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1", answer=True))
    a.send((RELAY, to_a.ports[0]), rtp(1))
    await b.receive()
    await session.delete()
    await relay.stop()


async def test_no_relay_is_an_error_in_words(tmp_path: Path) -> None:
    """A path where nothing listens is named."""
    relay = RtpIoRelay(str(tmp_path / "none"), command_timeout=0.2)
    with pytest.raises(RelayError, match=r"no media relay at .*none: .*No such file"):
        await relay.start()


async def test_a_child_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A wrong address in the settings is reported, not retried for ever."""
    options = RelayOptions(str(tmp_path / "s"), (Bind("192.0.2.1"),), (23950, 23999))
    relay = RtpIoRelay(child=RelayChild(options))
    with pytest.raises(RelayError, match=r"192\.0\.2\.1: not an address of this machine"):
        await relay.start()
