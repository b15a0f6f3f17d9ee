"""The nights of docs/runbook.md for real: each fault is caused on a running edge, and what the page says must appear.

python bench/nights.py            all of them, some ten minutes
python bench/nights.py 3 8 10     these
python bench/nights.py --quiet 600    no fault: so many seconds of calls, in which nothing may be told and no alert fire

A real Prometheus scrapes the edge with the rules of deploy/prometheus, whose times run 15 times as fast. For every
night it prints which alerts fired and which events were logged, and for how long the edge said so after the remedy. It
ends with status 1 where one did not come or did not end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
from load import CARRIER, PHONES, ROOT, Office, PeerFailed, Sipp, pause, poll

sys.path.insert(0, str(ROOT))

from peers.prometheus import Prometheus
from peers.raw import Raw

from config.embedded import EmbeddedPostgres
from tests.unit.operations.monitoring import DASHBOARDS, expressions

FASTER = 15
_TIMES = re.compile(r"(?<=\[)(\d+)([mh])(?=\])|(?<=for: )(\d+)([smh])\b|(?<=offset )(\d+)([mh])")
_COPIED = re.compile(r"(?:Via|From|To|Call-ID|CSeq):")


def faster(rules: str) -> str:
    """The rules with all their times divided."""

    def shorter(match: re.Match[str]) -> str:
        number, unit = [group for group in match.groups() if group]
        return f"{max(1, int(number) * {'s': 1, 'm': 60, 'h': 3600}[unit] // FASTER)}s"

    return _TIMES.sub(shorter, rules)


class Site:
    """An office on a small disk of its own, with a database that others use too, and Prometheus beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = folder / "disk"
        self.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=0755", "tmpfs", str(self.disk)], check=True)
        self.database = EmbeddedPostgres(folder / "pg")
        self.url = asyncio.run(self.database.start())
        self.office = Office(folder, {"media_timeout": 10, "answer_timeout": 30}, database_url=self.url)
        self.edge = self.office.edge
        shutil.rmtree(self.edge.data)
        self.edge.data = self.disk / "edge"
        self.edge.set(data_dir=str(self.edge.data))
        self.sipps: list[Sipp] = []
        self.prometheus: Prometheus

    def start(self) -> None:
        assert self.edge.command("migrate", "up").returncode == 0
        self.office.start()
        rules = self.folder / "rules.yml"
        rules.write_text(faster((ROOT / "deploy/prometheus/sip-edge.rules.yml").read_text()))
        self.prometheus = Prometheus(self.folder / "prometheus", rules, self.edge.admin_port)
        self.prometheus.wait_scraped()
        self.calls(2)

    def calls(self, rate: float, talk_ms: int = 3000) -> None:
        """Calls both ways from now on."""
        self.sipps.append(Sipp(self.office, "answers", PHONES, self.office.phone_port, pause_ms=100))
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind((CARRIER, self.office.carrier_port))
            free.close()
            self.sipps.append(Sipp(self.office, "answers", CARRIER, self.office.carrier_port, pause_ms=100))
        for scenario, address, lines in (
            ("carrier_calls", CARRIER, self.office.called),
            ("phone_calls", PHONES, self.office.seats),
        ):
            self.sipps.append(
                Sipp(self.office, scenario, address, 0, calls=1_000_000, rate=rate, lines=lines, pause_ms=talk_ms,
                     delays=False, patience=40)
            )  # fmt: skip

    def stop_calls(self) -> None:
        for sipp in reversed(self.sipps):
            sipp.stop()
        self.sipps.clear()

    def stop(self) -> None:
        self.stop_calls()
        if hasattr(self, "prometheus"):
            self.prometheus.stop()
        with suppress(PeerFailed, AssertionError):
            self.office.stop()
        asyncio.run(self.database.stop())
        subprocess.run(["umount", "-l", str(self.disk)], check=False)

    def firing(self) -> set[str]:
        """Alerts that fire now."""
        return {str(one["metric"]["alertname"]) for one in self.prometheus.query('ALERTS{alertstate="firing"}')}  # type: ignore[index]

    def sql(self, *statements: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.url)
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())

    @contextmanager
    def holding(self, lock: str) -> Iterator[None]:
        """A transaction that somebody forgot to end."""
        ended = threading.Event()

        async def hold() -> None:
            connection = await asyncpg.connect(self.url)
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(lock)
            await asyncio.to_thread(ended.wait)
            await transaction.rollback()
            await connection.close()

        thread = threading.Thread(target=lambda: asyncio.run(hold()), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(10)

    def relays(self) -> list[int]:
        return self.edge.relay_pids()


Fault = Callable[["Site"], "Iterator[None]"]


@contextmanager
def silent_edge(site: Site) -> Iterator[None]:
    """1. It runs and is silent; what comes meanwhile fills its socket."""
    os.kill(site.office.signalling, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(site.office.signalling, signal.SIGCONT)


@contextmanager
def lost_datagrams(site: Site) -> Iterator[None]:
    """10. It stands still for a moment in a flood: the kernel throws away what has no room."""
    os.kill(site.office.signalling, signal.SIGSTOP)
    try:
        with Raw(site.edge.server(), address="127.0.0.99") as stranger:
            for _ in range(30000):
                with suppress(BlockingIOError, ConnectionRefusedError):
                    stranger.send(b"OPTIONS sip:x SIP/2.0\r\n" + b"x" * 700)
    finally:
        os.kill(site.office.signalling, signal.SIGCONT)
    yield


@contextmanager
def relay_away(site: Site) -> Iterator[None]:
    """2. The relay hangs."""
    stopped = site.relays()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def relay_died(site: Site) -> Iterator[None]:
    """2. The relay process is killed; it comes back by itself."""
    for pid in site.relays():
        os.kill(pid, signal.SIGKILL)
    yield


@contextmanager
def database_away(site: Site) -> Iterator[None]:
    """3. The server is stopped."""
    asyncio.run(site.database.stop())
    try:
        yield
    finally:
        asyncio.run(site.database.start())


@contextmanager
def database_locked(site: Site) -> Iterator[None]:
    """3. A portal's long transaction holds what channels are counted in."""
    with site.holding("LOCK TABLE sip_edge.channel_usage IN ACCESS EXCLUSIVE MODE"):
        yield


@contextmanager
def carrier_away(site: Site) -> Iterator[None]:
    """4. A carrier that we register with answers nothing."""
    site.sql(
        "INSERT INTO sip_edge.carriers (name, mode, domain, username, outbound_proxy, t38) VALUES"
        " ('lost', 'register', 'lost.example', 'u', 'sip:127.0.0.98:5060;transport=udp', 'off')"
    )
    try:
        yield
    finally:
        site.sql("DELETE FROM sip_edge.carriers WHERE name = 'lost'")


@contextmanager
def refusing_carrier(site: Site) -> Iterator[None]:
    """5. The only carrier is away: calls out are refused."""
    answering = next(s for s in site.sipps if s.scenario == "answers" and s.folder.name.endswith("-1"))
    answering.process.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        answering.process.process.send_signal(signal.SIGCONT)


@contextmanager
def failing_carrier(site: Site) -> Iterator[None]:
    """5. The only carrier answers each call with 500."""
    site.stop_calls()
    ended = threading.Event()
    answering = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    answering.bind((CARRIER, site.office.carrier_port))
    answering.settimeout(0.5)

    def answer() -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                data, source = answering.recvfrom(65536)
                status = {b"INV": "500 Server Internal Error", b"OPT": "200 OK"}.get(data[:3])
                if status is not None:
                    copied = [line for line in data.decode().split("\r\n") if _COPIED.match(line)]
                    lines = [f"{line};tag=x" if line.startswith("To:") else line for line in copied]
                    answering.sendto("\r\n".join([f"SIP/2.0 {status}", *lines, "", ""]).encode(), source)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    site.calls(2)
    try:
        yield
    finally:
        site.stop_calls()
        ended.set()
        thread.join(5)
        answering.close()
        site.calls(2)


@contextmanager
def silent_calls(site: Site) -> Iterator[None]:
    """6. Nobody's sound arrives: calls end after `media_timeout`."""
    site.stop_calls()
    site.calls(2, talk_ms=30_000)
    try:
        yield
    finally:
        site.stop_calls()
        site.calls(2)


@contextmanager
def phones_gone(site: Site) -> Iterator[None]:
    """7. Most phones unregister at once, as after a power cut with a clean shutdown of their switch."""
    site.sql("UPDATE sip_edge.accounts SET status = 'suspended', suspension = 'lock'")
    try:
        yield
    finally:
        site.sql("UPDATE sip_edge.accounts SET status = 'active'")
        pause(2)
        site.office.register()


@contextmanager
def attack(site: Site) -> Iterator[None]:
    """8. Somebody guesses passwords, over many addresses."""
    ended = threading.Event()

    def guess() -> None:
        number = 0
        while not ended.wait(0.02):
            number += 1
            with Raw(site.edge.server(), address=f"127.1.{number // 200 % 200}.{number % 200 + 1}") as guesser:
                guesser.send(register(guesser.port, number, ""))
                challenge = guesser.final(1)
                said = re.search(r'realm="([^"]*)".*nonce="([^"]*)"', challenge.text if challenge is not None else "")
                if said is not None:
                    guesser.send(register(guesser.port, number, f'realm="{said[1]}",nonce="{said[2]}"'))
                    guesser.final(1)

    thread = threading.Thread(target=guess, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)


def register(port: int, number: int, challenge: str) -> str:
    """A REGISTER of desk01 from somewhere else, with a wrong digest where there is a `challenge` to answer."""
    digest = ""
    if challenge:
        answer = f'username="desk01",uri="sip:127.0.0.1",response="{"0" * 32}",algorithm=MD5'
        digest = f"Authorization: Digest {answer},{challenge}\r\n"
    branch = f"z9hG4bK{number}{len(digest)}"
    return (
        f"REGISTER sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch={branch};rport\r\n"
        f"From: <sip:desk01@127.0.0.1>;tag=g{number}\r\nTo: <sip:desk01@127.0.0.1>\r\nCall-ID: guess-{number}\r\n"
        f"CSeq: {1 + bool(digest)} REGISTER\r\nContact: <sip:desk01@127.0.0.1:9>\r\n{digest}Max-Forwards: 70\r\n"
        "Content-Length: 0\r\n\r\n"
    )


@contextmanager
def full_disk(site: Site) -> Iterator[None]:
    """9. Something else filled the disk."""
    big = site.disk / "big"
    with big.open("wb") as file, suppress(OSError):
        while True:
            file.write(b"x" * 65536)
            file.flush()
    with big.open("ab", 0) as file, suppress(OSError):
        while True:
            file.write(b"x")
    try:
        yield
    finally:
        big.unlink()


@contextmanager
def bad_record(site: Site) -> Iterator[None]:
    """9. The database refuses records."""
    site.sql("ALTER TABLE sip_edge.call_records ADD CONSTRAINT wrong CHECK (direction <> 'inbound') NOT VALID")
    try:
        yield
    finally:
        site.sql("ALTER TABLE sip_edge.call_records DROP CONSTRAINT wrong")


@contextmanager
def slow_edge(site: Site) -> Iterator[None]:
    """10. Another process has the cores: the edge runs in pieces."""
    ended = threading.Event()

    def hold() -> None:
        while not ended.wait(0.2):
            os.kill(site.office.signalling, signal.SIGSTOP)
            ended.wait(0.15)
            os.kill(site.office.signalling, signal.SIGCONT)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)
        os.kill(site.office.signalling, signal.SIGCONT)


@contextmanager
def lost_live_calls(site: Site) -> Iterator[None]:
    """10. A row that nobody has a call for, again and again: the live list does not agree."""
    with written_over_and_over(
        site,
        "INSERT INTO sip_edge.live_calls (id, instance, edge, state, started_at, direction, source_kind, source_name)"
        " SELECT 'ghost', instance, name, 'up', now(), 'inbound', 'carrier', 'static' FROM sip_edge.edges"
        " ON CONFLICT DO NOTHING",
    ):
        yield
    site.sql("DELETE FROM sip_edge.live_calls WHERE id = 'ghost'")


@contextmanager
def left_lease(site: Site) -> Iterator[None]:
    """10. A lease of a call that is no more, left over in the database."""
    with written_over_and_over(
        site,
        "INSERT INTO sip_edge.channel_leases (instance, call_id, level, key, direction, units)"
        " SELECT instance, 'ghost', 'account', 'K1', 'total', 1 FROM sip_edge.edges ON CONFLICT DO NOTHING",
    ):
        yield
    site.sql("DELETE FROM sip_edge.channel_leases WHERE call_id = 'ghost'")


@contextmanager
def missing_records(site: Site) -> Iterator[None]:
    """10. Records that were stored are gone."""
    with written_over_and_over(site, "DELETE FROM sip_edge.call_records"):
        yield


@contextmanager
def written_over_and_over(site: Site, statement: str) -> Iterator[None]:
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(1):
            site.sql(statement)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(10)


NIGHTS = (
    (1, silent_edge, {"SipEdgeDown"}, set(), 30),
    (2, relay_away, {"SipEdgeRelayDown"}, {"relay.unreachable"}, 60),
    (2, relay_died, set(), {"relay.died", "relay.lost", "relay.connected"}, 30),
    (3, database_away, {"SipEdgeDatabaseDown"}, {"store.lost", "records.database_away", "channels.counting_alone"}, 60),
    (3, database_locked, {"SipEdgeCountsAlone"}, {"channels.counting_alone"}, 90),
    (4, carrier_away, {"SipEdgeCarrierDown"}, set(), 60),
    (5, refusing_carrier, {"SipEdgeRefusesCalls"}, {"carrier.state", "call.refused"}, 120),
    (5, failing_carrier, {"SipEdgeCallsFail"}, set(), 120),
    (6, silent_calls, {"SipEdgeSilentCalls"}, set(), 60),
    (7, phones_gone, {"SipEdgeRegistrationsLost"}, {"registration.dropped"}, 60),
    (8, attack, {"SipEdgeUnderAttack", "SipEdgeAlarm"}, {"authentication.failed", "alarm.raised"}, 90),
    (9, full_disk, {"SipEdgeRecordsWait"}, {"records.spool_failed", "journal.failed"}, 90),
    (9, bad_record, {"SipEdgeRecordsLost"}, {"records.refused_by_database"}, 60),
    (10, slow_edge, {"SipEdgeOverloaded"}, set(), 90),
    (10, lost_datagrams, {"SipEdgeLosesDatagrams"}, {"listener.dropped"}, 60),
    (10, lost_live_calls, {"SipEdgeBooksDisagree"}, {"books.disagree"}, 120),
    (10, left_lease, {"SipEdgeBooksDisagree"}, {"books.disagree"}, 120),
    (10, missing_records, {"SipEdgeBooksDisagree"}, {"books.disagree"}, 120),
)
"""Number in the runbook, fault, alerts and events that must come, seconds that they have for it."""

OVER = {
    "database_away": {"records.database_back", "channels.shared", "store.connected"},
    "database_locked": {"channels.shared"},
    "full_disk": {"journal.works"},
    "lost_live_calls": {"books.balanced"},
    "left_lease": {"books.balanced"},
}
"""Events that say that it is over, by fault."""


def night(
    site: Site, number: int, fault: Callable[..., object], alerts: set[str], events: set[str], patience: float
) -> bool:
    """One night; prints a line."""
    mark, began = site.edge.mark, time.monotonic()
    seen: set[str] = set()
    told: set[str] = set()

    def logged() -> set[str]:
        return {str(event["event"]) for event in site.edge.events(after=mark)}

    def come() -> bool:
        seen.update(site.firing())
        told.update(logged())
        return alerts <= seen and events <= told

    ok = True
    with fault(site):  # type: ignore[attr-defined]
        try:
            poll(come, "", patience)
        except PeerFailed:
            ok = False
        took = time.monotonic() - began
    over = time.monotonic()
    try:
        poll(lambda: not site.firing() and OVER.get(fault.__name__, set()) <= logged(), "", 150)
        after = f"quiet after {time.monotonic() - over:.0f} s"
    except PeerFailed:
        left = site.firing() | (OVER.get(fault.__name__, set()) - logged())
        ok, after = False, f"still firing, or not logged: {', '.join(sorted(left))}"
    what = (fault.__doc__ or "").partition(". ")[2].rstrip(".")
    print(f"{'PASS' if ok else 'FAIL'} night {number}, {fault.__name__.replace('_', ' ')}: {what}")
    print(f"     alerts after {took:.0f} s: {', '.join(sorted(seen)) or 'none'}; {after}")
    worth = {
        str(e["event"]) for e in site.edge.events(after=mark) if e["level"] in ("warning", "error")
    }  # fmt: skip
    print(f"     warnings and errors: {', '.join(sorted(worth)) or 'none'}", flush=True)
    if missing := (alerts - seen) | (events - told):
        print(f"     missing: {', '.join(sorted(missing))}", flush=True)
    return ok


def quiet(site: Site, seconds: float) -> bool:
    """Calls without a fault."""
    mark = site.edge.mark
    until = time.monotonic() + seconds
    fired: set[str] = set()
    while time.monotonic() < until:
        fired |= {str(one["metric"]["alertname"]) for one in site.prometheus.query("ALERTS")}  # type: ignore[index]
        pause(1)
    told = [e for e in site.edge.events(after=mark) if e["level"] in ("warning", "error")]
    calls = site.edge.metric("sip_edge_calls_total")
    print(f"{'FAIL' if fired or told else 'PASS'} {seconds:.0f} s, {calls:.0f} calls: alerts pending or firing: "
          f"{', '.join(sorted(fired)) or 'none'}; warnings and errors: {len(told)}")  # fmt: skip
    for event in told[:10]:
        print(f"     {event}")
    return not fired and not told


def panels(site: Site) -> None:
    """Ask every query of every dashboard, over the minutes of this run; prints those without an answer."""
    empty = [
        expression
        for dashboard in DASHBOARDS
        for expression in expressions(dashboard)
        if not site.prometheus.query(expression.replace("[1m]", "[10m]"))
    ]
    print(f"panels: {sum(len(expressions(d)) for d in DASHBOARDS)} queries, {len(empty)} without an answer")
    for expression in empty:
        print(f"     {expression}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("nights", nargs="*", type=int, help="numbers as in the runbook; default: all")
    parser.add_argument("--quiet", type=float, metavar="SECONDS", help="no fault")
    parser.add_argument("--only", help="one fault, by the name that is printed")
    wanted = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nights-"))
    folder.chmod(0o755)
    site = Site(folder)
    good = True
    try:
        site.start()
        if wanted.quiet:
            good = quiet(site, wanted.quiet)
        else:
            pause(65)  # what compares with an earlier time needs one
            for number, fault, alerts, events, patience in NIGHTS:
                if wanted.nights and number not in wanted.nights:
                    continue
                if wanted.only and wanted.only.replace(" ", "_") != fault.__name__:
                    continue
                good &= night(site, number, fault, alerts, events, patience)
        panels(site)
    finally:
        site.stop()
        if good:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"logs are in {folder}")
    sys.exit(not good)


if __name__ == "__main__":
    main()
