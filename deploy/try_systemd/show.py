"""Boots the system that `image.py` made, installs the edge in it as docs/operations.md says, and shows what its unit
promises. Each line that begins with `ok` was seen; the first thing that is not so ends the run with status 1 and the
end of the journal.

Runs in a network of its own (deploy/try-systemd); phones and carrier are outside the container, on the same loopback.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tests/e2e"))

from peers import tones  # noqa: E402
from peers.phone import Account  # noqa: E402
from peers.pjsua import Pjsua  # noqa: E402
from peers.process import PeerFailed, PeerProcess, poll  # noqa: E402

COMMAND = "/opt/sip-edge/.venv/bin/sip-edge"
SETTINGS = """\
edge_name = "edge1"
listeners = ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"]
media_address = "127.0.0.1"
"""
ALICE, BOBBY = ("alice", "alice-Pass-7351"), ("bobby", "bobby-Pass-7351")
DOCUMENT = {
    "version": 1,
    "accounts": [{"id": "K1", "name": "Example", "country": "DE", "area_code": "228"}],
    "seats": [
        {"username": name, "account": "K1", "password": password, "extension": extension}
        for (name, password), extension in ((ALICE, "201"), (BOBBY, "202"))
    ],
}
CALLS_WANTED = 10_000
DESCRIPTORS_OF_A_CALL = 8


class Machine:
    """The booted container."""

    def __init__(self, root: Path, logs: Path) -> None:
        self.logs = logs
        alone = [] if Path("/run/systemd/system").exists() else ["--register=no", "--keep-unit"]
        self.console = PeerProcess(
            "systemd-nspawn",
            ["systemd-nspawn", "--quiet", f"--directory={root}", "--volatile=overlay", "--boot", "--console=pipe",
             "--link-journal=no", *alone],
            logs / "console.log",
        )  # fmt: skip
        poll(lambda: self._leader() != "" or not self.console.running, "the container has a first process")
        self._in = ["nsenter", "--target", self._leader(), "--all", "--"]
        poll(
            lambda: self.ask("systemctl", "is-system-running").strip() in ("running", "degraded"), "systemd is up", 120
        )

    def _leader(self) -> str:
        found = subprocess.run(
            ["pgrep", "--parent", str(self.console.process.pid)], capture_output=True, text=True, check=False
        )
        return found.stdout.strip()

    def ask(self, *command: str) -> str:
        """What a command in the container prints."""
        return self.done(*command).stdout

    def done(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._in, *command], input=stdin, capture_output=True, text=True, timeout=120, check=False
        )

    def run(self, *command: str, stdin: str = "") -> str:
        """Run a command in the container, which must succeed."""
        done = self.done(*command, stdin=stdin)
        if done.returncode != 0:
            raise PeerFailed(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def unit(self, name: str) -> str:
        """A property of the unit."""
        return self.ask("systemctl", "show", "--value", "--property", name, "sip-edge").strip()

    def journal(self, *options: str) -> str:
        return self.ask("journalctl", "--no-pager", "--unit", "sip-edge", "--output", "cat", *options)

    def edge(self, *words: str) -> str:
        return self.run(COMMAND, *words, "--config", "/etc/sip-edge/edge.toml")

    def rows(self, what: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.edge(what, "--json"))
        return found

    def processes(self) -> dict[int, str]:
        """Those of the unit's control group."""
        group = self.unit("ControlGroup")
        listed = self.ask("sh", "-c", f"cat /sys/fs/cgroup{group}/cgroup.procs 2>/dev/null").split()
        shown = self.ask("ps", "-o", "pid=,args=", "-p", ",".join(listed)) if listed else ""
        return {int(line.split()[0]): line.split(None, 1)[1] for line in shown.splitlines()}

    def relays(self) -> set[int]:
        return {pid for pid, args in self.processes().items() if "media.relay" in args or "relay" in args.split()}

    def off(self) -> None:
        self.done("systemctl", "--no-block", "poweroff")
        with contextlib.suppress(PeerFailed):
            self.console.wait(60)
        self.console.stop()


