"""The rtpengine backend: several instances, their deaths and restarts, time limits, SRTP and transcoding."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from media.relay.ng_client import NgClient
from media.relay.port import RelayError, RelayStats
from media.relay.rtpengine import Instance, RtpEngineAddress, RtpEngineRelay
from tests.unit.media.peers import DEADLINE, Peer, Told, rtp
from tests.unit.media.rtpengine_process import RtpEngineProcess, free_port
from tests.unit.media.talk import RELAY, connect, nobody, talk

pytestmark = pytest.mark.adapter

MakePeer = Callable[..., Peer]
StartEngine = Callable[..., RtpEngineProcess]
KEY = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"


@pytest.fixture
def start_engine() -> Iterator[StartEngine]:
    """Starts rtpengines of a test's own, ended after it."""
    started: list[RtpEngineProcess] = []

    def start(*options: str) -> RtpEngineProcess:
        low = 23500 + 60 * len(started)
        started.append(RtpEngineProcess("--interface=127.0.0.1", *options, ports=(low, low + 59)))
        return started[-1]

    yield start
    for process in started:
        process.stop()


async def until(true: Callable[[], bool]) -> None:
    for _ in range(int(DEADLINE / 0.02)):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to pass")


async def pair(start_engine: StartEngine) -> tuple[RtpEngineProcess, RtpEngineProcess, RtpEngineRelay]:
    one, two = start_engine(), start_engine()
    relay = RtpEngineRelay((one.address(), two.address()), "edge", command_timeout=0.6, poll=0.1)
    await relay.start()
    await until(lambda: all(relay.instances.values()))
    return one, two, relay


def on(relay: RtpEngineRelay, process: RtpEngineProcess) -> str:
    """The id of a session that goes to `process` first."""
    for n in range(1000):
        if relay.places(f"call-{n}")[0].address.port == process.port:
            return f"call-{n}"
    raise AssertionError("none")


async def test_a_killed_instance_loses_its_calls_and_the_next_go_elsewhere(
    start_engine: StartEngine, peer: MakePeer
) -> None:
    """kill -9: its calls are told once, those of the other go on, new ones go to the other; it is used again later."""
    one, two, relay = await pair(start_engine)
    a, b = peer(), peer()
    lost = asyncio.Event()
    victim = relay.session(on(relay, one), lost.set)
    spared = relay.session(on(relay, two), nobody)
    await connect(victim, a, b)
    to_b, to_a = await connect(spared, a, b)
    one.kill()
    await asyncio.wait_for(lost.wait(), DEADLINE)
    assert relay.instances == {str(one.address()): False, str(two.address()): True}
    assert relay.ready and relay.sessions == 1
    with pytest.raises(RelayError, match="ended and took the media"):
        await victim.forward(a.sdp(), "a", "b1")
    assert await victim.delete() == RelayStats()
    await talk(a, b, to_b, to_a)
    moved = relay.session(victim.id, nobody)
    await connect(moved, a, b)
    await moved.delete()
    one.again()
    await until(lambda: relay.instances[str(one.address())])
    back = relay.session(on(relay, one), nobody)
    to_b, to_a = await connect(back, a, b)
    await talk(a, b, to_b, to_a)
    await back.delete()
    await spared.delete()
    assert await relay.media_in_relay() == 0
    await relay.stop()


async def test_a_call_that_meets_a_dead_instance_first_goes_on_to_the_next(
    start_engine: StartEngine, peer: MakePeer
) -> None:
    """Between two looks an instance dies: the offer that finds out is made again elsewhere."""
    one, two, relay = await pair(start_engine)
    a, b = peer(), peer()
    session = relay.session(on(relay, one), nobody)
    one.kill()
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    assert relay.sessions == 1
    await session.delete()
    two.kill()
    with pytest.raises(RelayError, match="rtpengine 127"):
        await relay.session("nowhere", nobody).forward(a.sdp(), "a", "b1")
    await until(lambda: not relay.ready)
    with pytest.raises(RelayError, match="the media relay is away"):
        await relay.session("nowhere", nobody).forward(a.sdp(), "a", "b1")
    assert relay.sessions == 0
    await relay.stop()


