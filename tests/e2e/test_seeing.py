"""What the person on call sees of a working day: books, metrics in Prometheus, Homer, kept traces, a person's data.

One edge, one day of SIPp calls with each outcome; the tests look at what it left behind. They run in order.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator
from fnmatch import fnmatch

import asyncpg
import pytest
from peers.capture import CaptureServer
from peers.certificates import Certificate
from peers.fixtures import Peers, artifacts
from peers.process import poll
from peers.prometheus import Prometheus
from peers.world import PHONE_ADDRESS, SEATS, SOMEBODY, STATIC_ADDRESS, UNASSIGNED, World, password

from config.embedded import EmbeddedPostgres
from edge.retention.kept import EXEMPT_FILES, FILES, ROWS
from tests.unit.operations.monitoring import DASHBOARDS, PROMETHEUS, expressions, rules

pytestmark = pytest.mark.sipp

ALICE, BOBBY = SEATS["alice"][1], SEATS["bobby"][1]


class Day:
    """An edge that was called, with everything that watches it."""

    def __init__(self, world: World, capture: CaptureServer, prometheus: Prometheus) -> None:
        self.world = world
        self.edge = world.edge
        self.capture = capture
        self.prometheus = prometheus

    def calls(self) -> None:
        """Refused thrice, answered twice, cancelled, busy; a challenge, a stranger."""
        world = self.world
        world.carrier_calls("uac_refused", ALICE, status=480).wait()
        for _ in range(2):
            answering = world.sipp_phone("alice", "uas_answer")
            world.carrier_calls("uac_basic", ALICE).wait()
            answering.wait()
        ringing = world.sipp_phone("alice", "uas_ringing_forever")
        world.carrier_calls("uac_cancel_after_180", ALICE).wait()
        ringing.wait()
        busy = world.sipp_phone("alice", "uas_ring_and_reject", status=486)
        world.carrier_calls("uac_refused", ALICE, status=486).wait()
        busy.wait()
        world.carrier_calls("uac_refused", UNASSIGNED, status=404).wait()
        world.carrier_calls("uac_refused", BOBBY, status=480).wait()
        carrier = world.carrier_answers("uas_answer")
        world.peers.sipp(
            "uac_phone", remote=self.edge.server(), called=SOMEBODY, username="bobby", password=password("bobby"),
            caller="bobby", address=PHONE_ADDRESS, challenge=401,
        ).wait()  # fmt: skip
        carrier.wait()

    async def rows(self, query: str) -> list[asyncpg.Record]:
        async with EmbeddedPostgres(self.edge.data / "database") as server:
            connection = await asyncpg.connect(server.url)
            try:
                return list(await connection.fetch(query))
            finally:
                await connection.close()

    def holding(self, *needles: str) -> set[str]:
        """Tables (without the provisioning) and things in the data folder that hold one of these texts."""
        found = {
            table
            for table in {row.table for row in ROWS}
            for row in self.ask(f"SELECT coalesce(json_agg(t)::text, '') FROM sip_edge.{table} t")
            if any(needle in row[0] for needle in needles)
        }
        for path in self.edge.data.rglob("*"):
            place = path.relative_to(self.edge.data).parts[0]
            if path.is_file() and not any(fnmatch(place, pattern) for pattern in EXEMPT_FILES):
                content = path.read_bytes()
                if any(needle.encode() in content for needle in needles):
                    found.add(place)
        return found

    def ask(self, query: str) -> list[asyncpg.Record]:
        """Rows of the edge's database."""
        return asyncio.run(self.rows(query))


