"""What an attack costs the customers: established carriers at 50 calls/s beside a flood (bench/README.md).

python bench/flood.py                          junk, unauthenticated REGISTERs and OPTIONS at 10,000 a second each,
                                               connections that close at once at 1,000 a second
python bench/flood.py --kind register --seconds 300 --folder results
python bench/flood.py --kind register --forged another source address for each datagram; as root

Ends with status 1 where a call failed, or where memory was not flat in the second half of the flood.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import mean

from attack import Attacker
from load import Office, Usage, memory

KINDS = {"junk": 10_000, "register": 10_000, "options": 10_000, "connects": 1_000}
CALLS = 50
CALM = 90
"""Seconds of calls before the flood: the messages of calls have filled their room by then."""
EVERY = 10.0
"""Seconds between samples of memory."""
FLAT = 3_000_000
"""Bytes by which the last quarter of a flood may lie above the one before it."""


class Curve:
    """Memory of a process over time, in a thread of its own."""

    def __init__(self, pid: int) -> None:
        self.samples: list[int] = []
        self._pid = pid
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="curve")
        self._thread.start()

    def finish(self) -> list[int]:
        """Bytes at each sample."""
        self._ends.set()
        self._thread.join()
        return self.samples

    def _run(self) -> None:
        while True:
            self.samples.append(memory(self._pid))
            if self._ends.wait(EVERY):
                return


def rise(samples: list[int]) -> float:
    """Bytes by which the mean of the last quarter lies above that of the third."""
    quarter = max(1, len(samples) // 4)
    return mean(samples[-quarter:]) - mean(samples[-2 * quarter : -quarter] or samples)


def run(kind: str, rate: int, seconds: int, forged: bool, folder: Path, calm_seconds: int = CALM) -> bool:
    """Calls alone, then beside the flood; True where no call failed and memory became flat."""
    from calls import Bench

    # the limits that everybody has, not those of a bench whose phones share an address
    office = Office(folder / kind, {"guard_rate": 100, "guard_burst": 400, "answer_timeout": 30})
    try:
        office.start()
        bench = Bench(office, folder / "results.jsonl")
        calm = bench.run("inbound", CALLS, CALLS * calm_seconds)
        at_rest = memory(office.signalling)
        host, port = office.edge.server().rsplit(":", 1)
        before, dropped, lost = Usage.of(office), drops(office), overflowed(office)
        curve, begun = Curve(office.signalling), time.monotonic()
        attacker = Attacker(kind, rate, host, int(port), forged=forged)
        try:
            row = bench.run("inbound", CALLS, CALLS * seconds)
            after, sent, took = Usage.of(office), attacker.sent, time.monotonic() - begun
        finally:
            attacker.stop()
            samples = curve.finish()
        lost = overflowed(office) - lost
        dropped = {why: n - dropped.get(why, 0) for why, n in drops(office).items() if n > dropped.get(why, 0)}
        more = rise(samples)
        share = (after.cpu["signalling"] - before.cpu["signalling"]) / (after.at - before.at) * 100
        print(
            f"{kind}{' forged' if forged else ''}: {sent / took:.0f}/s for {took:.0f} s beside"
            f" {row.reached:.0f} calls/s:"
            f" {row.failed} calls failed (calm: {calm.failed}), {row.resent} messages repeated, CPU of"
            f" a core {calm.share:.0f} % -> {share:.0f} %, answer p99 {calm.answer[2]:.0f} -> {row.answer[2]:.0f} ms,"
            f" dropped {dropped}, lost in full buffers {lost}, load average {row.load:.1f}\n"
            f"    memory at rest {at_rest / 1e6:.1f} MB, every {EVERY:g} s of the flood:"
            f" {' '.join(f'{n / 1e6:.1f}' for n in samples)}: the last quarter {more / 1e6:+.1f} MB",
            flush=True,
        )
        bench.note("flood", kind=kind, forged=forged, sent=sent, seconds=took, failed=row.failed, resent=row.resent,
                   dropped=dropped, lost=lost, at_rest=at_rest, memory=samples,
                   calm_share=calm.share, share=share)  # fmt: skip
        return not row.failed and not calm.failed and more < FLAT
    finally:
        office.stop()


def drops(office: Office) -> dict[str, int]:
    """What the guard has turned away since the start, by reason."""
    return {
        key.partition('"')[2].partition('"')[0]: int(value)
        for key, value in office.edge.metrics().items()
        if key.startswith("sip_edge_guard_drops_total{") and value
    }


def overflowed(office: Office) -> int:
    """Datagrams that the kernel threw away since the start because the edge had not read those before: anybody's."""
    port = f":{int(office.edge.server().rsplit(':', 1)[1]):04X}"
    rows = [line.split() for line in Path(f"/proc/{office.signalling}/net/udp").read_text().splitlines()[1:]]
    return sum(int(row[-1]) for row in rows if row[1].endswith(port))


def main() -> None:
    """As asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--flood", type=int, help="messages or connections per second")
    parser.add_argument("--forged", action="store_true", help="each datagram from another address")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--calm", type=int, default=CALM, help="seconds of calls before; short: memory still grows")
    parser.add_argument("--folder", type=Path, help="where logs and raw results stay")
    chosen = parser.parse_args()
    kinds = [chosen.kind] if chosen.kind else list(KINDS)
    with tempfile.TemporaryDirectory(prefix="flood-") as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        fine = [run(k, chosen.flood or KINDS[k], chosen.seconds, chosen.forged, folder, chosen.calm) for k in kinds]
    sys.exit(0 if all(fine) else 1)


if __name__ == "__main__":
    main()
