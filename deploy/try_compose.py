"""Runs deploy/compose.yml, and two phones that call each other through it (deploy/try-compose).

Each line that begins with `ok` was seen; the first thing that is not so ends the run with status 1 and the edge's log.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests/e2e"))

from peers import tones  # noqa: E402
from peers.phone import Account  # noqa: E402
from peers.pjsua import Pjsua  # noqa: E402
from peers.process import PeerFailed, poll  # noqa: E402

from config.secrets import new_key  # noqa: E402

PROJECT = "sip-edge-try"
SETTINGS = """\
edge_name = "edge1"
listeners = ["udp:127.0.0.1:5060"]
media_address = "127.0.0.1"
"""
SEATS = {"alice": "201", "bobby": "202"}
DOCUMENT = {
    "version": 1,
    "accounts": [{"id": "K1", "name": "Example", "country": "DE", "area_code": "228"}],
    "seats": [
        {"username": seat, "account": "K1", "password": f"{seat}-Pass-7351", "extension": extension}
        for seat, extension in SEATS.items()
    ],
}
CONFIG = ("--config", "/etc/sip-edge/edge.toml")
BEGAN = time.monotonic()


class Composed:
    """The project as podman-compose runs it."""

    def __init__(self, folder: Path) -> None:
        (folder / "edge.toml").write_text(SETTINGS)
        (folder / "provisioning.yaml").write_text(json.dumps(DOCUMENT))
        self._files = ["-f", str(CHECKOUT / "deploy/compose.yml")]
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if 0 < hard < 262144:
            # who may not raise limits runs with those that there are
            less = folder / "less.yml"
            limits = {"nofile": hard, "nproc": 4096, "rtprio": 0}
            services = ("edge", "relay", "schema", "database")
            less.write_text(json.dumps({"services": {service: {"ulimits": limits} for service in services}}))
            self._files += ["-f", str(less)]
            (folder / "containers.conf").write_text('[containers]\ncgroups = "disabled"\n')
            os.environ["CONTAINERS_CONF"] = str(folder / "containers.conf")
            say(f"    the limit of file descriptors is {hard} here, not 262144")
        if not Path("/run/systemd/system").exists():
            os.environ["DISABLE_HC_SYSTEMD"] = "true"
            say("    no systemd here, so podman does not run health checks by itself")
        os.environ |= {
            "POSTGRES_PASSWORD": "Db-Pass-1",
            "SIP_EDGE_SECRET_KEY": new_key(),
            "SIP_EDGE_SETTINGS": str(folder / "edge.toml"),
            "SIP_EDGE_PROVISIONING": str(folder / "provisioning.yaml"),
        }

    def compose(self, *words: str) -> str:
        return ran(composer(), "-p", PROJECT, *self._files, *words)

    def name(self, service: str) -> str:
        return f"{PROJECT}_{service}_1"

    def edge(self, *words: str) -> str:
        return ran("podman", "exec", self.name("edge"), "sip-edge", *words, *CONFIG)

    def ready(self) -> bool:
        try:
            done = subprocess.run(
                ["podman", "exec", self.name("edge"), "python", "-c", READY], capture_output=True, timeout=20
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def calls(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.edge("calls", "--json"))
        return found

    def query(self, sql: str) -> str:
        return ran("podman", "exec", self.name("database"), "psql", "-U", "sip_edge", "-At", "-c", sql).strip()

    def log(self) -> str:
        done = subprocess.run(["podman", "logs", "--tail=30", self.name("edge")], capture_output=True, text=True)
        return done.stdout + done.stderr


def composer() -> str:
    """podman-compose; Debian 12's own (1.0.3) knows neither a host's network nor defaults of variables."""
    beside = Path(sys.executable).with_name("podman-compose")
    found = str(beside) if beside.exists() else shutil.which("podman-compose") or ""
    said = ran(found, "--version") if found else ""
    version = re.search(r"podman-compose\D*(\d+)\.(\d+)\.(\d+)", said)
    if version is None or tuple(map(int, version.groups())) < (1, 0, 6):
        sys.exit("podman-compose 1.0.6 or newer is missing: .venv/bin/pip install podman-compose")
    return found


READY = "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"


def main() -> None:
    """All of it."""
    folder = Path(tempfile.mkdtemp(prefix="try-compose-"))
    composed = Composed(folder)
    phones: list[Pjsua] = []
    try:
        composed.compose("up", "-d")
        poll(composed.ready, "the edge takes calls", 90)
        ok("compose up: the schema was made, the edge takes calls")
        said = ran("podman", "exec", composed.name("edge"), "sh", "-c", "id -u; grep -E 'Cap(Eff|Bnd)' /proc/1/status")
        assert said.split() == ["900", "CapEff:", "0" * 16, "CapBnd:", "0" * 16], said
        ok("the edge runs as uid 900 without a capability, its files are read-only")
        done = subprocess.run(["podman", "healthcheck", "run", composed.name("edge")], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        ok("its health check passes")
        composed.edge("provision", "apply", "/etc/sip-edge/provisioning.yaml")
        for seat, tone, address in (("alice", 440, "127.0.0.31"), ("bobby", 1010, "127.0.0.32")):
            account = Account(seat, f"{seat}-Pass-7351", "127.0.0.1:5060", expires=300)
            phones.append(Pjsua(account, folder / seat, tone=tone, address=address))
            phones[-1].wait_registered()
        alice, bobby = phones
        heard(composed, alice, bobby)
        poll(lambda: composed.query(ANSWERED) == "1", "the record is in the database")
        ok("a call through it, heard on both sides; its record is in the database")

        call(alice, bobby)
        (before,) = composed.calls()
        os.kill(int(ran("podman", "inspect", "-f", "{{.State.Pid}}", composed.name("edge"))), signal.SIGKILL)
        poll(composed.ready, "the edge's container was started again", 60)
        (after,) = composed.calls()
        assert (after["id"], after["state"]) == (before["id"], "up"), after
        ran("podman", "kill", "--signal=USR1", composed.name("edge"))
        state = ("podman", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", composed.name("edge"))
        poll(lambda: ran(*state).strip() == "exited 0", "the edge has left", 20)
        composed.compose("up", "-d", "edge")
        poll(composed.ready, "the edge takes calls", 60)
        assert [row["id"] for row in composed.calls()] == [before["id"]]
        tones.talk(1)
        mark = alice.mark
        bobby.hangup()
        alice.wait_closed(after=mark)
        tones.assert_heard(alice.recording, 1010, at_least=2)
        poll(lambda: composed.query(RECORDS) == "2", "its record is in the database")
        ok("kill -9 of the edge's container under a call: started again; SIGUSR1 and up: the call goes on")
        call(alice, bobby)
        composed.compose("down", "-t", "30")
        for phone in phones:
            phone.wait_closed(timeout=20)
        composed.compose("up", "-d")
        poll(composed.ready, "the edge takes calls", 90)
        poll(lambda: composed.query(RECORDS) == "3", "all records are there")
        registered = {str(row["name"]) for row in json.loads(composed.edge("registrations", "--json"))}
        assert registered == set(SEATS), registered
        ok("compose down under a call and up again: hung up in order; customers, registrations and 3 records are there")
        heard(composed, alice, bobby)
        poll(lambda: composed.query(RECORDS) == "4", "its record is there")
        ok("a call after that, without anybody having registered again")
    except (PeerFailed, AssertionError, subprocess.TimeoutExpired) as error:
        say(f"NOT SO: {error}\n{composed.log()}\nlogs: {folder}")
        sys.exit(1)
    finally:
        for phone in phones:
            phone.stop()
        composed.compose("down", "-v", "-t", "5")
    say("all of it was seen")


RECORDS = "select count(*) from sip_edge.call_records"
ANSWERED = f"{RECORDS} where outcome = 'answered' and released_by = 'a'"


def call(alice: Pjsua, bobby: Pjsua) -> None:
    marks = alice.mark, bobby.mark
    alice.dial(SEATS["bobby"])
    bobby.wait_incoming(after=marks[1])
    bobby.answer()
    alice.wait_established(after=marks[0])
    bobby.wait_established(after=marks[1])


def heard(composed: Composed, alice: Pjsua, bobby: Pjsua) -> None:
    call(alice, bobby)
    assert [row["state"] for row in composed.calls()] == ["up"]
    tones.talk(2)
    mark = bobby.mark
    alice.hangup()
    bobby.wait_closed(after=mark)
    tones.assert_heard(alice.recording, 1010)
    tones.assert_heard(bobby.recording, 440)


def ok(what: str) -> None:
    say(f"ok  {time.monotonic() - BEGAN:5.1f}  {what}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def ran(*command: str) -> str:
    """What a command prints that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode != 0:
        raise PeerFailed(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