@pytest.fixture(scope="module")
def day(request: pytest.FixtureRequest, certificate: Certificate) -> Iterator[Day]:
    with artifacts(request) as folder:
        peers = Peers(folder, certificate)
        world = World(folder, certificate, peers)
        capture = CaptureServer(folder / "capture")
        world.edge.set(hep_server=f"127.0.0.1:{capture.port}", hep_capture_id=2042)
        prometheus = None
        try:
            world.start()
            prometheus = Prometheus(folder / "prometheus", PROMETHEUS / "sip-edge.rules.yml", world.edge.admin_port)
            day = Day(world, capture, prometheus)
            mark = world.edge.mark
            day.calls()
            world.edge.assert_at_rest(mark)
            yield day
            world.edge.assert_at_rest(mark)
            world.stop()
        finally:
            if prometheus is not None:
                prometheus.stop()
            capture.stop()
            world.edge.discard()
            world.switchboard.stop()
            peers.stop()


def test_the_books_balance(day: Day) -> None:
    """INVITEs in = answered + refused + cancelled + failed + up, in metrics, table and log alike."""
    poll(lambda: day.edge.metric("sip_edge_spool_records") == 0, "all records are stored")
    now = day.edge.metrics()
    ended = {key.partition('"')[2][:-2]: value for key, value in now.items() if "attempts_ended_total" in key}
    assert ended == {
        "answered": 3, "cancelled": 1, "failed": 1, "refused": 3, "challenged": 1, "ignored": 0, "stranger": 0,
        "replaces": 0,
    }  # fmt: skip
    assert now['sip_edge_attempts_total{by="invite"}'] == sum(ended.values())
    assert now["sip_edge_attempts_up"] == 0
    outcomes = {row[0]: row[1] for row in day.ask("SELECT outcome, count(*) FROM sip_edge.call_records GROUP BY 1")}
    assert outcomes == {"answered": 3, "cancelled": 1, "busy": 1, "refused": 3}
    assert len(day.edge.events("call.finished")) + len(day.edge.events("call.refused")) == 8
    assert day.ask("SELECT count(*) FROM sip_edge.refused_calls")[0][0] == 3
    assert all(value == 0 for key, value in now.items() if key.startswith("sip_edge_books_difference"))


def test_every_invariant_was_checked(day: Day) -> None:
    """All of them are exported, also those that take the database."""
    names = {key.partition('"')[2][:-2] for key in day.edge.metrics() if key.startswith("sip_edge_books_difference")}
    assert names == {
        "attempts", "closing", "outcomes", "records", "spool", "channels", "relay", "leases", "live-list", "table",
    }  # fmt: skip


def test_prometheus_loads_rules_and_answers_every_panel(day: Day) -> None:
    """A real Prometheus scrapes the edge, finds all rules healthy, and answers each query of each dashboard."""
    day.prometheus.wait_scraped()
    assert {rule["name"] for rule in day.prometheus.rules()} == {rule["alert"] for rule in rules()}
    poll(day.prometheus.rules_healthy, "rules are healthy")
    empty = []
    for dashboard in DASHBOARDS:
        for expression in expressions(dashboard):
            if not day.prometheus.query(expression.replace("[1m]", "[30s]")):
                empty.append(expression)
    # what did not happen on this day
    allowed = (
        "alarms",
        "fax",
        "mos",
        "jitter",
        "failovers",
        "guard_drops",
        "auth_failures",
        "internal_errors",
        "lost",
        "record_failures",
    )
    assert [e for e in empty if not any(word in e for word in (*allowed, "> 0", "purged", "== 1"))] == []


def test_homer_gets_every_message(day: Day) -> None:
    """Kamailio's capture module reads our HEP packets: each message of a call, with who had sent it."""
    called = str(day.ask("SELECT a_call_id FROM sip_edge.call_records WHERE outcome = 'answered'")[0][0])

    def of_call() -> list[tuple[str, str]]:
        return [(m.what, m.sender.partition(":")[0]) for m in day.capture.messages if m.call_id == called]

    poll(lambda: len(of_call()) >= 7, "the call was captured")
    us, carrier = day.edge.address, STATIC_ADDRESS
    assert of_call()[:4] == [("INVITE", carrier), ("100", us), ("180", us), ("200", us)]
    assert ("BYE", carrier) in of_call()
    assert day.edge.metrics()['sip_edge_hep_messages_total{result="dropped"}'] == 0


