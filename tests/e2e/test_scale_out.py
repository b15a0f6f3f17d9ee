"""The scaled-out form (deploy/scale-out): two edges behind Kamailio, two rtpengines, one database, in namespaces.

A call through either edge reaches a phone that is registered through the other; killing an edge costs calls that are
being set up there and no others.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from peers import tones
from peers.certificates import Certificate
from peers.edge import COMMAND
from peers.fixtures import Peers, artifacts
from peers.nat import PHONE, Nat, why_not
from peers.phone import Account
from peers.pjsua import Pjsua
from peers.process import PeerProcess, poll
from peers.sipp import Sipp
from peers.switchboard import Switchboard

pytestmark = pytest.mark.sipp

ROOT = Path(__file__).parents[2]
BORDER, CARRIER, ALICE_AT, BOBBY_AT = "10.98.0.10:5060", "10.98.0.20", "10.98.0.31", "10.98.0.32"
ALICE, BOBBY, SOMEBODY = "+4922838601", "+4922838602", "+4930123456"
PHONE_PORT = 5062


class Site:
    """What deploy/scale-out/run started."""

    def __init__(self, folder: Path, described: dict[str, object], switchboard: Switchboard) -> None:
        self.folder = folder
        self.edges: list[dict[str, str]] = described["edges"]  # type: ignore[assignment]
        self.switchboard = switchboard
        self.peers: Peers
        self.back: list[subprocess.Popen[bytes]] = []
        """Edges that tests started again."""

    def command(self, edge: int, *words: str) -> str:
        """What `sip-edge WORDS...` prints at an edge."""
        there = self.edges[edge]
        done = subprocess.run(
            ["ip", "netns", "exec", there["namespace"], str(COMMAND), *words, "--config", there["config"]],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def rows(self, edge: int, what: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.command(edge, what, "--json"))
        return found

    def finished(self) -> Counter[int]:
        """Answered calls by edge, as their logs say."""
        found: Counter[int] = Counter()
        for n, edge in enumerate(self.edges):
            for line in Path(edge["log"]).read_text().splitlines():
                if '"event":"call.finished"' in line and '"outcome":"answered"' in line:
                    found[n] += 1
        return found

    def log(self, edge: int) -> list[dict[str, object]]:
        lines = Path(self.edges[edge]["log"]).read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def outcomes(self, edge: int, called: str, after: int) -> list[object]:
        """How calls to a number ended at an edge, after so many lines of its log."""
        return [
            event["outcome"]
            for event in self.log(edge)[after:]
            if event["event"] == "call.finished" and str(event["called"])[:-3] == called[:-3] and event["target_name"]
        ]

    def ended(self, edge: int, called: str, after: int) -> list[tuple[object, object]]:
        """How calls to a number of the world ended, and who hung up."""
        return [
            (event["outcome"], event["released_by"])
            for event in self.log(edge)[after:]
            if event["event"] == "call.finished" and str(event["called"])[:-3] == called[:-3]
        ]

    def lose(self, edge: int) -> None:
        """kill -9, and nobody starts it again."""
        pid = int(Path(self.edges[edge]["pid"]).read_text())
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        for process in (parent, pid):
            os.kill(process, signal.SIGKILL)

    def bring_back(self, edge: int) -> None:
        """Start it with the data folder and the address that it had."""
        there = self.edges[edge]
        script = f'"{COMMAND}" run --config "{there["config"]}" & echo $! >"{there["pid"]}"; wait $!'
        with Path(there["log"]).open("ab") as log:
            command = ["ip", "netns", "exec", there["namespace"], "sh", "-c", script]
            self.back.append(subprocess.Popen(command, stdout=log, stderr=log))

    def register(self, seat: str, address: str, edge: int) -> None:
        """The phone of a seat registers through the border, until its registration has come to this edge."""
        for _ in range(30):
            self.peers.sipp(
                "register", remote=BORDER, username=seat, password=password(seat), address=address, port=PHONE_PORT
            ).wait()
            rows = {n: self.rows(n, "registrations") for n in range(len(self.edges))}
            newest = max(
                ((str(row["expires_at"]), n) for n, found in rows.items() for row in found if row["name"] == seat),
                default=("", -1),
            )
            if newest[1] == edge:
                return
        raise AssertionError(f"no registration of {seat} came to edge {edge}")

    def forget(self, seat: str, address: str) -> None:
        """Take the registrations of a seat back at every edge: a call would be forked to a phone that is there no more,
        and the border repeat its INVITE for half a minute, to whoever takes that address next."""
        for _ in range(30):
            if not any(row["name"] == seat for n in range(len(self.edges)) for row in self.rows(n, "registrations")):
                return
            self.peers.sipp(
                "register", remote=BORDER, username=seat, password=password(seat), address=address, port=PHONE_PORT,
                contact="*", expires=0,
            ).wait()  # fmt: skip
        raise AssertionError(f"{seat} is still registered")

    def answers(self, address: str, scenario: str = "uas_answer", calls: int = 1) -> Sipp:
        return self.peers.sipp(scenario, address=address, port=PHONE_PORT, calls=calls)

    def carrier_calls(self, called: str, scenario: str = "uac_basic", **values: object) -> Sipp:
        return self.peers.sipp(
            scenario, remote=BORDER, address=CARRIER, called=called, caller=SOMEBODY, from_host="carrier.example",
            **values,
        )  # fmt: skip


def password(seat: str) -> str:
    return f"{seat}-Pass-7351"


@pytest.fixture(scope="module")
def standing(request: pytest.FixtureRequest) -> Iterator[Site]:
    with artifacts(request) as folder:
        # the path of a Unix socket may have only some 100 characters
        place = Path(tempfile.mkdtemp(prefix="so-"))
        place.chmod(0o755)
        running = PeerProcess("scale-out", [str(ROOT / "deploy/scale-out/run"), str(place)], folder / "run.log")
        switchboard = site = None
        try:
            described = json.loads(running.wait_for(r"^\{.*", 90).group())
            switchboard = Switchboard(CARRIER, 5060)
            site = Site(place, described, switchboard)
            file = folder / "provisioning.yaml"
            file.write_text(yaml.safe_dump(document()))
            site.command(0, "provision", "apply", str(file))
            for n in range(2):
                poll(lambda n=n: any(row["usable"] for row in site.rows(n, "carriers")), f"edge {n} knows the carrier")
            yield site
        finally:
            if switchboard is not None:
                switchboard.stop()
            for edge in site.back if site is not None else []:
                subprocess.run(["pkill", "-TERM", "-P", str(edge.pid)], check=False)
                edge.wait(20)
            status = running.stop(60)
            for log in place.glob("*.log"):
                shutil.copy(log, folder)
            shutil.rmtree(place, ignore_errors=True)
        left = subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout
        assert status == 0 and "so-" not in left, f"the script left something behind: {status} {left}"


@pytest.fixture
def site(standing: Site, folder: Path) -> Iterator[Site]:
    shown, key = standing.folder / "border.pem", standing.folder / "border.key"
    certificate = Certificate(shown, key, authority=shown)
    certificate.chain_and_key.write_bytes(key.read_bytes() + shown.read_bytes())
    standing.peers = Peers(folder, certificate)
    yield standing
    standing.peers.stop()


def document() -> dict[str, object]:
    return {
        "version": 1,
        "carriers": [
            {"name": "world", "mode": "static", "domain": "carrier.example", "sources": ["10.99.0.11"], "t38": "off",
             "outbound_proxy": "sip:10.99.0.11:5060;transport=udp"},
        ],
        "accounts": [{"id": "K1", "name": "Example", "status": "active", "country": "DE", "area_code": "228"}],
        "seats": [
            {"username": seat, "account": "K1", "password": password(seat), "name": seat, "extension": extension,
             "primary_number": number}
            for seat, extension, number in (("alice", "201", ALICE), ("bobby", "202", BOBBY))
        ],
        "numbers": [
            {"number": number, "account": "K1", "carrier": "world", "route": {"seat": seat}, "channels": 20}
            for seat, number in (("alice", ALICE), ("bobby", BOBBY))
        ],
    }  # fmt: skip


def test_calls_through_any_edge_reach_phones_of_any_other(site: Site) -> None:
    """Alice is registered with one edge, bobby with the other; calls from the carrier come to both edges."""
    site.register("alice", ALICE_AT, 0)
    site.register("bobby", BOBBY_AT, 1)
    before = site.finished()
    for address, called in ((ALICE_AT, ALICE), (BOBBY_AT, BOBBY)):
        answering = site.answers(address, calls=6)
        site.carrier_calls(called, calls=6, rate=5).wait()
        answering.wait()
    poll(lambda: (site.finished() - before).total() == 12, "all calls are on record")
    assert all((site.finished() - before)[n] for n in (0, 1)), "one edge had all calls"


def test_phones_call_each_other_and_the_carrier(site: Site) -> None:
    """With digest, through the border, in both directions; the border's Path and routes lead every request home."""
    site.register("alice", ALICE_AT, 0)
    calls = {"username": "bobby", "password": password("bobby"), "caller": "bobby", "address": BOBBY_AT}
    answering = site.answers(ALICE_AT)
    site.peers.sipp("uac_phone", remote=BORDER, called="201", challenge=401, **calls).wait()
    called = answering.wait()
    assert len(called.requests("BYE")) == 1
    carrier = site.peers.sipp("uas_answer", address=CARRIER)
    site.switchboard.target = (CARRIER, carrier.port)
    site.peers.sipp("uac_phone", remote=BORDER, called=SOMEBODY, challenge=401, **calls).wait()
    carrier.wait()


