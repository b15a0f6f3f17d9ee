"""What an edge stands on goes away while calls come: it is named, counted and survived, and the books balance after it.

Faults are real: the database's connections are cut, the relay is killed, the disk is a small one that is full, name
servers and the mail server are gone, the wall clock jumps.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import asyncpg
import pytest
from peers.edge import Edge
from peers.fixtures import Peers, artifacts
from peers.ports import take_port
from peers.process import PeerProcess, poll
from peers.sipp import Sipp
from peers.switchboard import Switchboard

from config.embedded import EmbeddedPostgres

pytestmark = pytest.mark.sipp

CARRIER, PHONE, CALLER = "127.0.0.71", "127.0.0.72", "+4930123456"
NUMBER, OTHER_NUMBER, NAMED_NUMBER = "+4922838601", "+4922838602", "+4922838603"
NAMED, NAME_SERVER = "127.0.0.74", "127.0.0.53"
PASSWORD = "alice-Pass-7351"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


class Wire:
    """A Unix socket in front of PostgreSQL's: what a network is between an edge and its database. It can be cut."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        self._server = f"{server}/.s.PGSQL.5432"
        self._path = str(folder / ".s.PGSQL.5432")
        self._open: list[socket.socket] = []
        self._listening: socket.socket | None = None
        self.mend()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/outages?host={self.folder}"

    def mend(self) -> None:
        """Take connections (again)."""
        listening = self._listening = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        listening.bind(self._path)
        listening.listen(100)
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def cut(self) -> None:
        """End every connection at once, and take none."""
        if self._listening is not None:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        os.unlink(self._path)
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                near, _ = listening.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._server)
            except OSError:
                return
            self._open.append(near)
            threading.Thread(target=_pump, args=(near, far), daemon=True).start()


def _pump(near: socket.socket, far: socket.socket) -> None:
    """Both ways, until either ends; both are closed then."""
    with near, far, contextlib.suppress(OSError):
        while True:
            for source in select.select([near, far], [], [])[0]:
                data = source.recv(65536)
                if not data:
                    return
                (far if source is near else near).sendall(data)


class FakedEdge(Edge):
    """An edge whose wall clock a test moves."""

    clock: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            **super().environment,
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


class Site:
    """An edge with a seat, a carrier and a database that can be cut off."""

    def __init__(self, folder: Path, database: EmbeddedPostgres, wire: Wire, disk: Path) -> None:
        self.folder = folder
        self.database = database
        self.wire = wire
        self.disk = disk
        self.peers: Peers
        self.edge: FakedEdge

    def begin(self, edge: FakedEdge, peers: Peers) -> None:
        self.edge, self.peers = edge, peers
        assert edge.command("migrate", "up").returncode == 0
        edge.provision(document())
        edge.start()

    def dial(
        self, scenario: str, seat: str, number: str, answering: str, calls: int = 1, rate: int = 10, **values: object
    ) -> tuple[Sipp, Sipp]:
        """The carrier calls a seat, whose phone registers before; who calls and who answers."""
        port = take_port()
        common = {"username": seat, "password": PASSWORD, "address": PHONE, "port": port}
        self.peers.sipp("register", remote=self.edge.server(), **common, contact="*", expires=0).wait()
        self.peers.sipp("register", remote=self.edge.server(), **common).wait()
        phone = self.peers.sipp(answering, address=PHONE, port=port, calls=calls, echo=False)
        caller = self.peers.sipp(
            scenario, remote=self.edge.server(), address=CARRIER, called=number, caller=CALLER, calls=calls, rate=rate,
            echo=False, from_host="static.example", **values,
        )  # fmt: skip
        return caller, phone

    def calls(self, count: int, rate: int = 10) -> tuple[Sipp, Sipp]:
        """The carrier calls alice so often; who calls and who answers."""
        return self.dial("uac_basic", "alice", NUMBER, "uas_answer", count, rate, talk_ms=20)

    def ask(self, query: str) -> list[asyncpg.Record]:
        async def run() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.database.url.replace("/postgres?", "/outages?"))
            try:
                return list(await connection.fetch(query))
            finally:
                await connection.close()

        return asyncio.run(run())

    def records(self) -> list[str]:
        """Ids of call records in the order in which they were stored."""
        return [row[0] for row in self.ask("SELECT id FROM sip_edge.call_records ORDER BY xmin::text::bigint, ctid")]

    def finished(self, after: int) -> list[str]:
        return [str(event["call"]) for event in self.edge.events("call.finished", after)]


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with artifacts(request) as folder, contextlib.ExitStack() as stack:
        disk = folder / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0755", "tmpfs", str(disk)], check=True)
        stack.callback(subprocess.run, ["umount", "-l", str(disk)], check=False)
        # the path of a Unix socket may have only some 100 characters
        short = Path(stack.enter_context(_short_folder()))
        database = EmbeddedPostgres(short / "pg")
        asyncio.run(database.start())
        stack.callback(lambda: asyncio.run(database.stop()))
        asyncio.run(_make_database(database.url))
        (short / "wire").mkdir()
        wire = Wire(short / "wire", database.url.partition("host=")[2])
        site = Site(folder, database, wire, disk)
        started = Peers(folder, None)  # type: ignore[arg-type]
        assert FAKETIME.exists(), "faketime is missing: scripts/install-debian test"
        edge = FakedEdge(folder / "edge", database_url=wire.url)
        edge.clock = folder / "clock"
        edge.clock.write_text("+0\n")
        edge.data = disk / "edge"
        edge.set(data_dir=str(edge.data), dns_servers=[NAME_SERVER])
        try:
            site.begin(edge, started)
            yield site
            edge.stop()
        finally:
            edge.kill()
            started.stop()


