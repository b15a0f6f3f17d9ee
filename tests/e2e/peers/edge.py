"""The edge itself, as an operator starts it: `sip-edge run` with a settings file, provisioned by a document."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import yaml

from peers.certificates import Certificate
from peers.ports import take_port, take_ports
from peers.process import PeerFailed, PeerProcess, poll

COMMAND = Path(sys.executable).with_name("sip-edge")

Document = Mapping[str, object]
"""A provisioning document as it would be written in YAML."""


class Edge:
    """One running edge in `folder`, with a database of its own in there unless `database_url` names one.

    `settings` are lines of its settings file over those of `_settings`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "127.0.0.1",
        certificate: Certificate | None = None,
        database_url: str = "",
        settings: Mapping[str, object] | None = None,
        media_ports: int = 200,
    ) -> None:
        self.folder = folder
        self.address = address
        self.port = take_ports(2)
        self.tls_port = self.port + 1
        self.admin_port = take_port()
        self.config = folder / "edge.toml"
        # Sockets lie in the data folder, and the path of a Unix socket may have only some 100 characters.
        self.data = Path(tempfile.mkdtemp(prefix="edge-"))
        self.program = [str(COMMAND)]
        """What is started as the daemon; benches measure others."""
        self.also: dict[str, str] = {}
        """More of its environment, from the next start."""
        self._database_url = database_url
        self._process: PeerProcess | None = None
        self._starts = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._values = _settings(self, certificate, media_ports)
        self.set(**(settings or {}))

    def set(self, **settings: object) -> None:
        """Write these settings over those it has; they hold from the next start."""
        self._values |= settings
        self.config.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in self._values.items()))

    # -- its life ----------------------------------------------------------------------------------------------------

    def start(self, timeout: float = 30.0) -> None:
        """Start the daemon and wait until it says that it is ready."""
        self.launch()
        poll(lambda: not self.process.running or self.ready(), "the edge is ready", timeout)
        if not self.process.running:
            raise PeerFailed(f"the edge ended with {self.process.wait(1)}:\n" + "\n".join(self.lines[-30:]))

    def launch(self) -> PeerProcess:
        """Start the daemon without waiting for it."""
        self._starts += 1
        self._process = PeerProcess(
            "sip-edge",
            [*self.program, "run", "--config", str(self.config)],
            self.folder / f"edge-{self._starts}.log",
            cwd=self.folder,
            env=self.environment,
        )
        return self._process

    def stop(self) -> None:
        """End the daemon as systemd would. Fails when it does not end cleanly."""
        if self._process is None:
            return
        process, self._process = self._process, None
        was_running = process.running
        status = process.stop(timeout=20)
        assert was_running, f"the edge had ended with {status} before:\n" + "\n".join(process.output.lines[-30:])
        assert status == 0, f"the edge ended with {status}:\n" + "\n".join(process.output.lines[-30:])
        assert not process.left_children, "the edge ended and left processes behind"

    def kill(self) -> None:
        """End the daemon as a crash would."""
        if self._process is not None:
            process, self._process = self._process, None
            process.process.kill()
            process.stop()

    def relay_pids(self) -> list[int]:
        """The processes of its embedded relays, which outlive a crash of the daemon."""
        found: list[int] = []
        for path in sorted(self.data.glob("relay*.sock.events")):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as events, contextlib.suppress(OSError):
                events.settimeout(2)
                events.connect(str(path))
                if said := re.search(r"pid=(\d+)", events.recv(1000).decode()):  # one that is ending says nothing
                    found.append(int(said[1]))
        return found

    def discard(self) -> None:
        """End whatever still runs of it, its relay and its database too, however it is, and remove its data."""
        self.kill()
        for relay in self.relay_pids():
            os.kill(relay, signal.SIGTERM)
        poll(lambda: not self.relay_pids(), "the embedded relays have ended")
        pid = self.data / "database/postmaster.pid"
        if pid.exists():
            process = int(pid.read_text().split()[0])
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGINT)
            poll(lambda: not pid.exists(), "the embedded database has ended")
        shutil.rmtree(self.data, ignore_errors=True)

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def process(self) -> PeerProcess:
        assert self._process is not None, "the edge is not started"
        return self._process

    @property
    def environment(self) -> dict[str, str]:
        """What its commands want in the environment."""
        return self.also | ({"DATABASE_URL": self._database_url} if self._database_url else {})

    def server(self, transport: str = "udp") -> str:
        """`host:port` where phones and carriers reach it."""
        return f"{self.address}:{self.tls_port if transport == 'tls' else self.port}"

    # -- its commands ------------------------------------------------------------------------------------------------

    def command(self, *words: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run `sip-edge WORDS... --config FILE`; what it printed and its exit status."""
        return subprocess.run(
            [str(COMMAND), *words, "--config", str(self.config)],
            env={**os.environ, **self.environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def provision(self, document: Document) -> None:
        """Apply a provisioning document; a running edge knows it when this returns. Fails with the command's words when
        it is refused."""
        file = self.folder / "provisioning.yaml"
        running = self._process is not None and self._process.running
        known = self.metric("sip_edge_snapshot_version") if running else 0.0
        file.write_text(yaml.safe_dump(dict(document), sort_keys=False))
        done = self.command("provision", "apply", str(file))
        assert done.returncode == 0, f"provision apply: {done.stdout}{done.stderr}"
        if running and "nothing to change" not in done.stdout.lower():
            poll(lambda: self.metric("sip_edge_snapshot_version") > known, "the edge follows its provisioning")

    # -- what it says ------------------------------------------------------------------------------------------------

    @property
    def lines(self) -> list[str]:
        return self.process.output.lines

    @property
    def mark(self) -> int:
        """A place in the log, for what is asked about later lines."""
        return self.process.output.mark

    def events(self, name: str = "", after: int = 0) -> list[dict[str, object]]:
        """Log lines after a mark, with this event name where one is given."""
        found = []
        for line in self.lines[after:]:
            if line.startswith("{"):
                event = json.loads(line)
                if name in ("", event.get("event")):
                    found.append(event)
        return found

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET at the admin HTTP."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def rows(self, what: str) -> list[dict[str, object]]:
        """`calls`, `registrations` or `carriers` as the admin HTTP shows them."""
        status, body = self.get(f"/{what}")
        assert status == 200, body
        rows: list[dict[str, object]] = json.loads(body)
        return rows

    def metrics(self) -> dict[str, float]:
        """Metrics by name with labels, as in the Prometheus text: `sip_edge_live_calls{direction="inbound"}`."""
        status, body = self.get("/metrics")
        assert status == 200, body
        return {
            match.group(1): float(match.group(2))
            for line in body.splitlines()
            if (match := re.fullmatch(r"([a-z_]+(?:\{.*\})?) (\S+)", line))
        }

    def metric(self, name: str) -> float:
        """The sum of a metric over all its labels."""
        return sum(value for key, value in self.metrics().items() if key.partition("{")[0] == name)

    def wait_carrier(self, name: str, state: str, timeout: float = 15.0) -> None:
        poll(
            lambda: any(row["name"] == name and row["state"] == state for row in self.rows("carriers")),
            f"carrier {name} is {state}",
            timeout,
        )

    def registered(self, name: str) -> list[str]:
        """The contacts of a seat or trunk."""
        return [str(row["contact"]) for row in self.rows("registrations") if row["name"] == name]

    # -- what must hold after every test -------------------------------------------------------------------------------

    def assert_at_rest(self, after: int, allowed: str = "") -> None:
        """No call and no relay session is left, and nothing went wrong inside since the mark `after`.

        `allowed`: a pattern of error lines that the test caused on purpose.
        """
        poll(lambda: not self.rows("calls"), "no call is left in the edge")
        poll(lambda: self.metric("sip_edge_relay_sessions") == 0, "no relay session is left in the edge")
        poll(lambda: self.metric("sip_edge_channels_in_use") == 0, "no channel is held in the edge")
        errors = [
            line
            for line in self.lines[after:]
            if ('"level":"error"' in line or "Traceback" in line) and not (allowed and re.search(allowed, line))
        ]
        assert not errors, "the edge logged errors:\n" + "\n".join(errors[:10])
        assert self.metric("sip_edge_internal_errors_total") == 0
        self.assert_books_balance()

    def assert_books_balance(self) -> None:
        """What began has ended, and no room disagrees with another. Only at rest: no attempt may be under way."""
        poll(lambda: self.metric("sip_edge_attempts_up") == 0, "no attempt is under way")
        now = self.metrics()

        def total(name: str) -> float:
            return sum(value for key, value in now.items() if key.partition("{")[0] == name)

        assert total("sip_edge_attempts_total") == total("sip_edge_attempts_ended_total"), now
        disagreements = {k: v for k, v in now.items() if k.startswith("sip_edge_books_disagreements_total") and v}
        assert not disagreements, f"the books do not balance: {disagreements}"


def _settings(edge: Edge, certificate: Certificate | None, media_ports: int) -> dict[str, object]:
    """The settings file of a test's edge: ports of its own, nothing shared with another edge on this machine."""
    first = take_ports(media_ports)
    listeners = [f"udp:{edge.address}:{edge.port}", f"tcp:{edge.address}:{edge.port}"]
    values: dict[str, object] = {
        "edge_name": f"edge-{edge.port}",
        "data_dir": str(edge.data),
        "listeners": listeners,
        "admin_port": edge.admin_port,
        "media_address": edge.address,
        "media_ports": f"{first}-{first + media_ports - 1}",
        # baresip 1.0 and SIPp 3.6 give up on a challenge that offers SHA-256, even beside MD5 (test_peers.py).
        "digest_algorithms": ["MD5"],
        # All peers share a few addresses, as a test of floods would.
        "guard_rate": 5000,
        "guard_burst": 5000,
    }
    if certificate is not None:
        values |= {
            "listeners": [*listeners, f"tls:{edge.address}:{edge.tls_port}"],
            "tls_certificate": str(certificate.chain),
            "tls_key": str(certificate.key),
            "tls_ca_file": str(certificate.authority),
        }
    return values


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(str(value))
