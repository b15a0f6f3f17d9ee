"""What a call's media cost the signalling process: CPU of offer, answer and delete with a real relay process, our own
and, where it is installed, rtpengine.

python bench/relay.py [CALLS] [AT_ONCE]
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import uvloop

from media.relay.child import RelayChild
from media.relay.process import Bind, RelayOptions
from media.relay.rtpengine import RtpEngineAddress, RtpEngineRelay
from media.relay.rtpio import RtpIoRelay
from media.sdp.codecs import limit_codecs
from media.sdp.lines import parse
from media.sdp.rewrite import rewrite

OFFER = (
    b"v=0\r\no=- 3850170111 3850170111 IN IP4 192.168.178.23\r\ns=pjmedia\r\nb=AS:84\r\nt=0 0\r\na=X-nat:0\r\n"
    b"m=audio 4000 RTP/AVP 8 0 9 96 120\r\nc=IN IP4 192.168.178.23\r\nb=TIAS:64000\r\n"
    b"a=rtcp:4001 IN IP4 192.168.178.23\r\na=sendrecv\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
    b"a=rtpmap:9 G722/8000\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n"
    b"a=rtpmap:120 telephone-event/8000\r\na=fmtp:120 0-16\r\na=ssrc:1234 cname:abcdef\r\n"
)
ANSWER = (
    b"v=0\r\no=carrier 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n"
    b"m=audio 16384 RTP/AVP 8 120\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:120 telephone-event/8000\r\n"
    b"a=fmtp:120 0-15\r\na=ptime:20\r\n"
)


async def call(relay: RtpIoRelay | RtpEngineRelay, name: str) -> None:
    session = relay.session(name, lambda: None)
    await session.forward(OFFER, "a", "b1", keys=relay.bridges)
    await session.forward(ANSWER, "b", "b1", answer=True)
    await session.delete()


async def measure(relay: RtpIoRelay | RtpEngineRelay, took: list[float], calls: int, at_once: int) -> None:
    await relay.start()

    async def one_after_another(worker: int) -> None:
        for n in range(calls // at_once):
            await call(relay, f"bench-{worker}-{n}")

    await call(relay, "warm")
    took.clear()
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one_after_another(worker) for worker in range(at_once)))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    await relay.stop()
    done = calls // at_once * at_once
    took.sort()
    print(f"{done} calls, {at_once} at once, {done / wall:.0f} calls/s")
    print(f"signalling CPU per call (offer + answer + delete): {cpu / done * 1e6:.0f} us  (aim: under 250)")
    print(
        f"relay exchange: median {took[len(took) // 2] * 1e6:.0f} us, 99 % {took[len(took) * 99 // 100] * 1e6:.0f} us"
    )


def measure_own(calls: int, at_once: int) -> None:
    took: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        options = RelayOptions(f"{directory}/relay", (Bind("127.0.0.1"),), (23000, 23999))
        print("our own relay:")
        uvloop.run(measure(RtpIoRelay(child=RelayChild(options), observe=took.append), took, calls, at_once))


def measure_rtpengine(calls: int, at_once: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = (
        "--config-file=none", "--foreground", "--log-stderr", "--log-level=3", "--table=-1", "--delete-delay=0",
        "--interface=127.0.0.1", f"--listen-ng=127.0.0.1:{port}", "--port-min=24000", "--port-max=24999",
    )  # fmt: skip
    took: list[float] = []
    with subprocess.Popen(["rtpengine", *options], stderr=subprocess.DEVNULL) as process:
        try:
            time.sleep(1)
            print("rtpengine, SRTP offered:")
            address = RtpEngineAddress("127.0.0.1", port)
            uvloop.run(measure(RtpEngineRelay((address,), "bench", observe=took.append), took, calls, at_once))
        finally:
            process.terminate()


def measure_pure(rounds: int) -> None:
    def timed(what: str, work: object) -> None:
        assert callable(work)
        cpu = time.process_time()
        for _ in range(rounds):
            work()
        print(f"{what}: {(time.process_time() - cpu) / rounds * 1e6:.1f} us")

    timed("parse an offer of 19 lines", lambda: parse(OFFER))
    timed("parse and rewrite it", lambda: rewrite(parse(OFFER), [30000], "192.0.2.1"))
    timed("parse and limit its codecs", lambda: limit_codecs(parse(OFFER), ("PCMA", "PCMU")))


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    measure_pure(5000)
    count, together = arguments + [4000, 20][len(arguments) :]
    measure_own(count, together)
    if shutil.which("rtpengine"):
        measure_rtpengine(count, together)
