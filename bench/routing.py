"""A million DDIs: time and memory of building the snapshot, and the time of a routing decision (domain 5, issue 3).

    python -m bench.routing [NUMBERS]

Prints JSON. Rows are made as the store makes them (one object per number); loading from PostgreSQL is not included.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median

from config.model import Account, Carrier, NumberRow, Route, RouteKind, Rows, Seat, Trunk
from config.snapshot import Snapshot
from dialplan.engine import decide
from dialplan.model import CallAttempt, Called, Caller, Refusal, Source, SourceKind

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
ACCOUNTS = 1000


def rows(numbers: int) -> Rows:
    """A tenth are ranges of ten DDIs to a PBX, the rest single numbers to seats; an account has 50 seats."""
    carriers = tuple(
        Carrier(
            name, domain=f"{name}.example", username=name, clip_no_screening=True, priority=10 * (i // 2), weight=1 + i
        )
        for i, name in enumerate(("north", "south", "east", "west"))
    )
    accounts = tuple(
        Account(f"K{i}", parallel_calls=30, emergency_number=_ddi(i), allowed_destinations=("*",))
        for i in range(ACCOUNTS)
    )
    trunks = tuple(Trunk(f"K{i}", "hq", username=f"hq-{i}", default_number=_ddi(i)) for i in range(ACCOUNTS))
    seats = tuple(
        Seat(f"seat{s}.{i}", f"K{i}", extension=str(200 + s), primary_number=_ddi(s * ACCOUNTS + i))
        for i in range(ACCOUNTS)
        for s in range(50)
    )
    out: list[NumberRow] = []
    for n in range(numbers):
        account = f"K{n % ACCOUNTS}"
        if n // ACCOUNTS % 10 == 9:
            row = NumberRow(f"+4940{n:08d}", 1, account, "south", route=Route(RouteKind.TRUNK, "hq"))
        else:
            target = f"seat{n // ACCOUNTS % 50}.{n % ACCOUNTS}"
            prefix = str(10 + n // ACCOUNTS) if n // ACCOUNTS < 5 else None
            row = NumberRow(_ddi(n), 0, account, "north", route=Route(RouteKind.SEAT, target), cli_prefix=prefix)
        out.append(row)
    return Rows(carriers, accounts, trunks, seats, tuple(out))


def _ddi(n: int) -> str:
    return f"+4930{n:08d}"


def measure(question: Callable[[int], CallAttempt], world: Snapshot, times: int = 20_000) -> dict[str, float]:
    """Microseconds per decision: median and 99th percentile. SystemExit where a decision is a refusal."""
    attempts = [question(i) for i in range(times)]
    taken: list[int] = []
    for attempt in attempts:
        started = time.perf_counter_ns()
        decided = decide(attempt, world, NOW)
        taken.append(time.perf_counter_ns() - started)
        if isinstance(decided, Refusal):
            raise SystemExit(f"refused: {decided.reason.value} {decided.detail}")
    taken.sort()
    return {"median_us": round(median(taken) / 1000, 1), "p99_us": round(taken[len(taken) * 99 // 100] / 1000, 1)}


def inbound_seat(i: int) -> CallAttempt:
    """A DDI to a seat, as a carrier in E.164 without + sends it."""
    n = i % ACCOUNTS + i // ACCOUNTS % 9 * ACCOUNTS
    called = Called("request-uri", _ddi(n)[1:])
    return CallAttempt(
        Source(SourceKind.CARRIER, "north"), (called, Called("to", called.user)), Caller("+4915112345678")
    )


def inbound_trunk(i: int) -> CallAttempt:
    """A DDI of a range to a PBX."""
    n = i % ACCOUNTS + (i // ACCOUNTS % 5 * 10 + 9) * ACCOUNTS
    called = Called("request-uri", f"+4940{n:08d}{i % 10}")
    return CallAttempt(Source(SourceKind.CARRIER, "south"), (called, Called("to", called.user)), Caller("015112345678"))


def outbound_seat(i: int) -> CallAttempt:
    """A seat calls a number abroad, with the carriers shared by weight."""
    source = Source(SourceKind.SEAT, f"seat{i % 5}.{i % ACCOUNTS}", f"K{i % ACCOUNTS}")
    return CallAttempt(source, (Called("request-uri", "00442036427900"),), Caller("seat"), i / 20_000)


def outbound_pbx(i: int) -> CallAttempt:
    """A PBX calls with the code 141."""
    source = Source(SourceKind.TRUNK, "hq", f"K{i % ACCOUNTS}")
    return CallAttempt(source, (Called("request-uri", "141022838650"),), Caller(_ddi(i % ACCOUNTS)), i / 20_000)


def main() -> None:
    """Run and print."""
    numbers = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    started = time.perf_counter()
    table = rows(numbers)
    made = time.perf_counter()
    world = Snapshot(table)
    built = time.perf_counter()
    del table
    gc.collect()
    collecting = time.perf_counter()
    gc.collect()
    collected = time.perf_counter()
    gc.freeze()  # as the edge does after each swap: rows live long, and walking them would stop calls
    result = {
        "numbers": numbers,
        "rows_made_s": round(made - started, 2),
        "snapshot_built_s": round(built - made, 2),
        "full_gc_without_freeze_ms": round((collected - collecting) * 1000),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "inbound_to_seat": measure(inbound_seat, world),
        "inbound_range_to_pbx": measure(inbound_trunk, world),
        "outbound_from_seat": measure(outbound_seat, world),
        "outbound_from_pbx_withheld": measure(outbound_pbx, world),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
