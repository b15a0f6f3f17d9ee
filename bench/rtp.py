"""How many calls' media a relay carries per core: RTP both ways, 50 packets of 172 bytes a second in each direction.

python bench/rtp.py                              the embedded relay with one process and with two, and rtpengine (in
                                                 user space), more and more calls until it loses packets or is late
python bench/rtp.py --with embedded --calls 500  one run
python bench/rtp.py --folder results             raw results stay there, a line of JSON each

A relay carries so many as long as fewer than 0.1 % of the packets are lost and the 99th percentile of the delay is
under 5 ms. The calls are set up by the code that the edge has for it, in this process; what this process uses while the
media run (`edge`) is what they cost the signalling. Phones are bench/rtp.c, which wants cc. Plain RTP alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop
from load import cpu
from priority import add_option, take
from speed import speed

from edge.observability.logging import LineWriter, configure
from media.relay.child import RelayChild
from media.relay.process import Bind, RelayOptions
from media.relay.rtpengine import RtpEngineAddress, RtpEngineRelay
from media.relay.rtpio import RtpIoRelay

LOSS, DELAY_MS = 0.001, 5.0
STEPS = (50, 100, 200, 400, 600, 800, 1000, 1250, 1500, 1750, 2000, 2500, 3000)
FIRST = 10000
"""Ports of the phones; the relays' are from 20000."""
Relay = RtpIoRelay | RtpEngineRelay


@dataclass(frozen=True, slots=True)
class Row:
    """One run. CPU in per cent of a core."""

    relay: str
    calls: int
    sent: int
    lost: float
    """Share."""
    p50_ms: float
    p99_ms: float
    relay_cpu: float
    edge_cpu: float
    """Of the process that has set the calls up, while their media ran."""
    edge_idle: float
    """The same before: calls are up and nobody talks."""
    phones_cpu: float
    late_ms: float
    """How late the phones were with a packet at most."""
    dropped: int
    """Datagrams that the kernel dropped before the relay read them."""
    dropped_phones: int
    machine: float
    load: float

    @property
    def well(self) -> bool:
        return self.lost < LOSS and self.p99_ms < DELAY_MS

    @property
    def per_core(self) -> float:
        """Calls that a whole core would carry at this price."""
        return self.calls / max(self.relay_cpu, 0.1) * 100

    def __str__(self) -> str:
        return (
            f"{self.relay:10} {self.calls:5} {self.sent:8} {self.lost * 100:7.3f} %"
            f" {self.p50_ms:7.2f} {self.p99_ms:7.2f} {self.relay_cpu:7.0f} % {self.per_core:8.0f}"
            f" {self.edge_cpu:6.2f} % {self.edge_idle:6.2f} %"
            f" {self.phones_cpu:7.0f} % {self.late_ms:7.1f} {self.dropped:7} {self.dropped_phones:7}"
            f" {self.machine:8.1f} {self.load:5.1f}"
        )


HEADING = (
    "relay      calls  packets      lost  p50 ms  p99 ms     relay per core     edge     idle    phones late ms"
    " dropped  phones  machine  load"
)


def description(host: str, port: int) -> bytes:
    """What a phone offers or answers."""
    return (
        f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\n"
        "a=rtpmap:8 PCMA/8000\r\na=sendrecv\r\n"
    ).encode()


def port_of(sdp: bytes) -> int:
    """The port of its audio."""
    found = re.search(rb"m=audio (\d+)", sdp)
    assert found is not None, sdp
    return int(found[1])


@asynccontextmanager
async def running(name: str, folder: Path) -> AsyncIterator[tuple[list[Relay], list[int]]]:
    """The relays of that name, and their process ids."""
    if name == "rtpengine":
        options = (
            "--config-file=none", "--foreground", "--log-stderr", "--log-level=3", "--table=-1", "--delete-delay=0",
            "--interface=127.0.0.1", "--listen-ng=127.0.0.1:9900", "--port-min=20000", "--port-max=60000",
        )  # fmt: skip
        process = await asyncio.create_subprocess_exec("rtpengine", *options, stderr=asyncio.subprocess.DEVNULL)
        try:
            await asyncio.sleep(1)
            engine = RtpEngineRelay((RtpEngineAddress("127.0.0.1", 9900),), "bench")
            await engine.start()
            yield [engine], [process.pid]
            await engine.stop()
        finally:
            process.terminate()
            await process.wait()
        return
    count = int(name.partition("-")[2] or 1)
    width = 40000 // count
    relays: list[Relay] = []
    pids: list[int] = []
    try:
        for n in range(count):
            ports = (20000 + n * width, 20000 + (n + 1) * width - 1)
            child = RelayChild(RelayOptions(f"{folder}/relay{n}", (Bind("127.0.0.1"),), ports))
            relay = RtpIoRelay(child=child)
            await relay.start()
            relays.append(relay)
            assert child.pid is not None
            pids.append(child.pid)
        yield relays, pids
    finally:
        for started in relays:
            await started.stop()


