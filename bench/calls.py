"""What a call costs: SIPp calls through an edge of its own with everything on (bench/README.md).

python bench/calls.py                                 the whole table, three times: 25, 100 and 200 calls/s in and out,
                                                      registrations, the highest rate, held calls (some 25 minutes)
python bench/calls.py --rate 100 --calls 6000         one inbound run
python bench/calls.py --rate 50 --kind outbound       phone to carrier, with digest
python bench/calls.py --held 1900                     calls that are up at the same time
python bench/calls.py --highest                       faster and faster until a call fails
python bench/calls.py --leak 20000                    what is left after so many calls
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from load import CARRIER, PHONES, Office, Sipp, Usage, pause, percentiles
from priority import add_option, take
from speed import REFERENCE_MS, at_reference, speed

RING_MS = 200
TALK_MS = 800
HELD_SECONDS = 20
LINGER = 33.0
"""Seconds after which nothing of a finished call may be left: 64*T1 and a little."""
EXPECTED = {
    # kind: who begins, who answers, calls go to
    "inbound": ("carrier_calls", CARRIER, PHONES),
    "outbound": ("phone_calls", PHONES, CARRIER),
}


PROBES = 10
"""Calls per second of the probe beside the load."""
RATES = (25, 100, 200)
_FIRST, _STEP, _STEP_SECONDS = 150, 50, 10


@dataclass(frozen=True, slots=True)
class Row:
    """One run. CPU in milliseconds per call, delays in milliseconds."""

    kind: str
    rate: float
    reached: float
    calls: int
    failed: int
    resent: int
    signalling: float
    relay: float
    postgres: float
    share: float
    """Per cent of a core that the signalling process used."""
    setup: tuple[float, float]
    """Delay that the edge adds to INVITE and 180, as the probe saw it: median and 99th percentile."""
    answer: tuple[float, float, float]
    """From INVITE to 200 without the phone's own time, as SIPp saw it: 50th, 95th and 99th percentile."""
    lag: tuple[float, float]
    machine: float
    """What `speed.speed` said, the mean of before and after."""
    load: float
    """Load average of the machine at the end."""

    @property
    def at_reference(self) -> float:
        """`signalling` at reference speed."""
        return at_reference(self.signalling, self.machine)

    def __str__(self) -> str:
        return (
            f"{self.kind:9} {self.rate:6g} {self.reached:8.1f} {self.calls:7} {self.failed:6} {self.resent:6}"
            f" {self.signalling:8.2f} {self.at_reference:7.2f} {self.relay:6.2f} {self.postgres:6.2f}"
            f" {self.share:5.0f} %"
            f"  {'/'.join(f'{ms:.1f}' for ms in self.setup):>11} {'/'.join(f'{ms:.0f}' for ms in self.answer):>12}"
            f"  {'/'.join(f'{ms:g}' for ms in self.lag):>8} {self.machine:8.1f} {self.load:6.1f}"
        )


def middle(rows: list[Row]) -> Row:
    """The medians of runs of one kind; calls, failures and repetitions are summed."""
    first = rows[0]

    def of(name: str) -> float:
        return median(getattr(row, name) for row in rows)

    def each(name: str) -> tuple[float, ...]:
        return tuple(median(values) for values in zip(*(getattr(row, name) for row in rows), strict=True))

    return Row(
        first.kind, first.rate, of("reached"), sum(row.calls for row in rows), sum(row.failed for row in rows),
        sum(row.resent for row in rows), of("signalling"), of("relay"), of("postgres"), of("share"),
        each("setup"), each("answer"), each("lag"), of("machine"), of("load"),  # type: ignore[arg-type]
    )  # fmt: skip


