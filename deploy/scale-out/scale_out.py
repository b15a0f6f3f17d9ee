"""Several edges behind one Kamailio, with several rtpengines and one PostgreSQL, in network namespaces of their own.

    outside 10.98.0.0/24:  .1 this machine  .10 border  .20 carrier  .41 .42 relays
    core    10.99.0.0/24:  .1 this machine  .10 .11 border  .21 .22 ... edges  .41 .42 relays

Prints one line of JSON when all is up: what is where. Takes everything down again when it is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

from config.embedded import EmbeddedPostgres
from config.secrets import new_key

HERE = Path(__file__).resolve().parent
COMMAND = Path(sys.executable).with_name("sip-edge")
BRIDGES = {"so-out": "10.98.0", "so-core": "10.99.0"}
CARRIER, CARRIER_PORT = "10.98.0.20", 5060
HERE_TOO = ("10.98.0.20", "10.98.0.31", "10.98.0.32")
"""Addresses of this machine on the outside, for a carrier and phones to try with."""
RELAYS = 2


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    if len(sys.argv) not in (2, 3) or os.geteuid() != 0:
        sys.exit("usage, as root: deploy/scale-out/run FOLDER [EDGES]")
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with contextlib.ExitStack() as stack:
        site = Site(folder, int(sys.argv[2]) if len(sys.argv) == 3 else 2, stack)
        site.start()
        sys.stdout.write(json.dumps(site.described()) + "\n")
        sys.stdout.flush()
        done.wait()


class Site:
    """Everything that runs; `stack` takes it down."""

    def __init__(self, folder: Path, edges: int, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.edges = edges
        self._stack = stack
        self._database = EmbeddedPostgres(folder / "pg")

    def start(self) -> None:
        """Bring up network, database, relays, border and edges, in this order; wait until the edges take calls."""
        self._network()
        url = asyncio.run(self._start_database())
        self._stack.callback(lambda: asyncio.run(self._database.stop()))
        for n in range(RELAYS):
            self._relay(n)
        key = new_key()
        for n in range(self.edges):
            self._settings(n, url, key)
        run(str(COMMAND), "migrate", "up", "--config", str(self._config(0)))
        for n in range(self.edges):
            self._edge(n)
        self._border()
        for n in range(self.edges):
            self._wait_ready(n)

    def described(self) -> dict[str, object]:
        """What is where."""
        return {
            "border": "10.98.0.10:5060",
            "carrier": f"{CARRIER}:{CARRIER_PORT}",
            "outside": list(HERE_TOO),
            "edges": [
                {
                    "namespace": f"so-edge{n + 1}",
                    "config": str(self._config(n)),
                    "pid": str(self.folder / f"edge{n + 1}.pid"),
                    "log": str(self.folder / f"edge{n + 1}.log"),
                }
                for n in range(self.edges)
            ],
        }

    # -- the network -------------------------------------------------------------------------------------------------

    def _network(self) -> None:
        for bridge, net in BRIDGES.items():
            run("ip", "link", "add", bridge, "type", "bridge")
            self._stack.callback(run, "ip", "link", "delete", bridge, check=False)
            run("ip", "address", "add", f"{net}.1/24", "dev", bridge)
            run("ip", "link", "set", bridge, "up")
        for address in HERE_TOO:
            run("ip", "address", "add", f"{address}/24", "dev", "so-out")
        self._namespace("so-border", out=("10.98.0.10",), core=("10.99.0.10", "10.99.0.11"))
        for n in range(RELAYS):
            self._namespace(f"so-relay{n + 1}", out=(f"10.98.0.{41 + n}",), core=(f"10.99.0.{41 + n}",))
        for n in range(self.edges):
            self._namespace(f"so-edge{n + 1}", out=(), core=(f"10.99.0.{21 + n}",))

    def _namespace(self, name: str, out: tuple[str, ...], core: tuple[str, ...]) -> None:
        run("ip", "netns", "add", name)
        self._stack.callback(run, "ip", "netns", "delete", name, check=False)
        run("ip", "-n", name, "link", "set", "lo", "up")
        for bridge, addresses in (("so-out", out), ("so-core", core)):
            if not addresses:
                continue
            near, far = f"{name[3:]}{bridge[3:]}", bridge[3:]
            run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
            run("ip", "link", "set", near, "master", bridge, "up")
            for address in addresses:
                run("ip", "-n", name, "address", "add", f"{address}/24", "dev", far)
            run("ip", "-n", name, "link", "set", far, "up")

    # -- programs ----------------------------------------------------------------------------------------------------

    async def _start_database(self) -> str:
        return await self._database.start()

    def _relay(self, n: int) -> None:
        self._program(
            f"so-relay{n + 1}", f"relay{n + 1}", "rtpengine", "--config-file=none", "--foreground", "--log-stderr",
            "--log-level=4", "--table=-1", "--num-threads=2", f"--interface=10.98.0.{41 + n}",
            f"--listen-ng=10.99.0.{41 + n}:2223", "--port-min=30000", "--port-max=39999",
        )  # fmt: skip

    def _settings(self, n: int, url: str, key: str) -> None:
        relays = ", ".join(f'"10.99.0.{41 + i}:2223"' for i in range(RELAYS))
        data = self.folder / f"e{n + 1}"
        data.mkdir(exist_ok=True)
        self._config(n).write_text(
            f'edge_name = "edge{n + 1}"\ndata_dir = "{data}"\nlisteners = ["udp:10.99.0.{21 + n}:5060"]\n'
            f'database_url = "{url}"\nsecret_key = "{key}"\nshared_registrations = true\n'
            f'relay = "rtpengine"\nrtpengines = [{relays}]\ndigest_algorithms = ["MD5"]\n'
            "guard_rate = 5000\nguard_burst = 5000\n"
        )
        self._config(n).chmod(0o600)

    def _config(self, n: int) -> Path:
        return self.folder / f"edge{n + 1}.toml"

    def _edge(self, n: int) -> None:
        """An edge, started anew when it crashes (systemd: `Restart=on-failure`); one that was drained stays out."""
        script = (
            f'while :; do "{COMMAND}" run --config "{self._config(n)}" & echo $! >"{self.folder}/edge{n + 1}.pid";'
            " wait $! && break; sleep 0.2; done"
        )
        self._program(f"so-edge{n + 1}", f"edge{n + 1}", "sh", "-c", script)

    def _wait_ready(self, n: int) -> None:
        for _ in range(300):
            done = subprocess.run(
                ["ip", "netns", "exec", f"so-edge{n + 1}", sys.executable, __file__, "--ready"], check=False
            )
            if done.returncode == 0:
                return
            threading.Event().wait(0.2)
        sys.exit(f"edge{n + 1} does not take calls; see {self.folder}/edge{n + 1}.log")

    def _border(self) -> None:
        lines = [
            f"{group} sip:10.99.0.{21 + n}:5060 0 0 socket=udp:10.99.0.{address}:5060"
            for group, address in ((1, 10), (2, 11))
            for n in range(self.edges)
        ]
        (self.folder / "dispatcher.list").write_text("\n".join(lines) + "\n")
        modules = next(path for path in Path("/usr/lib").glob("*/kamailio/modules") if path.is_dir())
        certificate, key = self.folder / "border.pem", self.folder / "border.key"
        run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
            "-subj", "/CN=10.98.0.10", "-addext", "subjectAltName=IP:10.98.0.10", "-keyout", str(key),
            "-out", str(certificate),
        )  # fmt: skip
        values = {
            "TLS": "yes",
            "LISTEN_TLS": "listen=tls:10.98.0.10:5061",
            "LOAD_TLS": 'loadmodule "tls.so"\n'
            f'modparam("tls", "private_key", "{key}")\nmodparam("tls", "certificate", "{certificate}")\n'
            'modparam("tls", "tls_method", "TLSv1.2+")',
            "MODULES": str(modules),
            "FOLDER": str(self.folder),
            "CARRIER": CARRIER,
            "CARRIER_PORT": str(CARRIER_PORT),
        }
        text = (HERE / "border.cfg").read_text()
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        config = self.folder / "border.cfg"
        config.write_text(text)
        self._program("so-border", "border", "kamailio", "-f", str(config), "-DD", "-E", "-Y", str(self.folder))

    def _program(self, namespace: str, name: str, *command: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        started = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command], stdout=log, stderr=log, start_new_session=True
        )
        self._stack.callback(self._end, started)
        log.close()

    @staticmethod
    def _end(started: subprocess.Popen[bytes]) -> None:
        for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(patience)
                if number == signal.SIGTERM:
                    continue
                return


def run(*command: str, check: bool = True) -> None:
    """Run a command; its words are the failure."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def ready() -> bool:
    """Whether the edge in this namespace takes calls."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:8080/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    if sys.argv[1:] == ["--ready"]:
        sys.exit(not ready())
    for tool in ("ip", "kamailio", "rtpengine", "openssl"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing: scripts/install-debian test")
    main()
