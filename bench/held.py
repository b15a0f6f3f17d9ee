"""What a held call weighs in the signalling process, and what of it.

    python bench/held.py [CALLS] [--rows 45]

The world is that of bench/call_path.py (no sockets, relay, journal, database), with calls that stay up. Says by how
much the process grows per call, twice, and what it does not give back; then all objects that some more calls brought,
with their sizes as Python counts them, by type, and by the attribute of the project's classes that holds them. Python
does not count what malloc rounds up, nor the timers of libuv, so the sum is less than what the process grows by.
"""

from __future__ import annotations

import argparse
import asyncio
import enum
import gc
import os
import sys
import types
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import uvloop
from call_path import CARRIER, World, carrier, invite, phone

from edge.b2bua.runner import CallRunner
from edge.daemon import GC_THRESHOLDS
from edge.observability.logging import LineWriter, configure

WALKED = 500
_OURS = ("edge", "media", "dialplan", "config")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_KNOWN = (type, types.ModuleType, types.FunctionType, types.CodeType, types.BuiltinFunctionType, enum.Enum)
"""What is there once, however many calls there are."""


async def hold(world: World, n: int) -> None:
    """One call from INVITE to ACK; it stays up."""
    world.clock.at += 0.01
    if (world.driver._endpoint.next_deadline() or 1e12) <= world.clock.at:
        world.driver._due()
    world.driver._datagram(invite(n), CARRIER)
    for _ in range(20):
        while world.wire.sent:
            data, flow = world.wire.sent.popleft()
            answers = carrier(data)[:1] if flow.remote == CARRIER.remote else phone(data)
            for answer in answers:
                world.driver._datagram(answer, flow)
        await asyncio.sleep(0)


async def settle(world: World) -> None:
    """Let 40 s pass, so that no transaction of the set-up is left."""
    for _ in range(40):
        world.clock.at += 1
        world.driver._due()
        world.calls.forget(world.clock.at)
        await asyncio.sleep(0)
    world.wire.sent.clear()


async def end(world: World) -> None:
    """End all calls, some at a time; both sides answer the BYE."""
    for n, call in enumerate(world.calls.live()):
        call.end(16, "")
        world.clock.at += 0.01
        if n % 20 == 0:
            world.driver._due()
        for _ in range(10):
            while world.wire.sent:
                data, flow = world.wire.sent.popleft()
                for answer in phone(data):
                    world.driver._datagram(answer, flow)
            await asyncio.sleep(0)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def reachable(roots: Iterable[object], known: set[int]) -> dict[int, object]:
    """All objects that `roots` lead to, without those `known` and what they lead to."""
    found: dict[int, object] = {}
    stack = list(roots)
    while stack:
        thing = stack.pop()
        if id(thing) in known or id(thing) in found or isinstance(thing, _KNOWN):
            continue
        found[id(thing)] = thing
        stack += gc.get_referents(thing)
    return found


def owners(found: dict[int, object], calls: Iterable[object], others: Iterable[object]) -> dict[int, str]:
    """For each object the `Class.attribute` of ours that holds it, the nearest to a call where there are several, or to
    one of `others`: what the rooms keep of calls."""
    owner: dict[int, str] = {}
    for roots in (calls, others):
        queue: list[tuple[object, str]] = [(root, type(root).__name__) for root in roots]
        while queue:
            following: list[tuple[object, str]] = []
            for thing, label in queue:
                if id(thing) in owner or id(thing) not in found:
                    continue
                owner[id(thing)] = label
                kind = type(thing)
                slots = [slot for base in kind.__mro__ for slot in base.__dict__.get("__slots__", ())]
                if slots and kind.__module__.partition(".")[0] in _OURS:
                    following += [(getattr(thing, slot, None), f"{kind.__name__}.{slot}") for slot in slots]
                else:
                    following += [(value, label) for value in gc.get_referents(thing)]
            queue = following
    return owner


def table(title: str, sizes: Counter[str], counts: Counter[str], rows: int) -> None:
    """Print the largest of `sizes`, per call."""
    print(f"\n{title:56} {'bytes':>7} {'objects':>8}")
    for label, size in sizes.most_common(rows):
        if size >= WALKED * 8:
            print(f"{label:56} {size / WALKED:7.0f} {counts[label] / WALKED:8.2f}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", type=int, nargs="?", default=5000)
    parser.add_argument("--rows", type=int, default=45, help="of each table (default %(default)s)")
    chosen = parser.parse_args()
    lines = LineWriter(os.open("/dev/null", os.O_WRONLY))
    configure(lines)
    gc.set_threshold(*GC_THRESHOLDS)
    world = World(trace_megabytes=0)
    for n in range(300):
        await world.call(n)
    await settle(world)
    for cycle in (1, 2):
        gc.collect()
        before = resident()
        for n in range(chosen.calls):
            await hold(world, cycle * 1_000_000 + n)
        await settle(world)
        assert len(world.calls) == chosen.calls
        up = resident()
        await end(world)
        await settle(world)
        print(f"cycle {cycle}: {(up - before) / chosen.calls / 1024:.2f} KiB a call, "
              f"{(resident() - before) / chosen.calls / 1024:.2f} left")  # fmt: skip
    gc.collect()
    there = gc.get_objects()
    there += [value for thing in there for value in gc.get_referents(thing)]
    known = {id(thing) for thing in (there, *there)}
    for n in range(WALKED):
        await hold(world, 9_000_000 + n)
    await settle(world)
    gc.collect()
    known.add(id(known))
    new = [thing for thing in gc.get_objects() if id(thing) not in known and type(thing) is not types.FrameType]
    found = reachable(new, known)
    held = owners(found, [thing for thing in new if isinstance(thing, CallRunner)], new)
    sizes: dict[str, tuple[Counter[str], Counter[str]]] = {}
    for title in ("type", "held by"):
        sizes[title] = Counter(), Counter()
    for key, thing in found.items():
        kind = type(thing).__name__
        for title, label in (("type", kind), ("held by", f"{held.get(key, '?')}: {kind}")):
            sizes[title][0][label] += sys.getsizeof(thing)
            sizes[title][1][label] += 1
    total = sum(sizes["type"][0].values())
    print(f"{total / WALKED:.0f} bytes in {len(found) / WALKED:.0f} objects of each call")
    for title, (bytes_, counts) in sizes.items():
        table(title, bytes_, counts, chosen.rows)
    lines.close()


if __name__ == "__main__":
    uvloop.run(main())
