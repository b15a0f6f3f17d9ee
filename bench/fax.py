"""What simultaneous faxes cost: `python bench/fax.py [--faxes 100] [--transport audio|t38] [--pages 2] [--rate 9600]`.

As many receivers on core 0 as senders on core 1, over loopback in real time, each in a process of its own. Reported:
the share of core 0 that the receivers use, and how each fax ended. Not pinned: this process, which sleeps.
"""

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import structlog
from PIL import Image, ImageDraw

from media.fax.engine import FaxEngine, FaxJob, FaxOptions
from media.fax.record import FaxMeta, FaxResult
from media.fax.spool import Spool
from media.sdp.t38 import T38, RemoteAudio, RemoteT38

HOST = "127.0.0.1"


def meta(name: str) -> FaxMeta:
    """A fax for nobody."""
    return FaxMeta(name, "bench", "bench", "+4922838699", "bench@edge.example", time.time())


def document(path: Path, pages: int) -> Path:
    """Pages of text-like marks: about 12 kB each, as MMR."""
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


async def engine_on(core: int, spool: Path, ports: tuple[int, int], rate: int) -> FaxEngine:
    """An engine whose faxes all run on one core: processes inherit the cores of their parent."""
    free = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    engine = FaxEngine(Spool(spool), FaxOptions(HOST, ports, audio_rate=rate))
    await engine.start()
    os.sched_setaffinity(0, free)
    return engine


async def main() -> None:
    """Measure and tell."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--faxes", type=int, default=100)
    arguments.add_argument("--transport", choices=("audio", "t38"), default="audio")
    arguments.add_argument("--pages", type=int, default=2)
    arguments.add_argument("--rate", type=int, choices=(9600, 14400), default=9600)
    chosen = arguments.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        receiving = await engine_on(0, folder / "rx", (29000, 29499), chosen.rate)
        sending = await engine_on(1, folder / "tx", (29500, 29999), chosen.rate)
        tiff = document(folder / "bench.tif", chosen.pages)
        pairs: list[tuple[FaxJob, FaxJob]] = []
        began = time.monotonic()
        for n in range(chosen.faxes):
            rx, tx = await receiving.receive(meta(f"rx-{n}")), await sending.send(meta(f"tx-{n}"), tiff)
            if chosen.transport == "audio":
                rx.use_audio(RemoteAudio(HOST, tx.local_audio, True, 8))
                tx.use_audio(RemoteAudio(HOST, rx.local_audio, True, 8))
            else:
                rx.use_t38(RemoteT38(HOST, tx.local_t38, T38()))
                tx.use_t38(RemoteT38(HOST, rx.local_t38, T38()))
            pairs.append((rx, tx))
        print(f"{chosen.transport}: {chosen.faxes} faxes of {chosen.pages} pages, started within", end=" ")
        print(f"{time.monotonic() - began:.1f} s")
        receivers = [rx for rx, _ in pairs]
        began, cpu = time.monotonic(), cpu_of(receivers)
        await asyncio.sleep(15)
        took, used = time.monotonic() - began, cpu_of(receivers) - cpu
        memory = sum(memory_of(rx.pid) for rx in receivers)
        results: list[tuple[FaxResult, FaxResult]] = [(await rx.result(), await tx.result()) for rx, tx in pairs]
        await receiving.stop()
        await sending.stop()
    print(f"receivers use {used / took:.2f} of core 0: {used / took / len(pairs) * 1e3:.2f} ms of CPU a second and fax")
    print(f"memory of its own per fax: {memory / len(pairs) / 1e6:.1f} MB")
    print(
        "(code, pages, bit/s, ecm) of receivers:",
        dict(Counter((r.code, r.pages, r.bit_rate, r.ecm) for r, _ in results)),
    )
    print("codes of senders:", dict(Counter(t.code for _, t in results)))
    print(
        "lost packets:", sum(r.lost_packets for r, _ in results), "ecm retries:", sum(r.ecm_retries for r, _ in results)
    )


def cpu_of(jobs: list[FaxJob]) -> float:
    """CPU seconds of their processes so far, to the nanosecond: what is sampled misses work that timers start."""
    total = 0
    for job in jobs:
        try:
            total += int(Path(f"/proc/{job.pid}/schedstat").read_text().split()[0])
        except OSError:
            continue
    return total / 1e9


def memory_of(pid: int) -> int:
    """Octets of memory that a process shares with nobody."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


if __name__ == "__main__":
    asyncio.run(main())
