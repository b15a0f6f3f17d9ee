"""What one state of a live call costs the journal: an inbound call that rings, and that is up, without a disk.

    python bench/journal.py [--states 20000] [--profile]

Each state is made and encoded as `edge.b2bua.journal.Journal` does it, again and again of the same call; the first one,
for which nothing is kept yet, is told separately (the best of many calls). Where the clock is noisy, compare
instructions: `valgrind --tool=callgrind ... --calls 60 --each 1`, less the same with `--each 0`, by 120 states.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import sys
import time
from pathlib import Path
from typing import Any, cast

import uvloop

sys.path.insert(0, str(Path(__file__).parent))
import call_path

from edge.b2bua.journal import Journal
from edge.b2bua.reload import LiveWires
from edge.b2bua.runner import CallRunner
from edge.observability.logging import LineWriter, configure

CALLS = 200


class _Nowhere:
    """Stands for the file of the journal."""

    segment, size = 1, 0


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--states", type=int, default=20000)
    arguments.add_argument(
        "--calls", type=int, help="only so many calls, with --each states in either phase; no figures"
    )
    arguments.add_argument("--each", type=int, default=1)
    arguments.add_argument("--profile", action="store_true", help="where the time goes, by function")
    chosen = arguments.parse_args()
    configure(LineWriter(os.open("/dev/null", os.O_WRONLY)))
    world = call_path.World()
    world.driver._loop = cast(Any, _Loop())
    wires = LiveWires(world.driver, cast(Any, None))
    journal = Journal(cast(Any, _Nowhere()), world.calls, wires, lambda call_id: [], world.clock, "boot")
    first: dict[str, list[float]] = {"ringing": [], "up": []}
    last: dict[str, CallRunner] = {}

    async def until(n: int, phase: str) -> CallRunner:
        """A call that was answered this far, its first states in this phase measured."""
        if phase == "ringing":
            world.driver._datagram(call_path.invite(n), call_path.CARRIER)
        for _ in range(40):
            while world.wire.sent:
                data, flow = world.wire.sent.popleft()
                carrier = flow.remote == call_path.CARRIER.remote
                if data.startswith(b"BYE"):
                    continue
                answers = call_path.carrier(data) if carrier else call_path.phone(data)
                for answer in answers:
                    if answer.startswith(b"BYE") or (phase == "ringing" and answer.startswith(b"SIP/2.0 200")):
                        held.append((answer, flow))
                        continue
                    world.driver._datagram(answer, flow)
            await asyncio.sleep(0)
        call = next(iter(world.calls.live()))
        return call

    held: list[tuple[bytes, Any]] = []
    for n in range(chosen.calls or CALLS):
        world.clock.at += 0.01
        for phase in ("ringing", "up"):
            if phase == "up":
                answer, flow = held.pop()
                world.driver._datagram(answer, flow)
            last[phase] = call = await until(n, phase)
            began = time.perf_counter()
            for _ in range(chosen.each):
                journal._note((call,))
            first[phase].append(time.perf_counter() - began)
            if n == CALLS - 1 and not chosen.calls:
                _measure(journal, call, phase, first[phase], chosen)
        answer, flow = held.pop()
        world.driver._datagram(answer, flow)
        while world.wire.sent or not last["up"].over:
            while world.wire.sent:
                data, flow = world.wire.sent.popleft()
                if flow.remote != call_path.CARRIER.remote:
                    for back in call_path.phone(data):
                        world.driver._datagram(back, flow)
            await asyncio.sleep(0)


def _measure(journal: Journal, call: CallRunner, phase: str, first: list[float], chosen: argparse.Namespace) -> None:
    profile = cProfile.Profile()
    best = 1.0
    size = sum(len(frame.content) for frame in journal._frames[-1:])
    for _ in range(20):
        if chosen.profile:
            profile.enable()
        began = time.perf_counter()
        for _ in range(chosen.states // 20):
            journal._note((call,))
        best = min(best, (time.perf_counter() - began) / (chosen.states // 20))
        profile.disable()
        journal._frames.clear()
    print(
        f"{phase:8} {size} bytes a state; {best * 1e6:.1f} µs a state, {1 / best:.0f} a second; "
        f"first of a call, its route with it: {min(first) * 1e6:.1f} µs"
    )
    if chosen.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


class _Loop:
    """Stands for the loop in the driver, but with a `when` for timers."""

    def __init__(self) -> None:
        self.call_soon = asyncio.get_running_loop().call_soon

    def call_later(self, _delay: float, _callback: object) -> _Loop:
        return self

    def when(self) -> float:
        return 0.0

    def cancel(self) -> None: ...


if __name__ == "__main__":
    uvloop.run(main())
