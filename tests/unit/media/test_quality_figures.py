"""Loss and jitter of a stream that was sent with both on purpose, as each relay tells them at the end of the call."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable

import pytest

from media.relay.rtpengine import RtpEngineRelay
from media.relay.rtpio import RtpIoRelay
from media.sdp.codecs import first_voice
from tests.unit.media.peers import Peer, rtp
from tests.unit.media.talk import RELAY, connect, nobody, talk

MakePeer = Callable[..., Peer]


@pytest.mark.adapter
async def test_the_embedded_relay_measures_loss_and_jitter(embedded: RtpIoRelay, peer: MakePeer) -> None:
    """Every tenth packet is missing and every second comes 10 ms late: the caller's figures say so."""
    a, b = peer(), peer()
    session = embedded.session("jitter", nobody)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    began = time.monotonic()
    for n in range(2, 60):
        due = began + n * 0.02 + (0.01 if n % 2 else 0)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if n % 10:
            a.send((RELAY, to_a.ports[0]), rtp(n, 0xA))
    while not b.nothing_waits():
        await b.receive()
    stats = await session.delete()
    assert (stats.from_a, stats.lost_a, stats.lost_b) == (54, 5, 0)
    assert stats.jitter_a is not None and 5 < stats.jitter_a < 40  # 10 ms but for the start, more on a busy machine
    assert stats.jitter_b is None  # one packet has none


@pytest.mark.adapter
async def test_rtpengine_tells_what_the_far_end_reports(engine: RtpEngineRelay, peer: MakePeer) -> None:
    """Both ends send RTCP (RFC 3550 section 6.4): B's report about A's stream becomes the figures of A."""
    a, b, a_control, b_control = peer(), peer(), peer(), peer()
    session = engine.session("reports", nobody)
    to_b, to_a = await connect(session, a, b)
    await talk(a, b, to_b, to_a)
    last, heard = 0, 0.0
    for n in range(3):
        now = time.time()
        for mine, others, control, port in ((0xA, 0xB, a_control, to_a.ports[0]), (0xB, 0xA, b_control, to_b.ports[0])):
            lost, jitter = (7, 96) if others == 0xA else (0, 8)
            since = int(max(0.0, time.time() - heard - 0.004) * 65536)
            report = struct.pack("!IIIIII", others, 25 << 24 | lost, 100 + n, jitter, last, since) if last else b""
            head = struct.pack("!BBHI", 0x81 if last else 0x80, 200, 12 if last else 6, mine)
            ntp = int((now + 2_208_988_800) * 65536) << 16
            control.send((RELAY, port + 1), head + struct.pack("!QIII", ntp, 160, 1, 160) + report)
        last, heard = int((now + 2_208_988_800) * 65536) & 0xFFFFFFFF, time.time()
        await asyncio.sleep((0.05, 1.05, 0.05)[n])  # rtpengine takes one report of a side in a second
    stats = await session.delete()
    assert (stats.lost_a, stats.lost_b) == (7, 0)
    assert (stats.jitter_a, stats.jitter_b) == (12.0, 1.0)
    assert stats.round_trip is not None and 0 < stats.round_trip < 1000


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("m=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n", "PCMA"),
        ("m=audio 4000 RTP/AVP 101 18\r\na=rtpmap:101 telephone-event/8000\r\n", "G729"),
        ("m=image 4000 udptl t38\r\n", ""),
        ("m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n", "OPUS"),
        ("m=audio 4000 RTP/AVP 97\r\n", ""),
    ],
)
def test_the_first_codec(lines: str, expected: str) -> None:
    """What the receiver of a description sends first; DTMF is no codec."""
    assert first_voice(f"v=0\r\n{lines}".encode()) == expected
