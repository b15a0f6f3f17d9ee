"""The loop's lateness is measured."""

import asyncio
import time

from edge.observability.loop_watch import LoopWatch


async def test_a_blocked_loop_is_seen() -> None:
    """Who blocks the loop for 100 ms is seen in the figure; after `stop` nothing more comes."""
    seen: list[float] = []
    done = asyncio.Event()

    def observe(late: float) -> None:
        seen.append(late)
        done.set()

    watch = LoopWatch(observe)
    watch.start()
    time.sleep(0.35)  # noqa: ASYNC251  the blocked loop is what is tested
    await done.wait()
    watch.stop()
    assert seen[0] >= 0.09
    assert watch._timer is None
