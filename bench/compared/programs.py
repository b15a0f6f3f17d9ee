"""The programs of bench/compare.py: how each is started so that it sends the carrier's calls on to the phones."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from load import CARRIER, PHONES, PROBED, ROOT, Office, PeerFailed, PeerProcess, descendants, poll
from peers.kamailio import module_folder
from peers.ports import take_port

HERE = Path(__file__).resolve().parent
INSTALLED = ROOT / ".bench-compared"
HOST = "127.0.0.1"


class Program(Protocol):
    """One that takes the carrier's calls on `server` and sends them to the phones."""

    name: str
    folder: Path
    called: Path
    carrier_port: int
    phone_port: int
    probe_port: int

    @property
    def server(self) -> str:
        """`host:port` of its UDP."""

    @property
    def version(self) -> str: ...

    def start(self) -> None:
        """Raises PeerFailed where it does not run."""

    def stop(self) -> None: ...

    def processes(self) -> dict[str, list[int]]:
        """Process ids by what they are; one is `signalling`."""

    def at_rest(self) -> None:
        """Wait until no call is left, as far as it can be asked."""


class OurEdge(Office):
    """This edge, with everything on."""

    name = "sip-edge"
    version = "everything on"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {"trace_megabytes": 8})


class _Other:
    """What the others have in common: one process and its children, started with files made from templates."""

    name = ""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.called = folder.parent / "called.csv"
        self.carrier_port, self.phone_port, self.probe_port = take_port(), take_port(), take_port()
        self.server = f"{HOST}:{take_port()}"
        self._process: PeerProcess | None = None

    def _fill(self, template: Path, to: Path, **more: str) -> None:
        values = {
            "SERVER": self.server,
            "CARRIER": CARRIER,
            "PHONES": f"{PHONES}:{self.phone_port}",
            "PROBE": f"{PHONES}:{self.probe_port}",
            "PROBED": PROBED,
            "FOLDER": str(self.folder),
            **more,
        }
        to.write_text(re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], template.read_text()))

    def _run(self, command: list[str], env: Mapping[str, str] | None = None) -> None:
        log = self.folder / f"{self.name}.log"
        self._process = PeerProcess(self.name, command, log, cwd=self.folder, env=dict(env or {}))
        poll(lambda: not self._process.running or self._listens(), f"{self.name} listens", 20)  # type: ignore[union-attr]
        if not self._process.running:
            raise PeerFailed(f"{self.name} ended:\n" + "\n".join(self._process.output.lines[-20:]))

    def _listens(self) -> bool:
        port = f":{int(self.server.rpartition(':')[2]):04X} "
        return any(port in line[:30] for line in Path("/proc/net/udp").read_text().splitlines())

    def processes(self) -> dict[str, list[int]]:
        assert self._process is not None
        return {"signalling": descendants(self._process.process.pid)}

    def at_rest(self) -> None:
        """It cannot be asked."""

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()


class Kamailio(_Other):
    """A bare stateful proxy."""

    name = "kamailio"

    @property
    def version(self) -> str:
        return _said(["kamailio", "-v"])

    def start(self) -> None:
        config = self.folder / "kamailio.cfg"
        self._fill(HERE / "kamailio.cfg.in", config, MODULES=module_folder())
        self._run(["kamailio", "-f", str(config), "-DD", "-E", "-w", str(self.folder), "-Y", str(self.folder),
                   "-m", "256", "-M", "16"])  # fmt: skip


class Sippy(_Other):
    """Sippy's B2BUA, without RADIUS and media relay."""

    name = "sippy"
    _python = INSTALLED / "sippy/bin/python"

    @property
    def version(self) -> str:
        return _said([str(self._python), "-c", "from importlib.metadata import version; print(version('sippy'))"])

    def start(self) -> None:
        if not self._python.exists():
            raise PeerFailed("it is not installed; run bench/compared/install")
        host, port = self.server.split(":")
        probe, phones = f"{PHONES}:{self.probe_port}", f"{PHONES}:{self.phone_port}"
        self._run(
            [str(self._python), str(HERE / "sippy_b2bua.py"), PROBED, probe, "-f", "-u", "-A", "0", "-l", host,
             "-p", port, "-s", phones, "-c", str(self.folder / "control"), "-P", str(self.folder / "pid")],
            {"SIPLOG_BEND": "none"},
        )  # fmt: skip


class Asterisk(_Other):
    """Asterisk with chan_pjsip, no more modules than calls want; it relays their media."""

    name = "asterisk"
    _root = INSTALLED / "sid"

    @property
    def _program(self) -> list[str]:
        # sid's program wants sid's libraries
        root = self._root
        loader, libraries = root / "usr/lib64/ld-linux-x86-64.so.2", root / "usr/lib/x86_64-linux-gnu"
        return [str(loader), "--library-path", str(libraries), str(root / "usr/sbin/asterisk")]

    @property
    def version(self) -> str:
        return _said([*self._program, "-V"])

    def start(self) -> None:
        if not (self._root / "usr/sbin/asterisk").exists():
            raise PeerFailed("it is not installed; run bench/compared/install")
        for template in (HERE / "asterisk").iterdir():
            self._fill(template, self.folder / template.name, ROOT=str(self._root))
        self._run([*self._program, "-f", "-C", str(self.folder / "asterisk.conf")])


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, env={**os.environ})
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else f"{command[0]}: {done.stderr.strip()[:80]}"


PROGRAMS: dict[str, Callable[[Path], Program]] = {
    "sip-edge": OurEdge,
    "kamailio": Kamailio,
    "sippy": Sippy,
    "asterisk": Asterisk,
}