def dropped() -> tuple[int, int]:
    """Datagrams that the kernel has dropped: at sockets of the relay, and at those of the phones."""
    relay = phones = 0
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].startswith(("0200007F", "0300007F")):
            phones += int(fields[-1])
        else:
            relay += int(fields[-1])
    return relay, phones


async def run(name: str, relays: list[Relay], pids: list[int], calls: int, seconds: float, streams: Path) -> Row:
    """Set up `calls` calls, let them talk, and take them down."""
    lines, sessions = [], []
    for n in range(calls):
        a, b = FIRST + 4 * n, FIRST + 4 * n + 2
        session = relays[n % len(relays)].session(f"media-{calls}-{n}", lambda: None)
        sessions.append(session)
        to_b = port_of(await session.forward(description("127.0.0.2", a), "a", "b1"))
        to_a = port_of(await session.forward(description("127.0.0.3", b), "b", "b1", answer=True))
        # what the called is given is where it sends to
        lines.append(f"{a} {b} {to_a} {to_b}\n")
    own, began = time.process_time(), time.monotonic()
    await asyncio.sleep(3)
    idle = (time.process_time() - own) / (time.monotonic() - began) * 100
    machine, before, used = speed(), dropped(), cpu(pids)
    process = await asyncio.create_subprocess_exec(
        str(streams), str(seconds), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    began = time.monotonic()
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("".join(lines).encode())
    process.stdin.write_eof()
    await asyncio.sleep(0.4)
    own, talking = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds + 0.5)
    edge = (time.process_time() - own) / (time.monotonic() - talking) * 100
    after = dropped()
    seen = json.loads(await process.stdout.read())
    await process.wait()
    took = time.monotonic() - began
    spent = cpu(pids) - used
    for session in sessions:
        await session.delete()
    return Row(
        name, calls, seen["sent"], 1 - seen["received"] / max(seen["sent"], 1), seen["p50_ms"], seen["p99_ms"],
        spent / (seconds + 1) * 100, edge, idle, seen["cpu"] / took * 100, seen["late_ms"],
        after[0] - before[0], after[1] - before[1], machine, os.getloadavg()[0],
    )  # fmt: skip


async def measure(asked: argparse.Namespace, folder: Path, streams: Path) -> None:
    """Each relay with more and more calls; prints a line a run."""
    print(HEADING)
    for name in asked.relays.split(","):
        async with running(name, folder) as (relays, pids):
            best: Row | None = None
            for calls in [asked.calls] if asked.calls else STEPS:
                row = await run(name, relays, pids, calls, asked.seconds, streams)
                print(row, flush=True)
                with (folder / "results.jsonl").open("a") as file:
                    file.write(json.dumps({"what": "media", **asdict(row)}) + "\n")
                if row.well:
                    best = row
                elif row.dropped_phones or row.late_ms > DELAY_MS:
                    print("the phones were late or lost packets themselves: this says nothing of the relay")
                    break
                else:
                    break
            if best is not None:
                print(
                    f"{name}: {best.calls} calls, {best.relay_cpu:.0f} % of a core: {best.per_core:.0f} calls per core"
                )


def main() -> None:
    """As asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--with", dest="relays", default="embedded,embedded-2,rtpengine", help="default: %(default)s")
    parser.add_argument("--calls", type=int, help="one run with so many calls")
    parser.add_argument("--seconds", type=float, default=10, help="of each run (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="where raw results stay")
    add_option(parser)
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print(f"{os.cpu_count()} cores, priority {take(asked.priority)}")
    with tempfile.TemporaryDirectory(prefix="media-") as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        streams, source = folder / "streams", Path(__file__).with_name("rtp.c")
        subprocess.run(["cc", "-O2", "-o", str(streams), str(source), "-lpthread"], check=True)
        lines = LineWriter(os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        configure(lines)
        uvloop.run(measure(asked, folder, streams))
        lines.close()


if __name__ == "__main__":
    sys.exit(main())
