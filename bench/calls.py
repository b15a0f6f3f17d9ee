"""What a call costs: SIPp calls through an edge of its own with everything on (bench/README.md).

python bench/calls.py                                 10, 50, 100, 200 calls/s in, 50 out, registrations, held calls
python bench/calls.py --rate 100 --calls 6000         one inbound run
python bench/calls.py --rate 50 --kind outbound       phone to carrier, with digest
python bench/calls.py --held 1900                     calls that are up at the same time
python bench/calls.py --leak 20000                    what is left after so many calls
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from load import CARRIER, PHONES, Office, Sipp, Usage, pause, percentiles

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


class Bench:
    """The runs that were asked for, over one edge."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.failed = 0

    def run(self, kind: str, rate: float, calls: int, talk_ms: int = TALK_MS, during: Callable[[], None] | None = None,
            quiet: bool = False) -> None:  # fmt: skip
        """`calls` calls at `rate` a second; prints a line. `during` is called once all of them are up."""
        office = self.office
        scenario, caller, called = EXPECTED[kind]
        callers, answers = (office.carrier_port, office.phone_port) if kind == "inbound" else (0, office.carrier_port)
        lines = office.called if kind == "inbound" else office.seats
        with ExitStack() as stack:
            phone = Sipp(office, "answers", called, answers, pause_ms=RING_MS)
            stack.callback(phone.stop)
            before = Usage.of(office)
            caller_ = Sipp(office, scenario, caller, callers, calls=calls, rate=rate, lines=lines, pause_ms=talk_ms)
            stack.callback(caller_.stop)
            if during is not None:
                pause(calls / rate + 3)
                during()
            caller_.finish(calls / rate + talk_ms / 1000 + 120)
            after = Usage.of(office)
            office.at_rest()
        self.report(kind, rate, caller_, phone, before, after, quiet)

    def report(
        self, kind: str, rate: float, caller: Sipp, phone: Sipp, before: Usage, after: Usage, quiet: bool
    ) -> None:
        done = caller.totals()
        failed = max(done.failed, phone.totals().failed)
        self.failed += failed
        if failed:
            print(f"{failed} calls failed: see {caller.folder} and {phone.folder}", file=sys.stderr)
        if dropped := after.dropped - before.dropped:
            print(f"the guard dropped {dropped} datagrams", file=sys.stderr)
        if quiet:
            return
        wall = after.at - before.at
        used = {name: after.cpu[name] - before.cpu[name] for name in after.cpu}
        calls = max(done.calls, 1)
        ring = percentiles(caller.delays("ringing"), 50, 95, 99)
        answer = [ms - RING_MS for ms in percentiles(caller.delays("answer"), 50, 95, 99)]
        print(
            f"{kind:9} {rate:6g} {done.calls / done.seconds:8.1f} {done.calls:7} {failed:6} {done.retransmissions:6}"
            f" {used['signalling'] / calls * 1000:8.2f} {used['relay'] / calls * 1000:6.2f}"
            f" {used['PostgreSQL'] / calls * 1000:6.2f} {used['signalling'] / wall * 100:5.0f} %"
            f"  {'/'.join(f'{ms:.0f}' for ms in ring):>12} {'/'.join(f'{ms:.0f}' for ms in answer):>12}"
            f"  {'/'.join(f'{after.lag_since(before, share):g}' for share in (0.5, 0.99)):>8}",
            flush=True,
        )

    def registrations(self, rate: float, count: int) -> None:
        """`count` registrations with digest at `rate` a second; prints a line."""
        office = self.office
        before = Usage.of(office)
        sipp = Sipp(office, "register", PHONES, office.phone_port, calls=count, rate=rate, lines=office.seats)
        sipp.finish(count / rate + 60)
        after = Usage.of(office)
        self.failed += sipp.totals().failed
        done = sipp.totals()
        each = (after.cpu["signalling"] - before.cpu["signalling"]) / max(done.calls, 1) * 1000
        base = (after.cpu["PostgreSQL"] - before.cpu["PostgreSQL"]) / max(done.calls, 1) * 1000
        print(
            f"registrations with digest: {done.calls} at {done.calls / done.seconds:.0f}/s, {done.failed} failed, "
            f"{each:.2f} ms CPU each in the signalling process, {base:.2f} ms in PostgreSQL"
        )

    def held(self, calls: int, rate: float) -> None:
        """`calls` calls up at the same time; prints what one costs in memory."""
        office = self.office
        office.at_rest()
        at_start = Usage.of(office)
        up: list[int] = []

        def measure() -> None:
            now = Usage.of(office)
            begun = int(office.edge.metric("sip_edge_live_calls"))
            sessions = int(office.edge.metric("sip_edge_relay_sessions"))
            up.append(begun)
            print(
                f"held: {begun} calls up, {sessions} relay sessions, "
                f"{(now.memory - at_start.memory) / max(begun, 1) / 1024:.1f} KiB each in the signalling process"
            )
            pause(5)
            later = Usage.of(office)
            print(f"held: idle, they use {(later.cpu['signalling'] - now.cpu['signalling']) / 5 * 100:.1f} % of a core")

        self.run("inbound", rate, calls, int((calls / rate + HELD_SECONDS) * 1000), measure, quiet=True)
        if up and up[0] != calls:
            self.failed += calls - up[0]
            print(f"{calls - up[0]} calls were not up", file=sys.stderr)

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
            for name in ("live_calls", "transactions", "relay_sessions", "channels_in_use", "spool_records")
        }
        print("left: " + ", ".join(f"{count} {name}" for name, count in left.items()))
        self.failed += sum(left.values())


HEADING = (
    "kind        rate  calls/s   calls failed resent   sig ms  relay     PG   CPU     ring ms p50/95/99"
    "  answer ms   lag ms"
)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rate", type=float, help="calls per second")
    arguments.add_argument("--calls", type=int, help="calls of the run (default: for 30 s)")
    arguments.add_argument("--kind", choices=tuple(EXPECTED), default="inbound")
    arguments.add_argument("--held", type=int, help="calls up at the same time (the media ports suffice for 1990)")
    arguments.add_argument("--leak", type=int, help="calls after which nothing may be left")
    arguments.add_argument("--warm-up", type=int, default=1000, help="calls before anything is measured")
    arguments.add_argument("--trace-megabytes", type=int, default=8, help="small, so that it is full after warming up")
    arguments.add_argument("--folder", type=Path, help="keep logs and settings here")
    chosen = arguments.parse_args()
    with ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        office = Office(folder, {"trace_megabytes": chosen.trace_megabytes})
        stack.callback(office.stop)
        office.start()
        bench = Bench(office)
        if chosen.warm_up:
            bench.run("inbound", 50, chosen.warm_up, quiet=True)
        rate = chosen.rate or 100
        print(f"{os.cpu_count()} cores; CPU in ms per call; answer without the phone's own {RING_MS} ms")
        if chosen.held:
            bench.held(chosen.held, rate)
        elif chosen.leak:
            print(HEADING)
            bench.leak(chosen.leak, rate)
        elif chosen.rate:
            print(HEADING)
            bench.run(chosen.kind, rate, chosen.calls or int(rate * 30))
        else:
            print(HEADING)
            for rate in (10, 50, 100, 200):
                bench.run("inbound", rate, int(rate * 30))
            bench.run("outbound", 50, 1500)
            bench.registrations(50, 1500)
            bench.held(1900, 100)
        print(f"failed: {bench.failed}")
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