@contextlib.contextmanager
def _short_folder() -> Iterator[str]:
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="out-")
    os.chmod(folder, 0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _make_database(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE DATABASE outages")
    await connection.close()


def document(domain: str = "named.example") -> Mapping[str, object]:
    return {
        "version": 1,
        "carriers": [
            {"name": "static", "mode": "static", "domain": "static.example", "sources": [CARRIER], "t38": "off",
             "outbound_proxy": f"sip:{CARRIER}:5099;transport=udp"},
            {"name": "lost", "mode": "register", "domain": "carrier.invalid", "username": "u", "password": "p-7351-aB",
             "priority": 90, "t38": "off"},
            {"name": "named", "mode": "static", "domain": domain, "sources": [NAMED], "t38": "off",
             "outbound_proxy": "sip:proxy.named.example:5099;transport=udp"},
        ],
        "accounts": [{"id": "K1", "name": "Example", "status": "active", "country": "DE", "area_code": "228"}],
        "seats": [{"username": "alice", "account": "K1", "password": PASSWORD, "name": "Alice", "extension": "201",
                   "primary_number": NUMBER},
                  {"username": "bobby", "account": "K1", "password": PASSWORD, "name": "Bobby", "extension": "202",
                   "primary_number": OTHER_NUMBER},
                  {"username": "carol", "account": "K1", "password": PASSWORD, "name": "Carol", "extension": "203",
                   "primary_number": NAMED_NUMBER}],
        "numbers": [{"number": number, "account": "K1", "carrier": carrier, "route": {"seat": seat}, "channels": 100}
                    for number, seat, carrier in ((NUMBER, "alice", "static"), (OTHER_NUMBER, "bobby", "static"),
                                                  (NAMED_NUMBER, "carol", "named"))],
    }  # fmt: skip


def test_database_is_cut_off_under_load(site: Site) -> None:
    """Calls go on, records wait on disk and come once, in order; the log names it, the metric counts it."""
    edge, mark = site.edge, site.edge.mark
    calling, answering = site.calls(80)
    poll(lambda: len(site.finished(mark)) >= 20, "calls are going on", 30)
    site.wire.cut()
    poll(lambda: edge.metric("sip_edge_database_up") == 0, "the edge notices", 20)
    poll(lambda: edge.metric("sip_edge_spool_records") > 0, "records wait", 20)
    calling.wait()
    answering.wait()
    assert edge.metric("sip_edge_record_failures_total") > 0
    for event in ("records.database_away", "channels.counting_alone"):
        poll(lambda event=event: bool(edge.events(event, mark)), f"{event} is named")
    site.wire.mend()
    poll(lambda: edge.metric("sip_edge_spool_records") == 0, "records are stored", 40)
    poll(lambda: bool(edge.events("records.database_back", mark)), "the return is named")
    poll(lambda: len(site.finished(mark)) == 80, "all calls were finished")
    finished = site.finished(mark)
    assert site.records()[-80:] == finished
    poll(
        lambda: edge.metric("sip_edge_database_up") == 1 and edge.metric("sip_edge_channels_shared") == 1, "all is back"
    )
    edge.assert_at_rest(mark, allowed="store.lost")


def test_disk_is_full(site: Site) -> None:
    """Records go straight to the database; nothing else of a call needs the disk. Both gone, they wait in memory. The
    log names the folders and what to do; with room again calls are written down again."""
    edge, mark = site.edge, site.edge.mark
    filler = site.disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 65536)
    try:
        before = len(site.records())
        calling, answering = site.calls(20)
        calling.wait()
        answering.wait()
        poll(lambda: len(site.records()) == before + 20, "records are in the database", 20)
        for event, folder in (("records.spool_failed", "spool"), ("journal.failed", "journal")):
            (named, *_) = edge.events(event, mark)
            assert named["folder"] == str(edge.data / folder) and "make room" in str(named["remedy"])
        assert edge.metrics()['sip_edge_record_failures_total{where="spool"}'] > 0
        site.wire.cut()
        poll(lambda: edge.metric("sip_edge_database_up") == 0, "the edge notices", 20)
        calling, answering = site.calls(20)
        calling.wait()
        answering.wait()
    finally:
        filler.unlink()
        site.wire.mend()
    poll(lambda: len(site.records()) == before + 40, "all records are in the database", 40)
    assert site.records()[before:] == site.finished(mark)
    assert edge.metric("sip_edge_records_lost_total") == 0
    poll(lambda: bool(edge.events("journal.works", mark)), "calls are written down again")
    poll(lambda: edge.metric("sip_edge_database_up") == 1, "the database is back", 20)
    edge.assert_at_rest(mark, allowed="store.lost|journal.failed|spool_failed|cache_not_written|traces.not_kept")


def test_relay_is_killed(site: Site) -> None:
    """Its calls end at once with a cause and a record, those that ring too; it comes back by itself, new calls work
    within seconds, and nothing is held for what is gone."""
    edge, mark = site.edge, site.edge.mark
    before = len(site.records())
    talking, phone = site.dial("uac_until_bye", "alice", NUMBER, "uas_answer", calls=3)
    ringing, ringer = site.dial("uac_refused", "bobby", OTHER_NUMBER, "uas_ringing_forever", status=503)
    poll(lambda: sorted(r["state"] for r in edge.rows("calls")) == ["trying", "up", "up", "up"], "calls are up")
    ringing.wait_for(status=180)
    assert edge.metric("sip_edge_channels_in_use") > 0
    timeouts = edge.metric("sip_edge_media_timeouts_total")
    pids = edge.relay_pids()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    for peer in (talking, phone, ringing, ringer):
        peer.wait(10)
    poll(lambda: len(edge.events("relay.lost", mark)) == len(pids), "the loss is named", 10)
    assert sum(int(str(event["sessions"])) for event in edge.events("relay.lost", mark)) == 4
    poll(lambda: len(site.finished(mark)) == 4, "the calls are over")
    ends = [(e["outcome"], e["released_by"], e["reason"]) for e in edge.events("call.finished", mark)]
    why = "the relay process ended and took the media of this call with it"
    assert sorted(ends) == [("answered", "edge", why)] * 3 + [("failed", "edge", why)], ends
    assert edge.metric("sip_edge_media_timeouts_total") == timeouts
    bye = talking.trace.requests("BYE", "in")[0]
    assert "cause=41" in str(bye.header("Reason"))
    poll(lambda: len(site.records()) == before + 4, "each has its record")
    poll(lambda: edge.metric("sip_edge_relay_up") == 1, "the relay is back", 20)
    calling, answering = site.calls(10)
    calling.wait()
    answering.wait()
    assert time.monotonic() - killed < 20
    assert set(edge.relay_pids()).isdisjoint(pids)
    poll(lambda: len(site.finished(mark)) == 14, "all calls were finished")
    edge.assert_at_rest(mark, allowed="relay.lost|relay.died")


def test_names_do_not_resolve(site: Site) -> None:
    """A carrier whose name nobody knows is named, and costs the others nothing."""
    edge = site.edge
    rows = {str(row["name"]): row for row in edge.rows("carriers")}
    assert not rows["lost"]["usable"] and "carrier.invalid" in str(rows["lost"]["last_answer"])
    assert rows["static"]["usable"] or rows["static"]["state"] == "down"
    assert edge.metrics()['sip_edge_carrier_up{carrier="lost"}'] == 0
    assert any(event["carrier"] == "lost" for event in edge.events("carrier.state"))


def test_the_name_server_goes_and_comes(site: Site) -> None:
    """A carrier by name is called with its last addresses while no server answers; changes are named and counted."""
    edge, mark = site.edge, site.edge.mark
    board = Switchboard(NAMED, 5099)
    server = None

    def out() -> Sipp:
        return site.peers.sipp(
            "uac_phone", remote=edge.server(), address=PHONE, called="+493099887766", caller="carol", username="carol",
            password=PASSWORD, challenge=401, talk_ms=20, echo=False,
        )  # fmt: skip

    try:
        assert any(e["name"] == "proxy.named.example" and not e["known"] for e in edge.events("dns.no_answer"))
        assert edge.metric("sip_edge_dns_failures_total") > 0
        server = name_server(site)
        edge.provision(document("anew.example"))
        poll(lambda: bool(edge.events("dns.answers_again", mark)), "the server's return is named")
        poll(lambda: resolved(site), "the carrier's name is known")
        server.stop()
        failures = edge.metric("sip_edge_dns_failures_total")
        time.sleep(5.5)  # the shortest life of an answer
        mark = edge.mark
        edge.provision(document("again.example"))
        poll(lambda: bool(edge.events("dns.no_answer", mark)), "the outage is named")
        assert all(e["known"] for e in edge.events("dns.no_answer", mark) if e["name"] == "proxy.named.example")
        assert edge.metric("sip_edge_dns_failures_total") > failures
        answering = site.peers.sipp("uas_answer", address=NAMED, echo=False)
        board.target = (NAMED, answering.port)
        out().wait()
        answering.wait()
        edge.assert_at_rest(mark)
    finally:
        board.stop()
        if server is not None:
            server.stop()


def name_server(site: Site) -> PeerProcess:
    """dnsmasq, which knows the carrier's proxy and nothing else."""
    words = ["--keep-in-foreground", "--no-resolv", "--no-hosts", "--pid-file=", "--conf-file=/dev/null", "--user=root"]
    words += ["--bind-interfaces", f"--listen-address={NAME_SERVER}", f"--address=/proxy.named.example/{NAMED}"]
    return PeerProcess("dnsmasq", ["dnsmasq", *words], site.folder / "dnsmasq.log")


def resolved(site: Site) -> bool:
    (row,) = (row for row in site.edge.rows("carriers") if row["name"] == "named")
    return bool(row["usable"]) and row["state"] == "up"


def test_the_wall_clock_jumps_during_a_call(site: Site) -> None:
    """An hour forward and back again while a call is up: it goes on with its channels, its length is right, the phone
    is registered for as long as before, and each step is named and counted."""
    edge, mark = site.edge, site.edge.mark
    began = time.monotonic()
    calling, answering = site.dial("uac_basic", "alice", NUMBER, "uas_answer", talk_ms=5000)
    poll(lambda: [row["state"] for row in edge.rows("calls")] == ["up"], "the call is up")
    held = edge.metric("sip_edge_channels_in_use")
    assert held > 0
    for count, offset in enumerate(("+3600", "+0"), 1):
        edge.clock.write_text(f"{offset}\n")
        poll(lambda count=count: len(edge.events("clock.stepped", mark)) == count, "the step is named")
        assert [row["state"] for row in edge.rows("calls")] == ["up"], "steps took longer than the call"
        assert edge.metric("sip_edge_channels_in_use") == held and edge.metric("sip_edge_channels_shared") == 1
        assert edge.registered("alice"), "the phone is still registered"
    calling.wait()
    answering.wait()
    lasted = time.monotonic() - began
    steps = [round(float(str(event["seconds"])) / 60) for event in edge.events("clock.stepped", mark)]
    assert steps == [60, -60] and edge.metric("sip_edge_clock_steps_total") == 2
    poll(lambda: bool(edge.events("call.finished", mark)), "the call is over")
    (finished,) = edge.events("call.finished", mark)
    for figure in ("talk_s", "total_s", "answer_s"):
        assert 0 <= float(str(finished[figure])) <= lasted + 1, finished
    edge.assert_at_rest(mark)