def ok(what: str) -> None:
    say(f"ok  {time.monotonic() - BEGAN:5.1f}  {what}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


BEGAN = time.monotonic()


def main() -> None:
    """All of it."""
    logs = Path(tempfile.mkdtemp(prefix="try-systemd-"))
    machine = Machine(Path(sys.argv[1]).resolve() / "root", logs)
    try:
        install(machine)
        looks(machine)
        with phones(logs) as (alice, bobby):
            under_a_call(machine, alice, bobby)
            drained(machine, alice, bobby)
            stopped(machine, alice, bobby)
    except (PeerFailed, AssertionError) as error:
        say(f"NOT SO: {error}\n{machine.journal('--lines=40')}\nlogs: {logs}")
        sys.exit(1)
    finally:
        machine.off()
    shutil.rmtree(logs, ignore_errors=True)
    say("all of it was seen")


def install(machine: Machine) -> None:
    """As docs/operations.md says, with Debian's PostgreSQL."""
    ok(f"booted: {machine.ask('systemctl', '--version').splitlines()[0]}")
    machine.run("runuser", "-u", "postgres", "--", "psql", "-qc", "create role sip_edge login password 'Db-Pass-1'")
    machine.run("runuser", "-u", "postgres", "--", "createdb", "-O", "sip_edge", "sip_edge")
    machine.run(
        "useradd", "--system", "--home-dir", "/var/lib/sip-edge", "--shell", "/usr/sbin/nologin", "sip-edge"
    )  # fmt: skip
    machine.run(
        "install", "-D", "-m", "644", "/opt/sip-edge/sip-edge.service", "/etc/systemd/system/sip-edge.service"
    )  # fmt: skip
    write(machine, "/etc/sip-edge/edge.toml", SETTINGS, "640")
    machine.run("chgrp", "sip-edge", "/etc/sip-edge/edge.toml")
    key = machine.run(COMMAND, "provision", "new-key").strip().splitlines()[-1]
    secrets = f"DATABASE_URL=postgresql://sip_edge:Db-Pass-1@127.0.0.1/sip_edge\nSIP_EDGE_SECRET_KEY={key}\n"
    write(machine, "/etc/sip-edge/environment", secrets, "600")
    as_edge(machine, "migrate", "up")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "enable", "--now", "sip-edge")
    assert machine.unit("ActiveState") == "active" and machine.unit("StatusText") == "edge1 takes calls"
    ok(f"started: systemctl returns when the edge has said READY ({machine.unit('StatusText')})")
    write(machine, "/etc/sip-edge/provisioning.yaml", json.dumps(DOCUMENT), "644")
    as_edge(machine, "provision", "apply", "/etc/sip-edge/provisioning.yaml")


def as_edge(machine: Machine, *words: str) -> None:
    """A command of the edge with its environment, as its user."""
    options = ("--quiet", "--pipe", "--wait", "--uid=sip-edge", "--property=EnvironmentFile=/etc/sip-edge/environment",
               "--setenv=SIP_EDGE_DATA_DIR=/var/lib/sip-edge")  # fmt: skip
    machine.run("systemd-run", *options, COMMAND, *words, "--config", "/etc/sip-edge/edge.toml")


def write(machine: Machine, path: str, text: str, mode: str) -> None:
    machine.run("sh", "-c", f"mkdir -p $(dirname {path}) && touch {path} && chmod {mode} {path} && cat >{path}",
                stdin=text)  # fmt: skip


