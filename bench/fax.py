"""What simultaneous fax receptions cost: `python bench/fax.py [--faxes 100] [--transport audio|t38] [--pages 3]`.

All receptions run on core 0 (their nursery is pinned there), the senders' packets come from core 1. A sender is the
recording of one real exchange with spandsp, played to all: T.30 is deterministic, so every receiver answers alike, and
playing costs next to nothing. Reported: cores used by the receivers, how late their ticks were, and how each fax ended.
"""

import argparse
import asyncio
import os
import random
import resource
import socket
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from PIL import Image, ImageDraw

from media.fax.engine import FaxEngine, FaxJob, FaxOptions
from media.fax.record import FaxMeta
from media.fax.spandsp import UP_TO_14400
from media.fax.spool import Spool
from media.fax.station import Machine, Station
from media.fax.udptl import Receiver, Sender
from media.sdp.t38 import T38, RemoteAudio, RemoteT38

HOST = "127.0.0.1"
TICK = 0.02
# Ticks on the way to the receiver (its jitter buffer), and back: a recording does not wait for a late confirmation.
DELAY = 6
BACK = 20


def meta(name: str) -> FaxMeta:
    """A fax for nobody."""
    return FaxMeta(name, "bench", "bench", "+4922838699", "bench@edge.example", time.time())


def document(path: Path, pages: int) -> Path:
    """Pages of text-like marks: about 40 kB each, 35 s at 9600 bit/s."""
    made = []
    for seed in range(pages):
        chance = random.Random(seed)
        image = Image.new("1", (1728, 2200), 1)
        draw = ImageDraw.Draw(image)
        for _ in range(2500):
            x, y = chance.randrange(1728), chance.randrange(2200)
            draw.rectangle([x, y, x + chance.randrange(12), y + chance.randrange(20)], fill=0)
        made.append(image)
    made[0].save(path, save_all=True, append_images=made[1:], compression="group4", dpi=(204, 196))
    return path


def record(folder: Path, pages: int, transport: str, modems: int) -> list[list[bytes]]:
    """What a sender sends in each tick, from an exchange in memory with a receiver that hears it `DELAY` ticks late."""
    spool = Spool(folder / "recording")
    machine = Machine("+49 221 1", str(document(folder / "bench.tif", pages)), True, UP_TO_14400)
    tx = Station(machine, spool.create(meta("tx")), lambda event: None)
    rx = Station(Machine(audio_modems=UP_TO_14400), spool.create(meta("rx")), lambda event: None)
    ticks: list[list[bytes]] = []
    if transport == "audio":
        rx.start_audio(True)
        tx.start_audio(True)
        said: list[bytes] = []
        while not (rx.done and tx.done):
            said.append(rx.speak())
            ticks.append([tx.speak()])
            tx.hear(said[-BACK] if len(said) >= BACK else None)
            rx.hear(ticks[-DELAY][0] if len(ticks) >= DELAY else None)
        return ticks
    ways: tuple[list[bytes], list[bytes]] = ([], [])
    for station, way in zip((rx, tx), ways, strict=True):
        sender = Sender(400)
        station.start_t38(lambda ifp, times, way=way, sender=sender: way.extend([sender.pack(ifp)] * times))  # type: ignore[misc]
    receivers = Receiver(), Receiver()
    while not (rx.done and tx.done):
        rx.tick()
        tx.tick()
        ticks.append(list(ways[1]))
        for receiver, station, packets in ((receivers[0], tx, ways[0]), (receivers[1], rx, ways[1])):
            for packet in packets:
                for sequence, ifp in receiver.receive(packet, 0.0):
                    station.hear_ifp(sequence, ifp)
            packets.clear()
    return ticks