async def test_an_instance_that_hangs_keeps_its_calls_and_gets_no_new_ones(
    start_engine: StartEngine, peer: MakePeer
) -> None:
    """It may be out of reach only: its calls are not ended, and go on when it answers again."""
    one, _, relay = await pair(start_engine)
    a, b = peer(), peer()
    session = relay.session(on(relay, one), nobody)
    to_b, to_a = await connect(session, a, b)
    one.process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.to_thread(os.waitid, os.P_PID, one.process.pid, os.WSTOPPED | os.WNOWAIT)
        await until(lambda: not relay.instances[str(one.address())])
        with pytest.raises(RelayError, match=r"did not answer within 0\.6 s"):
            await session.forward(a.sdp(direction="sendonly"), "a", "b1")
        other = relay.session("other", nobody)
        await connect(other, a, b)
        await other.delete()
    finally:
        one.process.send_signal(signal.SIGCONT)
    await until(lambda: relay.instances[str(one.address())])
    await talk(a, b, to_b, to_a)
    await session.delete()
    await relay.stop()


async def test_an_instance_away_for_too_long_has_lost_its_calls(start_engine: StartEngine, peer: MakePeer) -> None:
    """After as long as silence is allowed nobody believes in its media any more."""
    process = start_engine()
    relay = process.client(command_timeout=0.2, poll=0.1, lost_after=0.5)
    await relay.start()
    lost = asyncio.Event()
    session = relay.session("away", lost.set)
    await connect(session, peer(), peer())
    process.process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.wait_for(lost.wait(), DEADLINE)
        await session.delete()
    finally:
        process.process.send_signal(signal.SIGCONT)
    await relay.stop()


async def test_a_restart_between_two_looks_is_noticed(start_engine: StartEngine, peer: MakePeer) -> None:
    """An instance that is younger than it was has lost its calls."""
    process = start_engine()
    relay = process.client(poll=60.0)
    await relay.start()
    lost = asyncio.Event()
    session = relay.session("old", lost.set)
    await connect(session, peer(), peer())
    instance = relay.places("old")[0]
    process.kill()
    process.again()
    instance.began -= 100  # as if it had been up for that long
    await relay._look(instance, await instance.client.ask("statistics"))
    await asyncio.wait_for(lost.wait(), DEADLINE)
    await session.delete()
    await relay.stop()


async def test_a_call_that_rtpengine_ended_is_told_once(start_engine: StartEngine, peer: MakePeer) -> None:
    """`--timeout` without a packet ends a call that is answered; one on hold or unanswered is left alone."""
    process = start_engine("--timeout=1", "--silent-timeout=60", "--offer-timeout=60")
    relay = process.client(poll=0.1)
    await relay.start()
    a, b = peer(), peer()
    told: list[str] = []
    silent = relay.session("silent", lambda: told.append("silent"))
    await connect(silent, a, b)
    held = relay.session("held", lambda: told.append("held"))
    await held.forward(a.sdp(direction="inactive"), "a", "b1")
    await held.forward(b.sdp(direction="inactive"), "b", "b1", answer=True)
    ringing = relay.session("ringing", lambda: told.append("ringing"))
    await ringing.forward(a.sdp(), "a", "b1")
    await until(lambda: bool(told))
    assert told == ["silent"]
    with pytest.raises(RelayError, match="timed out"):
        await silent.forward(a.sdp(), "a", "b1")
    for session in (silent, held, ringing):
        await session.delete()
    assert told == ["silent"] and await relay.media_in_relay() == 0
    await relay.stop()


async def test_edges_share_an_instance_and_one_takes_its_own_call_over(
    engine: RtpEngineRelay, rtpengine_process: RtpEngineProcess, peer: MakePeer
) -> None:
    """A signalling process that comes again finds its calls by their ids; `clear` leaves those of other edges alone."""
    a, b = peer(), peer()
    before, stranger = rtpengine_process.client(), rtpengine_process.client("other-edge")
    await before.start()
    await stranger.start()
    to_b, to_a = await connect(before.session("survivor", nobody), a, b)
    theirs = stranger.session("theirs", nobody)
    await connect(theirs, a, b)
    await before.stop()
    await talk(a, b, to_b, to_a)
    session = engine.session("survivor", nobody)
    again = Told.read(await session.forward(a.sdp(), "a", "b1"))
    assert again.ports == to_b.ports
    assert Told.read(await session.forward(b.sdp(), "b", "b1", answer=True)).ports == to_a.ports
    await talk(a, b, to_b, to_a, 2)
    assert (await session.delete()).from_a == 2
    await connect(engine.session("left-over", nobody), a, b)
    await engine.clear()
    assert (await engine.media_in_relay(), await stranger.media_in_relay()) == (0, 1)
    await theirs.delete()
    await stranger.stop()
    engine._held.clear()


