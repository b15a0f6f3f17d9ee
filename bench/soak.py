"""What a long run leaves behind: calls at a steady rate, with a look at everything that could grow on the way.

python bench/soak.py                                1,000,000 calls at 200/s: an hour and 25 minutes
python bench/soak.py --calls 150000 --rate 100      as long as there is time for
python bench/soak.py --folder results               keep each sample as a line of soak.jsonl, and logs

It ends with status 1 where a call failed, something was left at the end, or memory went on growing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from load import CARRIER, PHONES, Office, Sipp, cpu, memory, pause

RING_MS = 200
TALK_MS = 800
LINGER = 45.0
"""Seconds after the last call after which nothing of it may be left."""
LARGEST_GROWTH = 0.05
"""Share by which memory may differ between the second fifth of a run and the last."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look; MiB, and counts of what is there at that moment."""

    seconds: float
    calls: int
    """Records stored until then."""
    mib: float
    relay_mib: float
    live: int
    transactions: int
    sessions: int
    channels: int
    tasks: int
    files: int
    """Open in the signalling process."""
    relay_files: int
    """Open in the relay processes: four a call, and their own."""
    spool: int
    journal_mib: float
    books: float
    """Largest difference between two rooms' books."""
    errors: int
    cpu: float
    load: float

    def __str__(self) -> str:
        return (
            f"{self.seconds:7.0f} {self.calls:8} {self.mib:8.1f} {self.relay_mib:9.1f} {self.live:5} "
            f"{self.transactions:6} {self.sessions:8} {self.channels:8} {self.tasks:5} {self.files:5} "
            f"{self.relay_files:11} {self.spool:5} {self.journal_mib:8.1f} {self.books:5g} "
            f"{self.errors:6} {self.load:5.1f}"
        )


HEADING = (
    "seconds    calls      MiB relay MiB  live transa sessions channels tasks files relay files spool  journal books "
    "errors  load"
)


def look(office: Office, began: float) -> Sample:
    """How things are now."""
    metrics = office.edge.metrics()
    pids = office.processes()

    def total(name: str, without: str = "\n") -> float:
        return sum(v for k, v in metrics.items() if (k == name or k.startswith(name + "{")) and without not in k)

    journal = sum(path.stat().st_size for path in (office.edge.data / "journal").iterdir())
    return Sample(
        seconds=round(time.monotonic() - began, 1),
        calls=int(metrics.get('sip_edge_records_total{table="call_records"}', 0)),
        mib=memory(office.signalling) / 2**20,
        relay_mib=sum(map(memory, pids["relay"])) / 2**20,
        live=int(total("sip_edge_live_calls")),
        # phones that do not listen any more are still asked by OPTIONS whether they are there
        transactions=int(total("sip_edge_transactions", "client-other")),
        sessions=int(total("sip_edge_relay_sessions")),
        channels=int(total("sip_edge_channels_in_use")),
        tasks=int(total("sip_edge_tasks")),
        files=len(os.listdir(f"/proc/{office.signalling}/fd")),
        relay_files=sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids["relay"]),
        spool=int(total("sip_edge_spool_records")),
        journal_mib=journal / 2**20,
        books=max((abs(v) for k, v in metrics.items() if k.startswith("sip_edge_books_difference{")), default=0.0),
        errors=int(total("sip_edge_internal_errors_total")),
        cpu=cpu([office.signalling]),
        load=os.getloadavg()[0],
    )


def run(office: Office, calls: int, rate: float, every: float, results: Path) -> bool:
    """The whole run; whether all went well."""
    began = time.monotonic()
    samples: list[Sample] = []

    def sample() -> None:
        samples.append(look(office, began))
        with results.open("a") as file:
            file.write(json.dumps(asdict(samples[-1])) + "\n")
        print(samples[-1], flush=True)

    print(HEADING)
    sample()
    idle = samples[0]
    with ExitStack() as stack:
        phone = Sipp(office, "answers", PHONES, office.phone_port, pause_ms=RING_MS)
        stack.callback(phone.stop)
        caller = Sipp(
            office, "carrier_calls", CARRIER, office.carrier_port,
            calls=calls, rate=rate, lines=office.called, pause_ms=TALK_MS,
        )  # fmt: skip
        stack.callback(caller.stop)
        while caller.process.running:
            pause(every)
            sample()
        done, answered = caller.totals(), phone.totals()
    office.at_rest(120)
    pause(LINGER)
    sample()
    last = samples[-1]
    fifth = max(1, len(samples) // 5)
    early = median(s.mib for s in samples[fifth : 2 * fifth])
    late = median(s.mib for s in samples[-1 - fifth : -1])
    each = (last.cpu - idle.cpu) / max(done.calls, 1) * 1000
    print(
        f"{done.calls} calls at {done.calls / done.seconds:.1f}/s, {done.failed} failed, {done.retransmissions}"
        f" messages repeated by the caller and {answered.retransmissions} by the called;"
        f" {last.calls - idle.calls} records; {each:.2f} ms CPU each;"
        f" {early:.1f} MiB in the second fifth, {late:.1f} in the last"
    )
    left = {name: getattr(last, name) for name in ("live", "transactions", "sessions", "channels", "spool", "errors")}
    left |= {"tasks": last.tasks - idle.tasks, "relay files": max(0, last.relay_files - idle.relay_files - 4)}
    print("left at the end: " + ", ".join(f"{count} {name}" for name, count in left.items()))
    well = not (done.failed or any(left.values()) or late > early * (1 + LARGEST_GROWTH))
    return well and last.calls - idle.calls == done.calls


def main() -> int:
    """Exit status: 0 where all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--every", type=float, default=60, help="seconds between looks (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="keep samples and logs here")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        office = Office(folder, {"trace_megabytes": 8})
        stack.callback(office.stop)
        office.start()
        return 0 if run(office, asked.calls, asked.rate, asked.every, folder / "soak.jsonl") else 1


if __name__ == "__main__":
    sys.exit(main())
