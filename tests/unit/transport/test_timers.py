"""The timers of calls, over one of the loop's, on a virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edge.transport.timers import Timers


@pytest.mark.looptime
async def test_each_fires_once_in_its_order() -> None:
    timers, fired = Timers(), []
    loop = asyncio.get_running_loop()
    began = loop.time()

    def fire(name: str) -> None:
        fired.append((name, round(loop.time() - began)))

    for name, after in (("long", 14400), ("first", 5), ("stopped", 7), ("second", 10), ("third", 12)):
        timer = timers.later(after, fire, name)
        if name == "stopped":
            timer.cancel()
            timer.cancel()
    assert len(timers) == 4
    await asyncio.sleep(20)
    assert fired == [("first", 5), ("second", 10), ("third", 12)]
    assert len(timers) == 1
    await asyncio.sleep(14400)
    assert fired[3:] == [("long", 14400)]
    assert len(timers) == 0


@pytest.mark.looptime
async def test_one_that_begins_another_and_stops_others_disturbs_nobody() -> None:
    timers, fired = Timers(), []
    others = [timers.later(100, fired.append, f"other {n}") for n in range(1000)]
    kept = timers.later(50, fired.append, "kept")

    def first() -> None:
        for other in others:
            other.cancel()
        kept.cancel()
        timers.later(10, fired.append, "begun")

    timers.later(5, first)
    timers.later(120, fired.append, "last")
    await asyncio.sleep(200)
    assert fired == ["begun", "last"]
    kept.cancel()  # stopped long ago
    assert len(timers) == 0


@pytest.mark.looptime
async def test_one_that_fails_leaves_the_others() -> None:
    timers, fired = Timers(), []
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))

    def fail() -> None:
        raise RuntimeError("a fault")

    timers.later(5, fail)
    timers.later(5, fired.append, "after it")
    timers.later(6, fired.append, "later")
    await asyncio.sleep(10)
    assert fired == ["after it", "later"]
    assert len(faults) == 1