def test_calls_are_spread_by_weight_and_keep_their_place() -> None:
    """An instance of three times the weight gets three times the calls; one that leaves moves nobody else's."""
    made = [
        Instance(RtpEngineAddress("192.0.2.1", 2223 + n, weight), NgClient("x", 1))
        for n, weight in enumerate((1, 3, 2))
    ]
    got = [max(made, key=lambda i: i.score(f"call-{n}")) for n in range(6000)]
    shares = [got.count(i) / 1000 for i in made]
    assert [round(s) for s in shares] == [1, 3, 2]
    without = [max(made[:2], key=lambda i: i.score(f"call-{n}")) for n in range(6000)]
    assert all(w is g for w, g in zip(without, got, strict=True) if g is not made[2])


async def test_no_rtpengine_is_an_error_in_words() -> None:
    """An address where nothing listens is named."""
    relay = RtpEngineRelay((RtpEngineAddress("127.0.0.1", free_port()),), "edge", command_timeout=0.2, poll=0.1)
    with pytest.raises(RelayError, match=r"no rtpengine answers: rtpengine 127\.0\.0\.1:\d+: .*refused"):
        await relay.start()


async def test_srtp_on_one_side(engine: RtpEngineRelay, peer: MakePeer) -> None:
    """An offer leaves the choice (RFC 8643); each side has what it said, and keys stay as they are over hold."""
    a, b = peer(), peer()
    session = engine.session("srtp", nobody)
    to_b = (await session.forward(a.sdp(), "a", "b1", keys=True)).decode()
    assert " RTP/AVP 8" in to_b and to_b.count("a=crypto:") == 2
    assert "AES_CM_128_HMAC_SHA1_80" in to_b and "AES_CM_128_HMAC_SHA1_32" in to_b
    answer = b.sdp(more=KEY).replace(b"RTP/AVP", b"RTP/SAVP")
    to_a = (await session.forward(answer, "b", "b1", answer=True)).decode()
    assert " RTP/AVP 8" in to_a and "crypto" not in to_a
    a.send((RELAY, Told.read(to_a.encode()).ports[0]), rtp(1, 0xA))
    packet, _ = await b.receive()
    assert len(packet) == len(rtp(1)) + 10 and packet[12:-10] != rtp(1)[12:]
    held = (await session.forward(a.sdp(direction="sendonly"), "a", "b1", keys=True)).decode()
    key = [line for line in held.splitlines() if "SHA1_80" in line]
    assert key == [line for line in to_b.splitlines() if "SHA1_80" in line]
    await session.delete()


@pytest.mark.parametrize("profile", [b"RTP/SAVP", b"RTP/AVP"], ids=["strict", "opportunistic"])
async def test_both_forms_of_srtp_are_taken(engine: RtpEngineRelay, peer: MakePeer, profile: bytes) -> None:
    """An offer with keys is answered with a key, in the secure profile, whatever the other side has."""
    a, b = peer(), peer()
    session = engine.session("forms", nobody)
    offer = a.sdp(more=KEY).replace(b"RTP/AVP", profile)
    to_b = Told.read(await session.forward(offer, "a", "b1"))
    assert " RTP/AVP 8" in to_b.text and "crypto" not in to_b.text
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1", answer=True))
    assert " RTP/SAVP 8" in to_a.text and to_a.text.count("a=crypto:1 AES_CM_128_HMAC_SHA1_80 ") == 1
    b.send((RELAY, to_b.ports[0]), rtp(1, 0xB))
    packet, _ = await a.receive()
    assert len(packet) == len(rtp(1)) + 10
    await session.delete()


