"""What a long run leaves behind: calls at a steady rate, with a look at everything that could grow on the way.

python bench/soak.py                                1,000,000 calls at 200/s: an hour and 25 minutes
python bench/soak.py --calls 150000 --rate 100      as long as there is time for
python bench/soak.py --priority realtime            beside other work, which would else make calls fail
python bench/soak.py --folder results               where status.txt, soak.jsonl (a line a look) and logs stay

Whatever goes wrong on the way, it judges what it saw, each point by itself, PASS or FAIL: calls, memory, what was left
(transactions, ports, leases ...), records, faults inside. It ends with status 1 where one failed. SIGTERM and Ctrl-C
end the run early, and what was seen until then is judged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import linear_regression, median
from typing import TextIO

import asyncpg
from load import CARRIER, PHONES, Office, PeerFailed, Sipp, Totals, cpu, memory
from priority import add_option, favour, take

from config.embedded import EmbeddedPostgres

RING_MS = 200
TALK_MS = 800
LINGER = 45.0
"""Seconds after the last call after which nothing of it may be left."""
LARGEST_GROWTH = 0.05
"""Share by which memory may differ between the second fifth of a run and the last."""
SETTLED = 90.0
"""Seconds after which what is kept for a while (finished transactions, the newest messages) has filled its room."""
SHORTEST = 5 * SETTLED
"""Seconds that a run must take for its memory to be judged."""
PATIENCE = 60.0
"""Seconds without an answer after which a call has failed; the edge lets none ring for longer than half of that."""
FAULTS = r'"level":"(?:error|critical)"|^(?!\{)'
"""Lines of the edge's log that are kept: of a million calls the others are 3 GB."""


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
    """Of the relay, which hold ports."""
    channels: int
    """Held now; `books` has the leases in the database beside them."""
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