def test_a_phone_over_tls_registers_and_is_called(site: Site) -> None:
    """TLS ends at the border: its Path says how the phone is reached, whichever edge calls it."""
    site.forget("bobby", BOBBY_AT)
    phone = site.peers.phone("baresip", Account("bobby", password("bobby"), "10.98.0.10:5061", "tls"), address=BOBBY_AT)
    phone.wait_registered()
    calling = site.carrier_calls(BOBBY, talk_ms=500)
    phone.wait_incoming()
    phone.answer()
    calling.wait()


def test_a_killed_edge_costs_calls_in_set_up_only(site: Site) -> None:
    """kill -9 during a call: new calls go to the other edge at once, and the call is hung up in order later."""
    site.register("alice", ALICE_AT, 0)
    site.register("bobby", BOBBY_AT, 1)
    answering = site.answers(ALICE_AT)
    held = site.carrier_calls(ALICE, talk_ms=9000)
    poll(lambda: any(row["state"] == "up" for n in (0, 1) for row in site.rows(n, "calls")), "the call is up")
    (at,) = [n for n in (0, 1) if site.rows(n, "calls")]
    began = len(site.log(at))
    pid = int(Path(site.edges[at]["pid"]).read_text())
    os.kill(pid, signal.SIGKILL)
    bobby = site.answers(BOBBY_AT, calls=4)
    site.carrier_calls(BOBBY, calls=4, rate=10).wait()
    bobby.wait()
    held.wait()
    assert len(answering.wait().requests("BYE")) == 1
    poll(lambda: site.outcomes(at, ALICE, began) == ["answered"], "the call is on record, once")
    for n in (0, 1):
        assert "books.disagree" not in Path(site.edges[n]["log"]).read_text()


