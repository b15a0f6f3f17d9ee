"""PostgreSQL is away under load: calls go on, and each has its record once and in order when it is back.

python bench/outage.py                               an hour without PostgreSQL, 10 calls/s
python bench/outage.py --minutes 2 --rate 25         as long as there is time for
python bench/outage.py --folder results              keep each look as a line of outage.jsonl, and logs

Half of the calls come from the carrier, half go out from phones that have to show their password; some thirty more are
long. PostgreSQL gets SIGQUIT, which ends it at once, and so recovers from its log when it is started again. Status 1 at
the end: a call failed or was refused, a record is missing, double or not in order, channels are counted wrongly, or a
phone could not register.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import asyncpg
from load import CARRIER, PHONES, Office, Sipp, pause, poll
from soak import HEADING, Sample, look

from config.embedded import EmbeddedPostgres

RING_MS = 200
TALK_MS = 800
LONG_CALLS = 30
"""Up at any moment beside the others."""
BEFORE = AFTER = 60.0
"""Seconds of calls before PostgreSQL goes and after it is back."""


class Database:
    """A PostgreSQL of the bench's own, which it ends and starts."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedPostgres(folder)
        asyncio.run(self._server.start())
        asyncio.run(self._execute("CREATE DATABASE outage"))

    @property
    def url(self) -> str:
        return self._server.url.replace("/postgres?", "/outage?")

    def end(self) -> None:
        """End it as a crash of it would."""
        handle = os.pidfd_open(int((self._server.folder / "postmaster.pid").read_text().split()[0]))
        signal.pidfd_send_signal(handle, signal.SIGQUIT)
        poll(lambda: not (self._server.folder / "postmaster.pid").exists(), "PostgreSQL has ended", 60)
        os.close(handle)
        asyncio.run(self._server.stop())

    def begin(self) -> None:
        """Start it again."""
        asyncio.run(self._server.start())

    def stop(self) -> None:
        asyncio.run(self._server.stop())

    def ask(self, query: str) -> list[asyncpg.Record]:
        """Rows of a query."""

        async def run() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.url)
            try:
                return list(await connection.fetch(query))
            finally:
                await connection.close()

        return asyncio.run(run())

    async def _execute(self, query: str) -> None:
        connection = await asyncpg.connect(self._server.url)
        await connection.execute(query)
        await connection.close()


