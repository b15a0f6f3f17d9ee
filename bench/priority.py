"""Before other work of the machine: a bench, and with it every process that it starts, gets the processor first.

Where tests or builds run beside a bench, calls fail for want of a core, and the run says nothing of the edge.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

Priority = Literal["normal", "nice", "realtime"]
_NICE = -10
_AUTOGROUPS = Path("/proc/sys/kernel/sched_autogroup_enabled")


def add_option(parser: argparse.ArgumentParser) -> None:
    """`--priority` of a bench."""
    parser.add_argument(
        "--priority",
        choices=("normal", "nice", "realtime"),
        default="normal",
        help="before the machine's other work: realtime (SCHED_RR) where that is permitted, else nice -10",
    )


def take(wanted: Priority) -> Priority:
    """Give this process, and those that it starts from now on, the priority; which one it has got.

    To be called before anything is started.
    """
    if wanted == "realtime":
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
            return "realtime"
    if wanted != "normal":
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)
            return "nice"
    return "normal"


def favour(pids: Iterable[int]) -> None:
    """Make `nice` hold between sessions, too: the kernel shares its time among them first (sched(7), "The autogroup
    feature"), and PostgreSQL opens one for each connection."""
    if not _AUTOGROUPS.exists() or _AUTOGROUPS.read_text().strip() != "1":
        return
    for pid in pids:
        with suppress(OSError):  # one that has ended, or not ours
            Path(f"/proc/{pid}/autogroup").write_text(str(_NICE))
