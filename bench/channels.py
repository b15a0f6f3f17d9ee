"""What sharing channels costs: `python bench/channels.py [calls per second]`.

Calls arrive at random, each is admitted over four levels, lasts 2 s and is released; the database is an embedded
PostgreSQL. Prints the CPU of this process per call and how long admissions took, with one edge and with two.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import asyncpg
import uvloop

from config.embedded import EmbeddedPostgres
from config.migrations.runner import migrate_up
from dialplan.model import ChannelClaim
from edge.channels.postgres import PostgresCounts
from edge.channels.shared import SharedChannels

SECONDS = 10
TALK = 2.0


def claims(n: int) -> tuple[ChannelClaim, ...]:
    """What an inbound call to one of 5,000 numbers of 500 accounts claims."""
    return (
        ChannelClaim("number", f"+49228{n % 5000:05}", "in", 20),
        ChannelClaim("account", f"account{n % 500}", "total", 100),
        ChannelClaim("carrier", "telekom", "in", None),
        ChannelClaim("carrier", "telekom", "total", 5000),
    )


async def load(channels: SharedChannels | None, rate: float) -> tuple[float, list[float]]:
    """CPU seconds per call, and the seconds each admission took."""
    took: list[float] = []
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    draw = random.Random(1)

    async def call(n: int) -> None:
        if channels is not None:
            begun = time.perf_counter()
            assert await channels.admit(f"call{n:012}", claims(n)) is None
            took.append(time.perf_counter() - begun)
        await asyncio.sleep(TALK)
        if channels is not None:
            channels.release(f"call{n:012}")

    cpu = time.process_time()
    n, at = 0, loop.time()
    end = at + SECONDS
    while at < end:
        at += draw.expovariate(rate)
        await asyncio.sleep(max(0.0, at - loop.time()))
        task = loop.create_task(call(n))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        n += 1
    await asyncio.wait(tasks)
    return (time.process_time() - cpu) / n, took


async def main() -> None:
    """Run the load with and without the ledger; the difference is its cost."""
    rate = float(sys.argv[1]) if len(sys.argv) > 1 else 100.0
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        async with EmbeddedPostgres(Path(folder) / "data") as server:
            connection = await asyncpg.connect(server.url)
            await migrate_up(connection)
            await connection.close()
            edges = [SharedChannels(PostgresCounts(server.url, name, uuid4())) for name in ("a", "b")]
            bare, _ = await load(None, rate)
            for edge, which in zip(edges, ("the only edge", "one of two edges"), strict=True):
                await edge.start()
                cost, took = await load(edges[0], rate)
                print(f"{which}, {rate:.0f} calls/s: {(cost - bare) * 1e6:.0f} us of CPU per call (admit and release)")
                cuts = statistics.quantiles(took, n=100)
                print(
                    f"admission: median {cuts[49] * 1e3:.2f} ms, 99 % {cuts[98] * 1e3:.2f} ms, "
                    f"max {max(took) * 1e3:.2f} ms"
                )
            begun = time.perf_counter()
            one = (ChannelClaim("number", "one", "in", 2), ChannelClaim("account", "one", "total", None))
            answers = await asyncio.gather(*[edges[n % 2].admit(f"burst{n}", one) for n in range(1000)])
            milliseconds = (time.perf_counter() - begun) * 1e3
            print(f"1,000 at once over two edges: {answers.count(None)} admitted in {milliseconds:.0f} ms")
            for n in range(1000):
                edges[n % 2].release(f"burst{n}")
            for edge in edges:
                await edge.stop()


uvloop.run(main())
