"""Another program in the place of this one, under live calls (docs/operations.md): whether it is fit for that."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import suppress

from edge.observability.logging import get_logger

log = get_logger("app")


async def new_program_works() -> bool:
    """Whether what is installed now starts at all and can read the settings; what is wrong is logged."""
    words = sys.orig_argv[1:]
    if "run" not in words:
        log.warning("edge.not_upgraded", said="only `sip-edge run` can be upgraded")
        return False
    checks = [["-c", "import edge.daemon"], [word if word != "run" else "check-config" for word in words]]
    for check in checks:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *check,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        if process.returncode:
            log.warning("edge.not_upgraded", status=process.returncode, said=said.decode("utf-8", "replace")[-2000:])
            return False
    return True


async def first(*waits: Coroutine[None, None, object]) -> None:
    """Until the first of these is over; the others are given up."""
    tasks = [asyncio.get_running_loop().create_task(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


async def moment() -> None:
    """A little while."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.02):
            await asyncio.Event().wait()
