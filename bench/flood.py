"""What an attack costs the customers: established carriers at 50 calls/s beside a flood (bench/README.md).

python bench/flood.py                          junk, unauthenticated REGISTERs and OPTIONS at 10,000 a second each,
                                               connections that close at once at 1,000 a second
python bench/flood.py --kind register --flood 10000 --sources 2000 --seconds 60
python bench/flood.py --cost                   CPU of all defences on the way of one normal call, without sockets

Ends with status 1 where a call failed or memory grew.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

from load import Office, Usage, memory

KINDS = {"junk": 10_000, "register": 10_000, "options": 10_000, "connects": 1_000}
GROWTH = 10 * 1024 * 1024
"""Bytes that the signalling process may grow in a flood that has lasted for `_FILLING` seconds."""
_FILLING = 40.0
"""Seconds until transactions of the flood end as fast as new ones begin (64*T1), and tables of sources are full."""
CALLS = 50


def datagrams(kind: str, server: str) -> Iterator[bytes]:
    """Messages without end, no two alike."""
    draw = random.Random(7)
    n = 0
    while True:
        n += 1
        if kind == "junk":
            choice = n % 4
            if choice == 0:
                yield draw.randbytes(200)
            elif choice == 1:
                yield b"INVITE sip:x SIP/2.0\r\nVia: " + draw.randbytes(60) + b"\r\n\r\n"
            elif choice == 2:
                yield f"REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{n}\r\nFrom: x\r\n\r\n".encode()
            else:
                yield b"A" * 1200
            continue
        method = kind.upper()
        user = draw.randrange(100, 100_000)
        yield (
            f"{method} sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{n};rport\r\n"
            f"From: <sip:{user}@{server}>;tag={n}\r\nTo: <sip:{user}@{server}>\r\nCall-ID: {n}@x\r\n"
            f"CSeq: 1 {method}\r\nContact: <sip:{user}@192.0.2.1>\r\nMax-Forwards: 70\r\nUser-Agent: Phone\r\n"
            "Content-Length: 0\r\n\r\n"
        ).encode()


def flood(kind: str, rate: int, sources: int, host: str, port: int, stop: object, sent: object) -> None:
    """Send until `stop`; runs in a process of its own."""
    if kind == "connects":
        _connects(rate, host, port, stop, sent)
        return
    sockets = []
    for n in range(min(sources, 900)):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind((f"127.7.{n >> 8}.{n & 255 or 1}", 0))
        sockets.append(sock)
    messages = datagrams(kind, host)
    begun, done = time.monotonic(), 0
    while not stop.is_set():  # type: ignore[attr-defined]
        due = int((time.monotonic() - begun) * rate)
        for _ in range(min(due - done, 500)):
            try:
                sockets[done % len(sockets)].sendto(next(messages), (host, port))
            except OSError:
                pass
            done += 1
        sent.value = done  # type: ignore[attr-defined]
        time.sleep(0.002)


def _connects(rate: int, host: str, port: int, stop: object, sent: object) -> None:
    begun, done = time.monotonic(), 0
    while not stop.is_set():  # type: ignore[attr-defined]
        if done < (time.monotonic() - begun) * rate:
            with socket.socket() as sock:
                sock.settimeout(1)
                try:
                    sock.bind((f"127.8.{done >> 8 & 3}.{done & 255 or 1}", 0))
                    sock.connect((host, port))
                except OSError:
                    pass
            done += 1
            sent.value = done  # type: ignore[attr-defined]
        else:
            time.sleep(0.001)


def run(kind: str, rate: int, sources: int, seconds: int, folder: Path) -> bool:
    """Calls alone, then beside the flood; True where no call failed and memory stayed flat."""
    from calls import Bench

    office = Office(folder / kind, {})
    try:
        office.start()
        bench = Bench(office, folder / "results.jsonl")
        calm = bench.run("inbound", CALLS, CALLS * seconds)
        at_rest = memory(office.signalling)
        host, port = office.edge.server().rsplit(":", 1)
        stop, sent = multiprocessing.Event(), multiprocessing.Value("q", 0)
        attacker = multiprocessing.Process(target=flood, args=(kind, rate, sources, host, int(port), stop, sent))
        attacker.start()
        time.sleep(_FILLING)
        at_first = memory(office.signalling)
        before, sent_before = Usage.of(office), sent.value
        try:
            row = bench.run("inbound", CALLS, CALLS * seconds)
            after, reached = Usage.of(office), sent.value - sent_before
        finally:
            stop.set()
            attacker.join(10)
        grown = memory(office.signalling) - at_first
        drops = {
            key.partition('"')[2].partition('"')[0]: int(value)
            for key, value in office.edge.metrics().items()
            if key.startswith("sip_edge_guard_drops_total{") and value
        }
        took = after.at - before.at
        print(
            f"{kind}: {reached / took:.0f}/s from {sources} places beside {row.reached:.0f} calls/s: {row.failed} calls"
            f" failed (calm: {calm.failed}), {row.resent} messages repeated, CPU of a core {calm.share:.0f} % ->"
            f" {row.share:.0f} %, answer p99 {calm.answer[2]:.0f} -> {row.answer[2]:.0f} ms, memory"
            f" {(at_first - at_rest) / 1e6:+.1f} MB at once, then {grown / 1e6:+.1f} MB, dropped {drops}",
            flush=True,
        )
        return not row.failed and grown < GROWTH
    finally:
        office.stop()


def cost() -> None:
    """All gates of one normal inbound call: its datagrams through the guard, its budget, its record."""
    from config.model import Account, Budget, Rows, Seat
    from config.snapshot import Snapshot
    from dialplan.model import Source, SourceKind
    from edge.cdr.record import CallRecord
    from edge.defence.budgets import Budgets
    from edge.defence.patterns import Patterns
    from edge.transport.guard import Guard

    message = next(datagrams("options", "192.0.2.9")).replace(b"OPTIONS", b"INVITE") + b"v=0\r\n" * 60
    guard = Guard(exempt=[ip_network("203.0.113.1/32")], known={"198.51.100.1"}.__contains__)
    now = datetime(2026, 12, 1, 12, tzinfo=UTC)
    accounts = {"K1": Account("K1", budget=Budget(10**6, 10**6, 10**6, 10**6))}
    budgets = Budgets(lambda: now)
    budgets.apply(Snapshot(Rows(accounts=tuple(accounts.values()), seats=(Seat("a.mueller", "K1"),)), 1))
    patterns = Patterns(accounts.get)
    source = Source(SourceKind.SEAT, "a.mueller", "K1")
    count = 20_000
    begun = time.process_time()
    for n in range(count):
        at = n / 100
        for _ in range(4):
            guard.admit(message, "203.0.113.1", at)
            guard.admit(message, "198.51.100.1", at)
        call = str(n)
        budgets.begin(call, "K1", source)
        record = CallRecord(
            id=call, edge="e", started_at=now, answered_at=now, ended_at=now + timedelta(seconds=60),
            direction="outbound", source_kind="seat", source_name="a.mueller", account="K1", called="+493012345678",
            outcome="answered",
        )  # fmt: skip
        budgets.finished(record)
        patterns.see(record, at)
    each = (time.process_time() - begun) / count * 1e6
    print(f"all defences on the way of a call (8 datagrams, budget, record): {each:.1f} µs of CPU")


def main() -> None:
    """As asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--flood", type=int, help="messages or connections per second")
    parser.add_argument("--sources", type=int, default=800)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--cost", action="store_true")
    chosen = parser.parse_args()
    if chosen.cost:
        cost()
        return
    kinds = [chosen.kind] if chosen.kind else list(KINDS)
    with tempfile.TemporaryDirectory(prefix="flood-") as folder:
        fine = [run(k, chosen.flood or KINDS[k], chosen.sources, chosen.seconds, Path(folder)) for k in kinds]
    sys.exit(0 if all(fine) else 1)


if __name__ == "__main__":
    main()