@pytest.mark.parametrize("keys", [True, False])
async def test_what_is_answered_plainly_stays_plain(engine: RtpEngineRelay, peer: MakePeer, keys: bool) -> None:
    """Who takes no keys gets none; a new offer without keys that is refused changes nothing."""
    a, b = peer(), peer()
    session = engine.session("plain", nobody)
    to_b = Told.read(await session.forward(a.sdp(), "a", "b1", keys=keys))
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1", answer=True))
    await talk(a, b, to_b, to_a)
    refused = await session.forward(a.sdp(direction="sendonly"), "a", "b1")
    assert b"crypto" not in refused
    await session.forward(a.sdp(), "a", "b1")
    await talk(a, b, to_b, to_a, 2)
    await session.delete()


async def test_codecs_that_are_added_are_transcoded(engine: RtpEngineRelay, peer: MakePeer) -> None:
    """G.722 on one side, A-law on the other; with a codec in common nothing is transcoded."""
    a, b = peer(), peer()
    session = engine.session("codecs", nobody)
    wide = a.sdp().replace(b"AVP 8 101", b"AVP 9 101").replace(b"8 PCMA/8000", b"9 G722/8000")
    to_b = Told.read(await session.forward(wide, "a", "b1", more_codecs=("PCMA", "PCMU")))
    assert " RTP/AVP 9 8 0 101" in to_b.text
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1", answer=True))
    assert " RTP/AVP 9 101" in to_a.text
    for n in range(1, 4):
        b.send((RELAY, to_b.ports[0]), rtp(n, 0xB))
    packet, _ = await a.receive()
    assert packet[1] & 0x7F == 9 and len(packet) == 172
    await session.delete()


async def test_a_stranger_neither_redirects_nor_is_heard_before_the_peer_speaks_when_it_is_trusted(
    engine: RtpEngineRelay, peer: MakePeer
) -> None:
    """The SDP's address alone counts, from the first packet on, also for the port."""
    a, b, thief = peer(), peer(), peer("127.0.0.2")
    session = engine.session("trusted-first", nobody)
    to_b = Told.read(await session.forward(a.sdp(), "a", "b1", trusted=True))
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1", answer=True, trusted=True))
    for n in range(5):
        thief.send((RELAY, to_b.ports[0]), rtp(n, 0xBAD))
        thief.send((RELAY, to_a.ports[0]), rtp(n, 0xBAD))
    await talk(a, b, to_b, to_a)
    assert thief.nothing_waits() and a.nothing_waits() and b.nothing_waits()
    await session.delete()


async def test_a_peer_cannot_name_services_of_the_relays_machine(engine: RtpEngineRelay, peer: MakePeer) -> None:
    """Where the relay can be reached from outside, a loopback address is none: the first packet tells."""
    assert engine.on_loopback
    a, b, service = peer(), peer(), peer()
    for instance in engine._instances:
        instance.on_loopback = False
    session = engine.session("loopback", nobody)
    to_b = Told.read(await session.forward(a.sdp(port=service.port), "a", "b1"))
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1", answer=True))
    b.send((RELAY, to_b.ports[0]), rtp(1, 0xB))
    await talk(a, b, to_b, to_a)
    assert service.nothing_waits()
    await session.delete()


async def test_opus_is_transcoded(engine: RtpEngineRelay, peer: MakePeer) -> None:
    """Opus on one side, A-law on the other."""
    a, b = peer(), peer()
    session = engine.session("opus", nobody)
    wide = a.sdp().replace(b"AVP 8 101", b"AVP 96").replace(b"8 PCMA/8000", b"96 opus/48000/2")
    to_b = Told.read(await session.forward(wide, "a", "b1", more_codecs=("PCMA", "PCMU")))
    to_a = Told.read(await session.forward(b.sdp(), "b", "b1", answer=True))
    assert " RTP/AVP 96" in to_a.text and "opus/48000/2" in to_a.text
    for n in range(1, 4):
        b.send((RELAY, to_b.ports[0]), rtp(n, 0xB))
    packet, _ = await a.receive()
    assert packet[1] & 0x7F == 96
    await session.delete()
