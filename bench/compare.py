"""The same calls through this edge and through other programs, in turn: what a call costs in each (bench/README.md).

bench/compared/install                        once: Sippy (PyPI) and Asterisk (Debian sid); Kamailio is Debian's own
python bench/compare.py                       25, 100 and 200 calls/s, 30 s each, three times in turn, medians last
python bench/compare.py --rates 100 --seconds 10 --repeat 1 --with kamailio,sippy
python bench/compare.py --highest             each of them 50 calls/s faster every 10 s, until a call fails
python bench/compare.py --folder results      raw results stay there, a line of JSON each, and logs

The edge has everything on (digest, routing, limits, records, journal, log, trace, database, relay). The others do less:
Asterisk and Sippy are B2BUAs without records and limits, Sippy without media, and Kamailio is a bare stateful proxy. It
ends with status 1 where a call of the edge failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from compared.programs import PROGRAMS, Program
from load import CALLED, CARRIER, PHONES, PeerFailed, Sipp, cpu, memory, pause, percentiles, probe_of
from priority import add_option, take
from speed import REFERENCE_MS, at_reference, speed

RING_MS = 200
TALK_MS = 800
PROBES = 10
"""Calls per second of the probe beside the load."""
WARM_UP = 1000
_FIRST, _STEP, _STEP_SECONDS, _LAST = 100, 50, 10, 3000


@dataclass(frozen=True, slots=True)
class Row:
    """One run. CPU in milliseconds per call, delays in milliseconds."""

    name: str
    rate: float
    reached: float
    calls: int
    failed: int
    resent: int
    signalling: float
    """Of the edge: its signalling process; of the others: all."""
    every: float
    """All processes: of the edge with relay and PostgreSQL."""
    machine: float
    """What `speed.speed` said, the mean of before and after."""
    setup: tuple[float, float]
    """What is added to INVITE and 180, as the probe saw it: median and 99th percentile."""
    answer: tuple[float, float]
    """From INVITE to 200 without the phone's own time, as SIPp saw it: median and 99th percentile."""
    mib: float
    """Resident, all processes; what they share counts in each."""
    load: float

    @property
    def at_reference(self) -> float:
        """`signalling` at reference speed."""
        return at_reference(self.signalling, self.machine)

    def __str__(self) -> str:
        return (
            f"{self.name:10} {self.rate:6g} {self.reached:8.1f} {self.calls:6} {self.failed:6} {self.resent:6}"
            f" {self.signalling:8.2f} {self.every:8.2f} {self.machine:8.1f} {self.at_reference:8.2f}"
            f"  {'/'.join(f'{ms:.1f}' for ms in self.setup):>11}  {'/'.join(f'{ms:.0f}' for ms in self.answer):>9}"
            f" {self.mib:6.0f} {self.load:6.1f}"
        )


HEADING = (
    "program      rate  calls/s  calls failed resent   sig ms   all ms  machine   at ref    set-up ms  answer ms"
    "    MiB   load"
)


def middle(rows: Sequence[Row]) -> Row:
    """The medians of runs of one program at one rate; calls, failures and repetitions are summed."""

    def of(what: Callable[[Row], float]) -> float:
        return median(map(what, rows))

    return Row(
        rows[0].name, rows[0].rate, of(lambda r: r.reached), sum(r.calls for r in rows), sum(r.failed for r in rows),
        sum(r.resent for r in rows), of(lambda r: r.signalling), of(lambda r: r.every), of(lambda r: r.machine),
        (of(lambda r: r.setup[0]), of(lambda r: r.setup[1])), (of(lambda r: r.answer[0]), of(lambda r: r.answer[1])),
        of(lambda r: r.mib), of(lambda r: r.load),
    )  # fmt: skip


def run(program: Program, rate: float, seconds: float) -> Row:
    """One run; raises PeerFailed where it does not come to an end."""
    calls = max(1, round(rate * seconds))
    before_speed = speed()
    with ExitStack() as stack:
        phone = Sipp(program, "answers", PHONES, program.phone_port, pause_ms=RING_MS)
        stack.callback(phone.stop)
        before, began = _used(program), time.monotonic()
        caller = Sipp(
            program, "carrier_calls", CARRIER, program.carrier_port, calls=calls, rate=rate, lines=program.called,
            pause_ms=TALK_MS, patience=40,
        )  # fmt: skip
        stack.callback(caller.stop)
        probe = probe_of(program, program.probe_port, PROBES)
        try:
            caller.finish(seconds + 120)
        finally:
            seen = probe.finish()
        while time.monotonic() - began < seconds + 2:
            pause(0.1)
        after = _used(program)
        size = sum(memory(pid) for pids in program.processes().values() for pid in pids) / 2**20
        program.at_rest()
    done = caller.totals()
    delays = [delay * 1000 for delay in seen.delays]
    used = {name: after[name] - before[name] for name in after}
    each = max(done.calls + seen.placed - seen.failed, 1) / 1000
    answers = percentiles(caller.delays("answer"), 50, 99)
    p50, p99 = percentiles(delays, 50, 99)
    return Row(
        program.name, rate, done.calls / max(done.seconds, 0.001), done.calls,
        max(done.failed, calls - done.calls) + seen.failed, done.retransmissions,
        used["signalling"] / each, sum(used.values()) / each, (before_speed + speed()) / 2,
        (p50, p99), (answers[0] - RING_MS, answers[1] - RING_MS), size, os.getloadavg()[0],
    )  # fmt: skip