@pytest.fixture
def home(site: Site, folder: Path) -> Iterator[Nat]:
    """A home behind a NAT, from which nothing but the outside of the site is reached."""
    if why := why_not():
        pytest.skip(why)
    nat = Nat(folder)
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    try:
        # this machine is the network between the home and the site
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for namespace in ("so-border", "so-relay1", "so-relay2"):
            route(namespace, "replace", nat.outside)
        yield nat
    finally:
        Path("/proc/sys/net/ipv4/ip_forward").write_text(before)
        for namespace in ("so-border", "so-relay1", "so-relay2"):
            route(namespace, "delete", nat.outside)
        nat.stop()


def route(namespace: str, verb: str, address: str) -> None:
    net = f"{address.rpartition('.')[0]}.0/24"
    subprocess.run(["ip", "-n", namespace, "route", verb, net, "via", "10.98.0.1"], check=True)


def connect(caller: Pjsua, called: Pjsua, number: str) -> None:
    marks = caller.mark, called.mark
    caller.dial(number)
    called.wait_incoming(after=marks[1])
    called.answer()
    caller.wait_established(after=marks[0])
    called.wait_established(after=marks[1])


def test_a_phone_behind_a_nat(site: Site, home: Nat) -> None:
    """It registers through the border, calls and is called with sound on both sides, whatever addresses of its own it
    writes; the edge knows that a NAT hides it, and so keeps the mapping open with OPTIONS."""
    site.forget("alice", ALICE_AT)
    site.forget("bobby", BOBBY_AT)
    alice = site.peers.pjsua(
        Account("alice", password("alice"), BORDER, expires=300), tone=440, address=PHONE, inside=home.inside
    )
    bobby = site.peers.pjsua(
        Account("bobby", password("bobby"), BORDER, expires=300), tone=1010, address=BOBBY_AT
    )  # fmt: skip
    for phone in (alice, bobby):
        phone.wait_registered()
    hidden = [
        event["behind_nat"]
        for n in range(2)
        for event in site.log(n)
        if event["event"] == "registration.added" and event["seat"] == "alice" and event["user_agent"] == "pjsua2"
    ]
    assert hidden == [True]
    tones.talk(1)  # until the other edge knows where they are
    for caller, called, number in ((alice, bobby, "202"), (bobby, alice, "201")):
        connect(caller, called, number)
        tones.talk(1.5)
        mark = caller.mark
        called.hangup()
        caller.wait_closed(after=mark)
        tones.assert_heard(alice.recording, 1010)
        tones.assert_heard(bobby.recording, 440)