class Bench:
    """The runs that were asked for, over one edge."""

    def __init__(self, office: Office, results: Path) -> None:
        self.office = office
        self.failed = 0
        self.rows: list[Row] = []
        self._results = results

    def note(self, what: str, **figures: object) -> None:
        """Keep raw results, a line of JSON each."""
        with self._results.open("a") as file:
            file.write(json.dumps({"what": what, **figures}) + "\n")

    def run(self, kind: str, rate: float, calls: int, talk_ms: int = TALK_MS, during: Callable[[], None] | None = None,
            quiet: bool = False) -> Row:  # fmt: skip
        """`calls` calls at `rate` a second; prints a line. `during` is called once all of them are up."""
        office = self.office
        scenario, caller, called = EXPECTED[kind]
        callers, answers = (office.carrier_port, office.phone_port) if kind == "inbound" else (0, office.carrier_port)
        lines = office.called if kind == "inbound" else office.seats
        before_speed = speed()
        with ExitStack() as stack:
            phone = Sipp(office, "answers", called, answers, pause_ms=RING_MS)
            stack.callback(phone.stop)
            before = Usage.of(office)
            caller_ = Sipp(office, scenario, caller, callers, calls=calls, rate=rate, lines=lines, pause_ms=talk_ms)
            stack.callback(caller_.stop)
            probe = None if quiet else office.probe(PROBES)
            try:
                if during is not None:
                    pause(calls / rate + 3)
                    during()
                caller_.finish(calls / rate + talk_ms / 1000 + 120)
            finally:
                seen = probe.finish() if probe is not None else None
            after = Usage.of(office)
            office.at_rest()
        done = caller_.totals()
        failed = max(done.failed, phone.totals().failed)
        if failed:
            print(f"{failed} calls failed: see {caller_.folder} and {phone.folder}", file=sys.stderr)
        if seen is not None and seen.failed:
            failed += seen.failed
            print(f"{seen.failed} calls of the probe failed", file=sys.stderr)
        self.failed += failed
        if dropped := after.dropped - before.dropped:
            print(f"the guard dropped {dropped} datagrams", file=sys.stderr)
        used = {name: after.cpu[name] - before.cpu[name] for name in after.cpu}
        each = max(done.calls + (seen.placed if seen is not None else 0), 1) / 1000
        delays = [seconds * 1000 for seconds in seen.delays] if seen is not None else []
        p50, p95, p99 = percentiles(caller_.delays("answer"), 50, 95, 99)
        row = Row(
            kind, rate, done.calls / max(done.seconds, 0.001), done.calls, failed, done.retransmissions,
            used["signalling"] / each, used["relay"] / each, used["PostgreSQL"] / each,
            used["signalling"] / (after.at - before.at) * 100,
            (percentiles(delays, 50)[0], percentiles(delays, 99)[0]), (p50 - RING_MS, p95 - RING_MS, p99 - RING_MS),
            (after.lag_since(before, 0.5), after.lag_since(before, 0.99)), (before_speed + speed()) / 2,
            os.getloadavg()[0],
        )  # fmt: skip
        if not quiet:
            print(row, flush=True)
            self.rows.append(row)
            self.note("run", **asdict(row), at_reference=row.at_reference, probe_ms=[round(ms, 3) for ms in delays])
        return row

    def highest(self) -> None:
        """Faster and faster until a call fails or a message has to be sent again."""
        best = 0.0
        for rate in range(_FIRST, 2000, _STEP):
            row = self.run("inbound", rate, rate * _STEP_SECONDS)
            if row.failed or row.resent or row.reached < rate * 0.85:
                break
            best = rate
        self.failed -= row.failed  # they are what was looked for
        print(f"highest rate without a failed call or a repeated message: {best:g} calls/s and the probe's {PROBES}")
        self.note("highest", rate=best)

    def registrations(self, rate: float, count: int) -> None:
        """`count` registrations with digest at `rate` a second; prints a line."""
        office = self.office
        before = Usage.of(office)
        sipp = Sipp(office, "register", PHONES, office.phone_port, calls=count, rate=rate, lines=office.seats)
        sipp.finish(count / rate + 60)
        after = Usage.of(office)
        self.failed += sipp.totals().failed
        done = sipp.totals()
        if dropped := after.dropped - before.dropped:
            print(f"the guard dropped {dropped} datagrams", file=sys.stderr)
        each = (after.cpu["signalling"] - before.cpu["signalling"]) / max(done.calls, 1) * 1000
        base = (after.cpu["PostgreSQL"] - before.cpu["PostgreSQL"]) / max(done.calls, 1) * 1000
        self.note("registrations", rate=done.calls / done.seconds, failed=done.failed, signalling=each, postgres=base)
        print(
            f"registrations with digest: {done.calls} at {done.calls / done.seconds:.0f}/s ({rate:g} wanted), "
            f"{done.failed} failed, {done.retransmissions} messages repeated, "
            f"{each:.2f} ms CPU each in the signalling process, {base:.2f} ms in PostgreSQL"
        )

    def held(self, calls: int, rate: float) -> None:
        """`calls` calls up at the same time, twice; prints what one costs in memory, and what the second time left."""
        office = self.office
        rest: list[int] = []
        for cycle in (1, 2):
            office.at_rest()
            pause(LINGER)
            at_start = Usage.of(office)
            rest.append(at_start.memory)
            up: list[int] = []

            def measure(at_start: Usage = at_start, up: list[int] = up, cycle: int = cycle) -> None:
                now = Usage.of(office)
                begun = int(office.edge.metric("sip_edge_live_calls"))
                sessions = int(office.edge.metric("sip_edge_relay_sessions"))
                up.append(begun)
                each = (now.memory - at_start.memory) / max(begun, 1) / 1024
                pause(5)
                later = Usage.of(office)
                idle = (later.cpu["signalling"] - now.cpu["signalling"]) / 5 * 100
                print(
                    f"held: {begun} calls up, {sessions} relay sessions, {each:.1f} KiB each in the signalling "
                    f"process, which uses {idle:.1f} % of a core for them"
                )
                self.note("held", cycle=cycle, up=begun, kib=each, idle=idle)

            self.run("inbound", rate, calls, int((calls / rate + HELD_SECONDS) * 1000), measure, quiet=True)
            if up and up[0] != calls:
                self.failed += calls - up[0]
                print(f"{calls - up[0]} calls were not up", file=sys.stderr)
        office.at_rest()
        pause(LINGER)
        rest.append(Usage.of(office).memory)
        left = [(later - before) / calls / 1024 for before, later in pairwise(rest)]
        print(f"held: {left[0]:.2f} KiB a call were left after the first cycle, {left[1]:.2f} after the second")
        self.note("held-left", kib=left)

    def leak(self, calls: int, rate: float) -> None:
        """What stays after `calls` calls: memory after each fifth of them, and what is left at the end."""
        office = self.office
        sizes: list[int] = []
        for _ in range(5):
            self.run("inbound", rate, calls // 5)
            pause(LINGER)
            sizes.append(Usage.of(office).memory)
        print("resident MiB after each fifth: " + ", ".join(f"{size / 2**20:.1f}" for size in sizes))
        left = {
            name: int(office.edge.metric(f"sip_edge_{name}"))
            for name in ("live_calls", "relay_sessions", "channels_in_use", "spool_records")
        }
        # phones that do not listen any more are still asked by OPTIONS whether they are there
        left["transactions"] = int(
            sum(
                value
                for name, value in office.edge.metrics().items()
                if name.startswith("sip_edge_transactions{") and "client-other" not in name
            )
        )
        print("left: " + ", ".join(f"{count} {name}" for name, count in left.items()))
        self.failed += sum(left.values())


HEADING = (
    "kind        rate  calls/s   calls failed resent   sig ms  at ref  relay     PG   CPU    set-up ms"
    "  answer ms p50/95/99    lag  machine   load"
)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rate", type=float, help="calls per second")
    arguments.add_argument("--calls", type=int, help="calls of a run (default: for 30 s)")
    arguments.add_argument("--kind", choices=tuple(EXPECTED), default="inbound")
    arguments.add_argument("--held", type=int, help="calls up at the same time (the media ports suffice for 1990)")
    arguments.add_argument("--leak", type=int, help="calls after which nothing may be left")
    arguments.add_argument("--highest", action="store_true", help="faster and faster until a call fails")
    arguments.add_argument("--registrations", type=int, help="registrations with digest a second")
    arguments.add_argument("--repeat", type=int, default=3, help="how often the table is measured")
    arguments.add_argument("--warm-up", type=int, default=1000, help="calls before anything is measured")
    arguments.add_argument("--trace-megabytes", type=int, default=8, help="small, so that it is full after warming up")
    arguments.add_argument("--folder", type=Path, help="keep logs, settings and raw results (results.jsonl) here")
    add_option(arguments)
    chosen = arguments.parse_args()
    priority = take(chosen.priority)
    with ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        office = Office(folder, {"trace_megabytes": chosen.trace_megabytes})
        stack.callback(office.stop)
        office.start()
        bench = Bench(office, folder / "results.jsonl")
        python = f"Python {platform.python_version()} of {sys.base_prefix}"
        print(f"{os.cpu_count()} cores, {python}; priority {priority}; CPU in ms per call, `at ref` where the machine's"
              f" work takes {REFERENCE_MS:g} ms; answer without the phone's own {RING_MS} ms")  # fmt: skip
        bench.note("machine", cores=os.cpu_count(), python=python, load=os.getloadavg())
        if chosen.warm_up:
            bench.run("inbound", 50, chosen.warm_up, quiet=True)
        rate = chosen.rate or 100
        if chosen.held:
            bench.held(chosen.held, rate)
        elif chosen.leak:
            print(HEADING)
            bench.leak(chosen.leak, rate)
        elif chosen.highest:
            print(HEADING)
            bench.highest()
        elif chosen.registrations:
            bench.registrations(chosen.registrations, chosen.registrations * 10)
        elif chosen.rate:
            print(HEADING)
            bench.run(chosen.kind, rate, chosen.calls or int(rate * 30))
        else:
            table(bench, chosen.repeat, chosen.calls)
        print(f"failed: {bench.failed}")
    return 1 if bench.failed else 0


def table(bench: Bench, repeat: int, calls: int | None) -> None:
    """Everything, the rates `repeat` times in turn; prints the medians at the end."""
    print(HEADING)
    for _ in range(repeat):
        for kind in EXPECTED:
            for rate in RATES:
                bench.run(kind, rate, calls or rate * 30)
    runs = bench.rows.copy()
    bench.registrations(50, 1500)
    bench.registrations(1500, 15000)
    bench.highest()
    bench.held(1900, 100)
    print(f"medians of {repeat} runs (calls, failures and repeated messages of all)")
    print(HEADING)
    for kind in EXPECTED:
        for rate in RATES:
            print(middle([row for row in runs if (row.kind, row.rate) == (kind, rate)]))


if __name__ == "__main__":
    sys.exit(main())