def _used(program: Program) -> dict[str, float]:
    return {name: cpu(pids) for name, pids in program.processes().items()}


class Comparison:
    """The programs that were started, and the rows of each."""

    def __init__(self, programs: Sequence[Program], results: Path) -> None:
        self.programs = list(programs)
        self.rows: list[Row] = []
        self._results = results

    def note(self, what: str, **figures: object) -> None:
        """Keep raw results, a line of JSON each."""
        with self._results.open("a") as file:
            file.write(json.dumps({"what": what, **figures}) + "\n")

    def once(self, program: Program, rate: float, seconds: float) -> Row | None:
        """One run, printed and kept; None where it came to no end."""
        try:
            row = run(program, rate, seconds)
        except PeerFailed as error:
            print(f"{program.name:10} {rate:6g} came to no end: {str(error).splitlines()[0]}", flush=True)
            self.note("no-end", name=program.name, rate=rate, error=str(error))
            return None
        print(row, flush=True)
        self.note("run", **asdict(row), at_reference=row.at_reference)
        return row

    def table(self, rates: Sequence[float], seconds: float, repeat: int) -> None:
        """Each rate, each program in turn, `repeat` times; every other time the other way round. Then the medians, and
        how many times the edge's CPU the others took in the same turn."""
        print(HEADING)
        ratios: dict[tuple[str, float], list[float]] = {}
        for turn in range(repeat):
            for rate in rates:
                here: dict[str, Row] = {}
                for program in self.programs[:: -1 if turn % 2 else 1]:
                    if row := self.once(program, rate, seconds):
                        here[program.name] = row
                        self.rows.append(row)
                for name, row in here.items():
                    if "sip-edge" in here and name != "sip-edge":
                        ratio = row.signalling / here["sip-edge"].signalling
                        ratios.setdefault((name, rate), []).append(ratio)
        print(f"medians of {repeat} runs (calls, failures and repeated messages of all)")
        print(HEADING)
        for rate in rates:
            for program in self.programs:
                if rows := [row for row in self.rows if (row.name, row.rate) == (program.name, rate)]:
                    print(middle(rows))
                    self.note("median", **asdict(middle(rows)), at_reference=middle(rows).at_reference)
        for (name, rate), found in ratios.items():
            print(f"{name} at {rate:g}/s: {median(found):.2f} times the edge's CPU (median of {len(found)} pairs)")

    def highest(self) -> None:
        """Each program faster and faster until a call fails or a message is repeated."""
        for program in self.programs:
            print(HEADING)
            best = 0.0
            for rate in range(_FIRST, _LAST, _STEP):
                row = self.once(program, rate, _STEP_SECONDS)
                if row is None or row.failed or row.resent or row.reached < rate * 0.85:
                    break
                best = rate
            print(
                f"{program.name}: {best:g} calls/s and the probe's {PROBES} without a failed call or a repeated message"
            )
            self.note("highest", name=program.name, rate=best)


def main() -> int:
    """Exit status: 0 where no call of the edge failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="25,100,200", help="calls per second, with commas (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=30, help="of each run (default %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="how often each is measured (default %(default)s)")
    parser.add_argument("--with", dest="others", default=",".join(name for name in PROGRAMS if name != "sip-edge"),
                        help="compare with these (default %(default)s)")  # fmt: skip
    parser.add_argument("--highest", action="store_true", help="faster and faster until a call fails")
    parser.add_argument("--folder", type=Path, help="keep logs, settings and raw results (results.jsonl) here")
    add_option(parser)
    asked = parser.parse_args()
    got = take(asked.priority)
    with ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compare-")))
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "called.csv").write_text(CALLED)
        programs = []
        for name in ["sip-edge", *filter(None, asked.others.split(","))]:
            try:
                program = PROGRAMS[name](folder / name)
                stack.callback(program.stop)
                program.start()
                if run(program, 50, WARM_UP / 50).failed > WARM_UP / 2:
                    raise PeerFailed(f"its calls fail: see {program.folder}")
            except (PeerFailed, OSError) as error:
                print(f"{name} is not measured: {error}", file=sys.stderr)
                continue
            programs.append(program)
            print(f"{name}: {program.version}", flush=True)
        comparison = Comparison(programs, folder / "results.jsonl")
        print(f"{os.cpu_count()} cores, priority {got}; CPU in ms per call, `at ref`: where the machine's work takes"
              f" {REFERENCE_MS:g} ms")  # fmt: skip
        comparison.note("machine", cores=os.cpu_count(), priority=got, load=os.getloadavg(), speed=speed(),
                        versions={program.name: program.version for program in programs})  # fmt: skip
        if asked.highest:
            comparison.highest()
        else:
            comparison.table([float(rate) for rate in asked.rates.split(",")], asked.seconds, asked.repeat)
        return 1 if any(row.failed for row in comparison.rows if row.name == "sip-edge") else 0


if __name__ == "__main__":
    sys.exit(main())