def test_an_edge_that_stays_away_for_a_while(site: Site) -> None:
    """Nobody starts it again at once. A call that was up keeps its sound, since that is in rtpengine; new calls go to
    the other edge, also to phones that had registered through the one that is gone. Who hangs up meanwhile is heard
    when it is there again: the other side is hung up, and the record says who did it."""
    alice = site.peers.pjsua(Account("alice", password("alice"), BORDER, expires=300), tone=440, address=ALICE_AT)
    alice.wait_registered()
    carrier = site.peers.sipp("uas_answer", address=CARRIER, timeout=80)
    site.switchboard.target = (CARRIER, carrier.port)
    alice.dial(SOMEBODY)
    alice.wait_established()
    poll(lambda: any(row["state"] == "up" for n in (0, 1) for row in site.rows(n, "calls")), "the call is up")
    (at,) = [n for n in (0, 1) if site.rows(n, "calls")]
    site.register("bobby", BOBBY_AT, at)
    began = len(site.log(at))
    tones.talk(1)  # until the other edge knows where he is
    site.lose(at)
    bobby = site.answers(BOBBY_AT, calls=4)
    site.carrier_calls(BOBBY, calls=4, rate=10).wait()
    bobby.wait()
    tones.talk(1)
    alice.hangup()
    tones.talk(0.5)
    site.bring_back(at)
    assert len(carrier.wait().requests("BYE")) == 1
    alice.wait_closed()
    tones.assert_heard(alice.recording, 440, at_least=2)  # SIPp says back what it hears
    poll(lambda: site.ended(at, SOMEBODY, began) == [("answered", "a")], "the call is on record, once")


def test_an_edge_that_drains_gets_nothing_new(site: Site) -> None:
    """`sip-edge drain`: the edge refuses, the border takes the other, and nobody notices; also not when it has ended,
    as it does once it has said for a while that it takes nothing. It stays out."""
    site.register("alice", ALICE_AT, 1)
    site.command(0, "drain")
    pid = int(Path(site.edges[0]["pid"]).read_text())
    before = site.finished()
    answering = site.answers(ALICE_AT, calls=100)  # one of which may be the OPTIONS that the other edge asks it with
    site.carrier_calls(ALICE, calls=4, rate=5).wait()
    poll(lambda: not Path(f"/proc/{pid}").exists(), "the drained edge has ended", 15)
    site.carrier_calls(ALICE, calls=4, rate=5).wait()
    answering.stop()
    poll(lambda: (site.finished() - before).total() == 8, "all calls are on record")
    assert not (site.finished() - before)[0]
    assert int(Path(site.edges[0]["pid"]).read_text()) == pid, "it was started anew"