def play(ticks: list[list[bytes]], ports: list[int], offsets: list[int], transport: str, late: list[float]) -> None:
    """Send the recording to every port, each from its own tick on; runs in a thread of its own."""
    os.sched_setaffinity(0, {1})
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    begin = time.monotonic()
    for now in range(len(ticks) + max(offsets)):
        due = begin + now * TICK
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        else:
            late.append(-wait)
        for port, offset in zip(ports, offsets, strict=True):
            at = now - offset
            if 0 <= at < len(ticks):
                for payload in ticks[at]:
                    if transport == "audio":
                        head = b"\x80\x08" + (at & 0xFFFF).to_bytes(2, "big") + (at * 160).to_bytes(4, "big")
                        payload = head + b"play" + payload
                    out.sendto(payload, (HOST, port))
    out.close()


async def main() -> None:
    """Measure and tell."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--faxes", type=int, default=100)
    arguments.add_argument("--transport", choices=("audio", "t38"), default="audio")
    arguments.add_argument("--pages", type=int, default=1)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ticks = record(folder, chosen.pages, chosen.transport, UP_TO_14400)
        print(f"{chosen.transport}: {chosen.faxes} faxes of {chosen.pages} page(s), {len(ticks) * TICK:.0f} s each")
        os.sched_setaffinity(0, {0})
        ports = (29000, 29000 + 4 * chosen.faxes + 100)
        options = FaxOptions(HOST, ports, audio_rate=14400)
        engine = FaxEngine(Spool(folder / "spool"), options)
        await engine.start()
        began = time.monotonic()
        jobs = [await engine.receive(meta(f"fax-{n}")) for n in range(chosen.faxes)]
        print(f"started in {(time.monotonic() - began) * 1000 / chosen.faxes:.1f} ms each")
        os.sched_setaffinity(0, {1})
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.bind((HOST, 0))
        late: list[float] = []
        targets = [job.local_audio if chosen.transport == "audio" else job.local_t38 for job in jobs]
        # One fax begins in each tick, and each hears its recording from there on.
        offsets = list(range(len(jobs)))
        player = threading.Thread(target=play, args=(ticks, targets, offsets, chosen.transport, late))
        player.start()
        began = time.monotonic()
        for job, offset in zip(jobs, offsets, strict=True):
            await asyncio.sleep(max(0.0, began + offset * TICK - time.monotonic()))
            if chosen.transport == "audio":
                job.use_audio(RemoteAudio(HOST, sink.getsockname()[1], True, 8))
            else:
                job.use_t38(RemoteT38(HOST, sink.getsockname()[1], T38()))
        began, cpu = time.monotonic(), cpu_of(jobs)
        await asyncio.sleep(len(ticks) * TICK * 0.8)
        took, used = time.monotonic() - began, cpu_of(jobs) - cpu
        private = sum(memory_of(job.pid) for job in jobs)
        await asyncio.to_thread(player.join)
        results = [await asyncio.wait_for(job.result(), 60) for job in jobs]
        print(
            f"receivers: {used / took:.2f} of core 0, {used / took / len(jobs) * 1e3:.2f} ms of CPU per second and fax"
        )
        print(f"memory of their own: {private / len(jobs) / 1e6:.1f} MB per fax")
        print(f"player late: {len(late)} ticks, at most {max(late, default=0) * 1e3:.0f} ms")
        print(
            "outcomes:",
            dict(Counter((r.code, r.pages, r.bit_rate, r.ecm) for r in results)),
            "(code, pages, bit/s, ecm)",
        )
        print(
            "lost packets:", sum(r.lost_packets for r in results), "ecm retries:", sum(r.ecm_retries for r in results)
        )
        sink.close()
        await engine.stop()
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_utime:.1f} s of CPU in all")


def cpu_of(jobs: list[FaxJob]) -> float:
    """CPU seconds of their processes so far."""
    total = 0
    for job in jobs:
        try:
            fields = Path(f"/proc/{job.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int) -> int:
    """Octets of memory that a process shares with nobody."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


if __name__ == "__main__":
    asyncio.run(main())