def looks(machine: Machine) -> None:
    """Rights, limits, score, journal."""
    verified = machine.done("systemd-analyze", "verify", "--man=no", "/etc/systemd/system/sip-edge.service")
    assert verified.returncode == 0 and not verified.stderr.strip(), verified.stderr
    score = machine.ask("systemd-analyze", "security", "--no-pager", "sip-edge").strip().splitlines()[-1]
    level = re.search(r"level[^:]*: ([\d.]+)", score)
    assert level is not None and float(level[1]) <= 1.5, score
    ok(f"systemd-analyze: verify has no complaint; security: {level[1]} of 10")
    status = machine.ask("cat", f"/proc/{machine.unit('MainPID')}/status")
    rights = dict(re.findall(r"^(Cap\w+|NoNewPrivs|Seccomp):\s+(\w+)$", status, re.MULTILINE))
    assert all(not int(value, 16) for name, value in rights.items() if name.startswith("Cap")), rights
    assert rights["NoNewPrivs"] == "1" and rights["Seccomp"] == "2", rights
    ok("no capability at all (Inh Prm Eff Bnd Amb are 0), no new privileges, system calls filtered")
    wanted = CALLS_WANTED * DESCRIPTORS_OF_A_CALL
    assert int(machine.unit("LimitNOFILE")) >= wanted
    limits = machine.ask("cat", f"/proc/{machine.unit('MainPID')}/limits")
    files = re.search(r"Max open files\s+\d+\s+(\d+)", limits)
    assert files is not None
    given = f"the unit asks for {machine.unit('LimitNOFILE')} descriptors, {CALLS_WANTED} calls need {wanted}"
    ok(given + ("" if int(files[1]) >= wanted else f" (this machine's kernel gives {files[1]} only)"))
    assert machine.relays(), machine.processes()
    ok(f"media relays within the unit: {len(machine.relays())} of {len(machine.processes())} processes")
    lines = [line for line in machine.journal().splitlines() if line.startswith("{")]
    assert any(json.loads(line)["event"] == "edge.started" for line in lines)
    ok(f"journal: {len(lines)} lines of JSON; journalctl -p warning shows "
       f"{len([line for line in machine.journal('-p', 'warning').splitlines() if line.startswith('{')])}")  # fmt: skip


@contextlib.contextmanager
def phones(logs: Path) -> Iterator[tuple[Pjsua, Pjsua]]:
    """One over TCP, one over UDP, registered."""
    pair = (
        Pjsua(Account(*ALICE, "127.0.0.1:5060", "tcp", expires=300), logs / "alice", tone=440, address="127.0.0.31"),
        Pjsua(Account(*BOBBY, "127.0.0.1:5060", "udp", expires=300), logs / "bobby", tone=1010, address="127.0.0.32"),
    )
    try:
        for phone in pair:
            phone.wait_registered()
        yield pair
    finally:
        for phone in pair:
            phone.stop()


def call(alice: Pjsua, bobby: Pjsua) -> None:
    marks = alice.mark, bobby.mark
    alice.dial("202")
    bobby.wait_incoming(after=marks[1])
    bobby.answer()
    alice.wait_established(after=marks[0])
    bobby.wait_established(after=marks[1])


def under_a_call(machine: Machine, alice: Pjsua, bobby: Pjsua) -> None:
    """Everything that may happen to the daemon while two phones talk."""
    call(alice, bobby)
    relays = machine.relays()
    (up,) = machine.rows("calls")

    def goes_on(what: str) -> None:
        poll(lambda: machine.unit("ActiveState") == "active", "the unit is active", 40)
        (now,) = machine.rows("calls")
        assert (now["id"], now["state"]) == (up["id"], "up"), now
        assert machine.relays() == relays, "the relay is another"
        tones.talk(2)
        ok(f"{what}; the call goes on")

    first = machine.unit("MainPID")
    machine.run("sed", "-i", "$a log_level = 'debug'", "/etc/sip-edge/edge.toml")
    machine.run("systemctl", "reload", "sip-edge")
    assert "log_level" in machine.journal("--lines=20")
    machine.run("sed", "-i", "$a no_such_setting = 1", "/etc/sip-edge/edge.toml")
    refused = machine.done("systemctl", "reload", "sip-edge")
    assert refused.returncode != 0 and "no_such_setting" in machine.journal("--lines=20")
    write(machine, "/etc/sip-edge/edge.toml", SETTINGS, "640")
    machine.run("systemctl", "reload", "sip-edge")
    assert machine.unit("MainPID") == first
    goes_on("systemctl reload: took a new setting, refused a wrong one by its name")

    began = time.monotonic()
    machine.run("kill", "-STOP", first)
    poll(lambda: machine.unit("NRestarts") == "1" and machine.unit("ActiveState") == "active", "it was restarted", 60)
    took = time.monotonic() - began
    assert "watchdog" in machine.journal("--lines=200").lower() or machine.unit("MainPID") != first
    goes_on(f"SIGSTOP: the watchdog killed it and systemd started it again, {took:.1f} s in all")

    began, second = time.monotonic(), machine.unit("MainPID")
    machine.run("kill", "-KILL", second)
    poll(lambda: machine.unit("NRestarts") == "2" and machine.unit("ActiveState") == "active", "it was restarted", 60)
    goes_on(f"kill -9: started again after {time.monotonic() - began:.1f} s")

    began, third = time.monotonic(), machine.unit("MainPID")
    machine.run("systemctl", "restart", "sip-edge")
    took = time.monotonic() - began
    assert machine.unit("MainPID") != third and '"event":"edge.leaving","room":"app","calls":1' in machine.journal()
    goes_on(f"systemctl restart: another process after {took:.1f} s, told to leave its calls (SIGUSR1)")

    poll(lambda: any(row["name"] == "alice" for row in machine.rows("registrations")), "alice is registered", 5)
    with socket.create_connection(("127.0.0.1", 5060), timeout=10) as kept:
        assert b" 200 " in asked(kept, 1)
        fourth = machine.unit("MainPID")
        wheel = machine.ask("sh", "-c", "ls /opt/wheels/sip_edge-*.whl").strip()
        machine.run(
            "/opt/sip-edge/.venv/bin/pip", "install", "-q", "--no-index", "--no-deps", "--force-reinstall", wheel
        )
        began = time.monotonic()
        fed = machine.unit("WatchdogTimestampMonotonic")
        started = machine.journal().count('"event":"edge.started"')
        machine.edge("upgrade")
        poll(lambda: machine.journal().count('"event":"edge.started"') > started, "the new program is up", 20)
        took = time.monotonic() - began
        assert b" 200 " in asked(kept, 2)
    assert machine.unit("MainPID") == fourth and machine.unit("NRestarts") in ("0", "2")
    poll(lambda: machine.unit("WatchdogTimestampMonotonic") != fed, "the watchdog is fed by the new program", 15)
    goes_on(
        f"sip-edge upgrade: {took:.1f} s, the same main PID, a TCP connection answered before and after, watchdog fed"
    )

    mark = bobby.mark
    alice.hangup()
    bobby.wait_closed(after=mark)
    for phone, tone in ((alice, 1010), (bobby, 440)):
        tones.assert_heard(phone.recording, tone, at_least=8)
    stored(machine, str(up["id"]))
    ok("hung up: both heard each other's tone all the time; one record, answered, released by a")