class Run:
    """One outage under load."""

    def __init__(self, office: Office, database: Database, results: Path) -> None:
        self.office = office
        self.database = database
        self.faults: list[str] = []
        self._results = results
        self._began = time.monotonic()
        self.samples: list[Sample] = []

    def expect(self, right: bool, what: str) -> None:
        """Note that `what` is not so, where it is not."""
        print(("ok      " if right else "WRONG   ") + what, flush=True)
        if not right:
            self.faults.append(what)

    def sample(self) -> None:
        """Look at everything that may grow, and have a phone register."""
        self.samples.append(look(self.office, self._began))
        with self._results.open("a") as file:
            file.write(json.dumps(asdict(self.samples[-1])) + "\n")
        print(self.samples[-1], flush=True)
        sipp = Sipp(
            self.office, "register", PHONES, self.office.probe_port, calls=1, rate=1, lines=self.office.probe_seat
        )
        try:
            sipp.finish(30)
        finally:
            sipp.stop()
        if sipp.totals().failed:
            self.faults.append(f"a phone could not register: see {sipp.folder}")

    def wait(self, seconds: float, every: float) -> None:
        """Let so much time pass, with looks."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            pause(min(every, left))
            self.sample()

    def go(self, minutes: float, rate: float, every: float) -> None:
        """All of it; what was wrong is in `faults`."""
        office, edge = self.office, self.office.edge
        seconds = BEFORE + minutes * 60 + AFTER
        # shorter than half the sessions' interval, which SIPp does not refresh
        long = min(600.0, seconds / 2)
        each = round(rate * seconds / 2)
        with ExitStack() as stack:

            def sipp(scenario: str, address: str, port: int = 0, talk_ms: int = TALK_MS, **more: object) -> Sipp:
                one = Sipp(office, scenario, address, port, pause_ms=talk_ms, **more)  # type: ignore[arg-type]
                stack.callback(one.stop)
                return one

            sipp("answers", PHONES, office.phone_port, RING_MS)
            sipp("answers", CARRIER, office.carrier_port, RING_MS)
            callers = [
                sipp("carrier_calls", CARRIER, calls=each, rate=rate / 2, lines=office.called),
                sipp("phone_calls", PHONES, calls=each, rate=rate / 2, lines=office.seats),
            ]
            lasting = sipp(
                "carrier_calls", CARRIER, talk_ms=int(long * 1000), calls=round(LONG_CALLS * (seconds + 30) / long),
                rate=LONG_CALLS / long, lines=office.called,
            )  # fmt: skip
            print(HEADING)
            self.wait(BEFORE, every)
            self.database.end()
            gone = time.monotonic()
            print("PostgreSQL has ended")
            poll(lambda: edge.metric("sip_edge_database_up") == 0, "the edge notices", 30)
            self.wait(minutes * 60 - (time.monotonic() - gone), every)
            spool = sum(path.stat().st_size for path in (edge.data / "spool").iterdir())
            waiting = int(edge.metric("sip_edge_spool_records"))
            away = time.monotonic() - gone
            self.database.begin()
            back = time.monotonic()
            print(f"PostgreSQL is back after {away:.0f} s; {waiting} records wait, {spool / 2**20:.1f} MiB on disk")
            # while calls come, some record is always on its way
            poll(lambda: edge.metric("sip_edge_spool_records") < rate * 10, "the records are stored", 300)
            print(f"they were stored {time.monotonic() - back:.1f} s later")
            poll(lambda: edge.metric("sip_edge_channels_shared") == 1, "channels are counted together again", 60)
            print(f"channels were counted together again {time.monotonic() - back:.1f} s later")
            self.wait(AFTER - (time.monotonic() - back), every)
            for caller in callers:
                caller.finish(120)
            pause(3)
            self.channels("while long calls are up")
            lasting.finish(long + 120)
            office.at_rest(120)
            pause(5)
            self.sample()
            self.channels("when no call is up")
            totals = [caller.totals() for caller in (*callers, lasting)]
            placed, failed = sum(t.calls for t in totals), sum(t.failed for t in totals)
        self.expect(failed == 0, f"{placed} calls succeeded, {failed} failed")
        self.records(placed + failed)
        metrics = edge.metrics()
        for name in ("sip_edge_records_lost_total", "sip_edge_internal_errors_total"):
            lost = sum(value for key, value in metrics.items() if key.partition("{")[0] == name)
            self.expect(lost == 0, f"{name} {lost:g}")
        wrong = {k: v for k, v in metrics.items() if k.startswith("sip_edge_books_disagreements_total") and v}
        self.expect(not wrong, f"books agree {wrong or ''}")
        first, least = self.samples[0].mib, min(s.mib for s in self.samples)
        print(
            f"memory: {first:.1f} MiB at first, at most {max(s.mib for s in self.samples):.1f}, at the end "
            f"{self.samples[-1].mib:.1f} (least {least:.1f}); relay {self.samples[0].relay_mib:.1f} to "
            f"{self.samples[-1].relay_mib:.1f}"
        )

    def channels(self, when: str) -> None:
        """The shared counts are what the live calls hold; some call may just be ending, so it looks more than once."""
        for _ in range(20):
            right, what = self._channels()
            if right:
                break
            pause(0.5)
        self.expect(right, f"channels {when}: {what}")

    def _channels(self) -> tuple[bool, str]:
        ask = self.database.ask
        live = {str(row["id"]) for row in self.office.edge.rows("calls")}
        leased = {str(row[0]).partition("/")[0] for row in ask("SELECT DISTINCT call_id FROM sip_edge.channel_leases")}
        ((used,),) = ask("SELECT coalesce(sum(used), 0) FROM sip_edge.channel_usage")
        ((units,),) = ask("SELECT coalesce(sum(units), 0) FROM sip_edge.channel_leases")
        once = "SELECT max(units) AS n FROM sip_edge.channel_leases GROUP BY call_id, level"
        ((by_level,),) = ask(f"SELECT coalesce(sum(n), 0) FROM ({once}) AS o")  # as the metric counts
        shown = {str(row[0]) for row in ask("SELECT id FROM sip_edge.live_calls")}
        held = int(self.office.edge.metric("sip_edge_channels_in_use"))
        return leased == live == shown and used == units and by_level == held, (
            f"{len(live)} calls up, {len(leased)} with leases, {len(shown)} in live_calls; {used} channels counted, "
            f"{units} leased; each call once at each level: {by_level} leased, {held} held by the edge"
        )

    def records(self, placed: int) -> None:
        """Each call's record is there once, in the order in which the calls ended, and no call was refused."""
        finished = [
            match[1]
            for log in sorted(self.office.edge.folder.glob("edge-*.log"))
            for line in log.read_text("utf-8", "replace").splitlines()
            if '"call.finished"' in line and (match := re.search(r'"call":"([^"]+)"', line))
        ]
        rows = self.database.ask(
            "SELECT id::text, outcome FROM sip_edge.call_records ORDER BY xmin::text::bigint, ctid"
        )
        stored = [str(row[0]) for row in rows]
        self.expect(len(set(stored)) == len(stored) == placed, f"{len(stored)} records of {placed} calls")
        self.expect([_plain(one) for one in stored] == [_plain(one) for one in finished], "they are in order")
        self.expect({row[1] for row in rows} == {"answered"}, "each says that its call was answered")
        (refused,) = self.database.ask("SELECT count(*) FROM sip_edge.refused_calls")
        self.expect(refused[0] == 0, f"{refused[0]} calls were refused")


def _plain(call: str) -> str:
    return call.replace("-", "")


def main() -> int:
    """Exit status: 0 where all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="without PostgreSQL (default %(default)s)")
    parser.add_argument("--rate", type=float, default=10, help="calls per second (default %(default)s)")
    parser.add_argument("--every", type=float, default=60, help="seconds between looks (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="keep looks and logs here")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outage-")))
        folder.mkdir(parents=True, exist_ok=True)
        # the path of a Unix socket may have only some 100 characters
        short = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="out-")))
        short.chmod(0o755)
        database = Database(short / "pg")
        stack.callback(database.stop)
        # SIPp sends no sound, and what is silent for long is ended
        settings = {"trace_megabytes": 8, "media_timeout": 1800}
        office = Office(folder, settings, database_url=database.url)
        stack.callback(office.stop)
        migrated = office.edge.command("migrate", "up")
        if migrated.returncode:
            raise SystemExit(migrated.stdout + migrated.stderr)
        office.start()
        run = Run(office, database, folder / "outage.jsonl")
        run.go(asked.minutes, asked.rate, asked.every)
    print("all went well" if not run.faults else "\n".join(["wrong:", *run.faults]))
    return 1 if run.faults else 0


if __name__ == "__main__":
    sys.exit(main())