class Status:
    """What is printed, which also goes to a file, each line at once."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __call__(self, line: object) -> None:
        for out in (sys.stdout, self._file):
            with suppress(BrokenPipeError):  # whoever watched has gone
                print(line, file=out, flush=True)


class Soak:
    """One run over a started edge; `say` prints, `ended` ends it early."""

    def __init__(self, office: Office, folder: Path, say: Callable[[object], None], ended: threading.Event) -> None:
        self.office = office
        self.samples: list[Sample] = []
        self._say = say
        self._ended = ended
        self._raw = folder / "soak.jsonl"
        self._began = time.monotonic()

    @property
    def edge_runs(self) -> bool:
        return self.office.edge.process.running

    def look(self) -> None:
        """Add a sample. An edge that does not answer in time is asked again at the next look."""
        try:
            sample = look(self.office, self._began)
            favour(pid for pids in self.office.processes().values() for pid in pids)
        except (OSError, AssertionError, ValueError) as error:
            self._say(f"{time.monotonic() - self._began:7.0f} no look: {type(error).__name__}: {error}")
            return
        self.samples.append(sample)
        with self._raw.open("a") as file:
            file.write(json.dumps(asdict(sample)) + "\n")
        self._say(sample)

    def calls(self, calls: int, rate: float, every: float) -> tuple[Totals, Totals]:
        """Place the calls; what caller and called counted."""
        office = self.office
        phone = Sipp(office, "answers", PHONES, office.phone_port, pause_ms=RING_MS)
        caller = Sipp(
            office, "carrier_calls", CARRIER, office.carrier_port, calls=calls, rate=rate, lines=office.called,
            pause_ms=TALK_MS, delays=False, patience=PATIENCE,
        )  # fmt: skip
        longest = time.monotonic() + calls / rate * 1.5 + 2 * PATIENCE
        try:
            following = time.monotonic() + every
            while caller.process.running and self.edge_runs and phone.process.running:
                if self._ended.wait(0.5):
                    self._say("ended early")
                    break
                if time.monotonic() > longest:
                    self._say("not done in half as much time again")
                    break
                if time.monotonic() >= following:
                    following += every
                    self.look()
            if caller.process.running and self.edge_runs:
                caller.place_no_more()
                with suppress(PeerFailed):
                    caller.finish(2 * PATIENCE)
        finally:
            caller.stop()
            phone.stop()
        return caller.totals(), phone.totals()

    def rest(self) -> None:
        """Wait until nothing may be left, and take the last sample."""
        try:
            self.office.at_rest(120)
        except (PeerFailed, OSError, AssertionError) as error:
            self._say(f"not at rest: {error}")
        threading.Event().wait(LINGER)
        self.look()


async def stored(office: Office) -> dict[str, int]:
    """Rows of the database: what no metric could hide."""
    server = EmbeddedPostgres(office.edge.data / "database")
    database = await asyncpg.connect(await server.start())
    try:
        return {
            table: await database.fetchval(f"SELECT count(*) FROM sip_edge.{table}")
            for table in ("channel_leases", "live_calls", "call_records")
        }
    finally:
        await database.close()
        await server.stop()


def verdicts(soak: Soak, done: Totals, answered: Totals, wanted: int, allowed: int, rows: dict[str, int]) -> list[
    tuple[bool, str, str]
]:  # fmt: skip
    """Each point that is judged: whether it is well, its name, what was seen."""
    idle, last = soak.samples[0], soak.samples[-1]
    failed = done.failed + max(0, wanted - done.calls - done.failed)
    records = last.calls - idle.calls
    left = {"live": last.live, "transactions": last.transactions, "sessions": last.sessions, "spool": last.spool}
    left |= {"tasks": last.tasks - idle.tasks, "files of the relay": max(0, last.relay_files - idle.relay_files - 4)}
    leases = {"channels": last.channels, **{name: rows.get(name, -1) for name in ("channel_leases", "live_calls")}}
    repeated = done.retransmissions + answered.retransmissions
    found = [
        (failed <= allowed, "calls", f"{done.calls} well of {wanted} at {done.calls / max(done.seconds, 1):.1f}/s,"
         f" {failed} failed or not placed ({allowed} allowed); {repeated} messages repeated by SIPp"),
        memory_verdict(soak.samples),
        (all(count <= 0 for count in left.values()), "left", _counts(left)),
        (not any(leases.values()), "leases", _counts(leases)),
        # a call that failed at SIPp has a record, too
        (done.calls <= records <= done.calls + failed and rows.get("call_records") == last.calls, "records",
         f"{records} for {done.calls} calls; {rows.get('call_records')} rows"),
        (not last.errors and not last.books, "inside", f"{last.errors} errors, books differ by {last.books:g}"),
    ]  # fmt: skip
    return found


def memory_verdict(samples: list[Sample]) -> tuple[bool, str, str]:
    """Whether the signalling process stayed as large as it was."""
    under_load = samples[1:-1]
    length = under_load[-1].seconds if under_load else 0.0
    settled = [s for s in under_load if s.seconds >= max(SETTLED, length / 5)]
    if length < SHORTEST or len(settled) < 8:
        sizes = " ".join(f"{s.mib:.0f}" for s in samples[:: max(1, len(samples) // 10)])
        return True, "memory", f"not judged: {SHORTEST:.0f} s and ten looks are needed; MiB: {sizes}"
    quarter = len(settled) // 4
    early = median(s.mib for s in settled[:quarter])
    late = median(s.mib for s in settled[-quarter:])
    half = settled[len(settled) // 2 :]
    slope = linear_regression([s.calls / 1000 for s in half], [s.mib * 1024 for s in half]).slope
    relay = median(s.relay_mib for s in settled[-quarter:]) - median(s.relay_mib for s in settled[:quarter])
    well = late <= early * (1 + LARGEST_GROWTH)
    return well, "memory", (
        f"{early:.1f} MiB in the second fifth, {late:.1f} in the last ({late / early * 100 - 100:+.1f} %);"
        f" {slope:+.1f} KiB per 1000 calls in the second half; relay {relay:+.1f} MiB"
    )  # fmt: skip


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def run(asked: argparse.Namespace, folder: Path, say: Callable[[object], None], ended: threading.Event) -> bool:
    """The whole run; whether all went well."""
    office = Office(folder, {"trace_megabytes": 8, "answer_timeout": PATIENCE / 2})
    well = True
    try:
        office.start()
        output = office.edge.process.output
        output.kept = re.compile(FAULTS)
        output.lines.clear()
        soak = Soak(office, folder, say, ended)
        say(HEADING)
        soak.look()
        done, answered = soak.calls(asked.calls, asked.rate, asked.every)
        if soak.edge_runs:
            soak.rest()
        else:
            say("FAIL edge: it has ended:\n" + "\n".join(office.edge.lines[-30:]))
            well = False
        rows: dict[str, int] = {}
        try:
            rows = asyncio.run(stored(office))
        except Exception as error:
            say(f"the database could not be asked: {error!r}")
        if not soak.samples:
            say("the edge never answered")
            return False
        wanted = done.calls + done.failed if ended.is_set() else asked.calls
        each = (soak.samples[-1].cpu - soak.samples[0].cpu) / max(done.calls, 1) * 1000
        say(f"{each:.2f} ms CPU for each call in the signalling process")
        for fine, name, seen in verdicts(soak, done, answered, wanted, asked.allow, rows):
            say(f"{'PASS' if fine else 'FAIL'} {name}: {seen}")
            well &= fine
    finally:
        try:
            office.stop()
        except AssertionError as error:
            say(f"FAIL end: {error}")
            well = False
    return well


def main() -> int:
    """Exit status: 0 where all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--every", type=float, default=60, help="seconds between looks (default %(default)s)")
    parser.add_argument("--allow", type=int, default=0, help="calls that may fail (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="where all that was seen stays (default: bench-results/soak-TIME)")
    add_option(parser)
    asked = parser.parse_args()
    got = take(asked.priority)
    folder: Path = asked.folder or Path("bench-results") / time.strftime("soak-%Y%m%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with (folder / "status.txt").open("a") as file:
        say = Status(file)
        say(f"{asked.calls} calls at {asked.rate:g}/s, priority {got}, process {os.getpid()}; results in {folder}")
        well = run(asked, folder.resolve(), say, ended)
        say("all is well" if well else "not all is well")
        return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