def asked(connection: socket.socket, number: int) -> bytes:
    """The answer to an OPTIONS."""
    connection.sendall(
        f"OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKo{number}\r\nMax-Forwards: 70\r\n"
        f"From: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: kept\r\nCSeq: {number} OPTIONS\r\n"
        "Content-Length: 0\r\n\r\n".encode()
    )
    return connection.recv(4096)


def stored(machine: Machine, call_id: str) -> None:
    query = f"select outcome, released_by from sip_edge.call_records where id::text = '{call_id}'"

    def found() -> str:
        return machine.ask("runuser", "-u", "postgres", "--", "psql", "-At", "-c", query, "sip_edge").strip()

    poll(lambda: found() != "", "the record is in the database")
    assert found() == "answered|a", found()


def drained(machine: Machine, alice: Pjsua, bobby: Pjsua) -> None:
    """It ends after its last call, and stays ended."""
    call(alice, bobby)
    machine.edge("drain")
    tones.talk(1)
    assert machine.unit("ActiveState") == "active"
    mark = bobby.mark
    alice.hangup()
    bobby.wait_closed(after=mark)
    poll(lambda: machine.unit("ActiveState") == "inactive", "the drained edge has ended", 30)
    threading.Event().wait(3)
    assert machine.unit("ActiveState") == "inactive" and machine.unit("Result") == "success"
    assert not machine.processes(), machine.processes()
    ok("sip-edge drain: ended after its last call with status 0; systemd leaves it so, no process is left")
    machine.run("systemctl", "start", "sip-edge")


def stopped(machine: Machine, alice: Pjsua, bobby: Pjsua) -> None:
    """`systemctl stop` hangs up both sides and leaves nothing."""
    call(alice, bobby)
    marks = alice.mark, bobby.mark
    began = time.monotonic()
    machine.run("systemctl", "stop", "sip-edge")
    took = time.monotonic() - began
    alice.wait_closed(after=marks[0])
    bobby.wait_closed(after=marks[1])
    assert machine.unit("Result") == "success" and not machine.processes(), machine.processes()
    ok(f"systemctl stop: {took:.1f} s, both phones were hung up, no process is left")


if __name__ == "__main__":
    main()
