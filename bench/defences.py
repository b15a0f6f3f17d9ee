"""What all defences cost a normal call: the same calls with and without them, in turn.

python bench/defences.py                          the call path in this process, inbound (bench/call_path.py)
python bench/defences.py --edge --pairs 6         two running edges, calls in and out at 50 a second
python bench/defences.py --folder results         raw results stay there, a line of JSON each

On: guard (a known and an exempt sender), `domains`, budgets of account and seats, the search for patterns. Off: none of
them. Each pair is one run of both, the first of them by turns; what counts is the median of the pairs' ratios, since
what else the machine does falls upon both. Ends with status 1 where that is more than 5 %.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

MOST = 5.0
"""Per cent."""
BATCH = 50
BUDGET = dict.fromkeys(("calls_per_hour", "calls_per_day", "minutes_per_hour", "minutes_per_day"), 10**6)
RATE, CALLS = 50, 1000


def told(what: str, unit: str, pairs: Sequence[tuple[float, float]], results: Path) -> bool:
    """Print the medians of (on, off); whether the defences cost no more than they may."""
    on, off = (median(values) for values in zip(*pairs, strict=True))
    ratios = [a / b * 100 - 100 for a, b in pairs]
    low, middle, high = quantiles(ratios, n=4)
    print(
        f"{what}: {on:.4g} {unit} with, {off:.4g} without (medians of {len(pairs)} pairs); the defences cost"
        f" {middle:+.1f} % (quartiles {low:+.1f} and {high:+.1f})",
        flush=True,
    )
    with results.open("a") as file:
        file.write(json.dumps({"what": what, "unit": unit, "on_off": pairs, "load": os.getloadavg()[0]}) + "\n")
    return middle <= MOST


async def in_process(pairs: int, results: Path) -> bool:
    """Batches of calls in two worlds in turn, in CPU time of this thread."""
    from call_path import World

    from edge.daemon import GC_THRESHOLDS
    from edge.observability.logging import LineWriter, configure

    lines = LineWriter(os.open("/dev/null", os.O_WRONLY))
    configure(lines)
    gc.set_threshold(*GC_THRESHOLDS)
    worlds = {True: World(), False: World(defended=False)}
    gc.collect()
    gc.freeze()
    numbers = {True: 0, False: 0}

    async def batch(defended: bool) -> float:
        world = worlds[defended]
        world.outside = 0.0
        began = time.thread_time()
        for _ in range(BATCH):
            await world.call(numbers[defended])
            numbers[defended] += 1
        return (time.thread_time() - began - world.outside) / BATCH * 1e6

    for _ in range(20):
        await batch(True), await batch(False)
    found = await _pairs(pairs, batch)
    lines.close()
    return told("a call in one process, in", "µs", found, results)


async def _pairs(pairs: int, run: Callable[[bool], object]) -> list[tuple[float, float]]:
    found = []
    for n in range(pairs):
        took = {}
        for defended in (True, False) if n % 2 else (False, True):
            took[defended] = await run(defended)  # type: ignore[misc]
        found.append((took[True], took[False]))
    return found


async def edges(pairs: int, folder: Path, results: Path) -> bool:
    """Two running edges side by side, one of which works at a time; CPU of the signalling process."""
    from calls import Bench
    from load import Office

    fine = True
    with ExitStack() as stack:
        benches = {}
        for defended in (True, False):
            name = "on" if defended else "off"
            settings = {"domains": ["127.0.0.1"], "strangers": "register"} if defended else {}
            office = Office(folder / name, settings, BUDGET if defended else None)
            if not defended:
                office.edge.program = [sys.executable, str(Path(__file__).with_name("undefended.py"))]
            stack.callback(office.stop)
            office.start()
            benches[defended] = Bench(office, results)

        for kind in ("inbound", "outbound"):

            async def run(defended: bool, kind: str = kind) -> float:
                row = benches[defended].run(kind, RATE, CALLS)
                if row.failed:
                    raise SystemExit(f"{row.failed} calls failed")
                return row.signalling

            await run(True), await run(False)
            fine &= told(f"a call of a running edge, {kind}", "ms", await _pairs(pairs, run), results)
    return fine


def main() -> None:
    """As asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", action="store_true")
    parser.add_argument("--pairs", type=int, help="300 batches of calls in one process, 6 runs of edges")
    parser.add_argument("--folder", type=Path, help="where raw results stay")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="defences-") as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        results = folder / "results.jsonl"
        if chosen.edge:
            fine = asyncio.run(edges(chosen.pairs or 6, folder, results))
        else:
            fine = asyncio.run(in_process(chosen.pairs or 300, results))
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