def test_failed_calls_are_kept_without_whole_numbers(day: Day) -> None:
    """A refused call is on disk, as ladder and capture, with numbers shortened; an answered one is not."""
    refused = [str(row[0]) for row in day.ask("SELECT id FROM sip_edge.call_records WHERE outcome = 'refused'")]
    folder = day.edge.data / "traces"
    poll(lambda: all((folder / f"{call}.pcap").exists() for call in refused), "refused calls are kept", 20)
    assert {path.stem for path in folder.iterdir()} == set(refused)
    text = (folder / f"{refused[0]}.txt").read_text()
    assert "404 Not Found" in text or "480 Temporarily Unavailable" in text
    for path in folder.iterdir():
        content = path.read_bytes()
        for number in (SOMEBODY, ALICE, BOBBY, UNASSIGNED):
            assert number.encode() not in content, path
    (magic,) = struct.unpack("<I", (folder / f"{refused[0]}.pcap").read_bytes()[:4])
    assert magic == 0xA1B2C3D4
    day.edge.restart()
    shown = day.edge.command("trace", refused[0])
    assert shown.returncode == 0 and "INVITE" in shown.stdout, shown.stderr


def test_top_shows_the_edge(day: Day) -> None:
    """`sip-edge top --once` of the running daemon."""
    shown = day.edge.command("top", "--once")
    assert shown.returncode == 0, shown.stderr
    assert "ready  calls 0 (0 up)" in shown.stdout and "network-udp" in shown.stdout


def test_a_persons_data_is_exported_and_erased(day: Day) -> None:
    """`privacy export` and `privacy erase`, over the database and the running daemon. Then nothing that the edge has,
    in a table or a file, names her or her number, but the provisioning and what says that she was erased."""
    done = day.edge.command("privacy", "export", "alice")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sorted(call["outcome"] for call in found["calls"]) == [
        "answered", "answered", "busy", "cancelled", "refused",
    ]  # fmt: skip
    assert found["seat"]["username"] == "alice" and "ha1_md5" not in found["seat"]
    (refused,) = (str(call["id"]) for call in found["calls"] if call["outcome"] == "refused")
    assert (day.edge.data / "traces" / f"{refused}.txt").exists()
    busy = day.world.sipp_phone("alice", "uas_ring_and_reject", status=486)
    day.world.carrier_calls("uac_refused", ALICE, status=486).wait()
    busy.wait()
    before = day.holding("alice", ALICE)
    assert {"call_records", "refused_calls", "registrations", "journal"} <= before, before
    done = day.edge.command("privacy", "erase", "alice", "--yes")
    assert done.returncode == 0, done.stderr
    assert "unanswered calls: 4" in done.stdout and "still provisioned" in done.stdout
    left = day.ask("SELECT target_name, called, a_call_id FROM sip_edge.call_records WHERE direction = 'inbound'")
    assert sorted(row["target_name"] for row in left if row["target_name"]) == ["bobby", "erased", "erased"]
    assert day.holding("alice", ALICE) == {"erasures"}
    assert not list((day.edge.data / "traces").glob(f"{refused}.*"))
    assert day.edge.command("trace", refused).returncode == day.edge.command("trace", "last").returncode == 1
    assert day.edge.command("privacy", "export", "nobody").returncode == 1


def test_every_file_of_the_edge_has_an_age_or_a_reason(day: Day) -> None:
    """What a running edge has in its data folder is named in the table of what is kept how long."""
    known = [file.place for file in FILES if file.place is not None]
    found = {path.name for path in day.edge.data.iterdir()}
    unknown = {name for name in found if not any(fnmatch(name, pattern) for pattern in (*known, *EXEMPT_FILES))}
    assert not unknown, f"edge/retention/kept.py does not know {unknown}"
    assert {"database", "journal", "snapshot.cache", "spool", "traces"} <= found
