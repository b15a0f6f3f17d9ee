"""An edge under load: the daemon of its own with everything on, SIPp on both sides, and what the processes used.

phones 127.0.0.31 (SIPp, all seats of one office)     edge 127.0.0.1     static carrier 127.0.0.20 (SIPp)
"""

from __future__ import annotations

import csv
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Protocol

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
os.environ.setdefault("PEER_PORTS", "30000-31999")

from peers.edge import Edge  # noqa: E402
from peers.ports import take_port, take_ports  # noqa: E402
from peers.process import PeerFailed, PeerProcess, poll  # noqa: E402
from probe import Probe  # noqa: E402

SCENARIOS = Path(__file__).resolve().parent / "scenarios"
CARRIER = "127.0.0.20"
PHONES = "127.0.0.31"
SEATS = 50
"""Seats that the load uses; one more belongs to the probe."""
MEDIA_PORTS = "32000-39999"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Office:
    """One running edge with a static carrier and an office whose phones are registered; ends with `stop`."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, object],
        budget: Mapping[str, int] | None = None,
        database_url: str = "",
    ) -> None:
        """`budget`: of the account and of each seat. `database_url`: of a server that is not the edge's own."""
        self.folder = folder
        self._budget = budget
        self.carrier_port = take_port()
        self.phone_port = take_port()
        self.probe_port = take_port()
        self.edge = Edge(
            folder / "edge",
            database_url=database_url,
            # the phones register once, and some runs take hours
            settings={
                "media_ports": MEDIA_PORTS,
                "guard_rate": 5000,
                "guard_burst": 20000,
                "register_max_expires": 86400,
                **settings,
            },
        )
        # what a carrier dials, and what a phone dials with its name and password, a line per call in turn
        self.called = folder / "called.csv"
        self.called.write_text(CALLED)
        self.seats = folder / "seats.csv"
        self.seats.write_text("SEQUENTIAL\n" + "".join(_credentials(n) for n in range(SEATS)))
        self.probe_seat = folder / "probe.csv"
        self.probe_seat.write_text(f"SEQUENTIAL\n{_credentials(SEATS)}")

    def start(self) -> None:
        """Start and provision the edge, then register every seat."""
        self.edge.start()
        self.edge.provision(_document(self.carrier_port, self._budget))
        poll(lambda: bool(self.edge.rows("carriers")), "the provisioning has arrived")
        self.register()

    def register(self) -> None:
        """Register all seats from the port at which `phones` answers, and the probe's from its own."""
        for port, count, lines in ((self.phone_port, SEATS, self.seats), (self.probe_port, 1, self.probe_seat)):
            sipp = Sipp(self, "register", PHONES, port, calls=count, rate=100, lines=lines)
            sipp.finish(30)
            if sipp.totals().failed:
                raise PeerFailed(f"{sipp.totals().failed} seats could not register: see {sipp.folder}")

    def probe(self, rate: float) -> Probe:
        """A probe that calls `rate` times a second."""
        return probe_of(self, self.probe_port, rate)

    def stop(self) -> None:
        try:
            self.edge.stop()
        finally:
            self.edge.discard()

    @property
    def server(self) -> str:
        """`host:port` of its UDP."""
        return self.edge.server()

    @property
    def signalling(self) -> int:
        """Process id of the daemon."""
        return self.edge.process.process.pid

    def processes(self) -> dict[str, list[int]]:
        """Process ids by what they are."""
        children = _children(self.signalling)
        relay = [pid for pid in children if b"media.relay.process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return {
            "signalling": [self.signalling],
            "relay": relay,
            "PostgreSQL": self._postgres(),
        }

    def _postgres(self) -> list[int]:
        """Of the edge's own server."""
        named = self.edge.data / "database/postmaster.pid"
        if not named.exists():
            return []
        postmaster = int(named.read_text().split()[0])
        return [postmaster, *_children(postmaster)]

    def at_rest(self, timeout: float = 30.0) -> None:
        """Wait until no call is up and every record is in the database."""
        poll(lambda: not self.edge.rows("calls"), "no call is left", timeout)
        poll(lambda: self.edge.metric("sip_edge_spool_records") == 0, "all records are stored", timeout)


# -- SIPp ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Totals:
    """What a SIPp counted."""

    calls: int
    failed: int
    retransmissions: int
    seconds: float


class Served(Protocol):
    """What SIPp calls."""

    folder: Path
    """Where SIPp's files go."""

    @property
    def server(self) -> str:
        """`host:port` of its UDP."""


class Sipp:
    """One SIPp process running a scenario of bench/scenarios.
    `lines`: its injection file; `pause_ms`: how long it pauses; port 0: any."""

    def __init__(
        self,
        office: Served,
        scenario: str,
        address: str,
        port: int,
        *,
        calls: int = 0,
        rate: float = 10,
        lines: Path | None = None,
        pause_ms: int = 0,
        delays: bool = True,
        patience: float = 0,
    ) -> None:
        """`delays`: keep a line of each call for `delays`; `patience`: seconds after which a call that hears nothing
        has failed, 0: never."""
        self.scenario = scenario
        office.folder.mkdir(exist_ok=True)
        number = len(list(office.folder.glob(f"{scenario}-*")))
        self.folder = office.folder / f"{scenario}-{number}"
        self.folder.mkdir()
        command = [
            "sipp", office.server, "-sf", str(SCENARIOS / f"{scenario}.xml"), "-i", address, "-p",
            str(port or take_port()),
            "-t", "u1", "-nostdin", "-cp", str(take_port()), "-mp", str(take_ports(4)), "-cid_str", "%u-%p-%s",
            "-buff_size", "4194304", "-timer_resol", "1", "-max_socket", "60000",
            "-trace_err", "-error_file", str(self.folder / "errors"),
            "-trace_stat", "-fd", "1", "-stf", str(self.folder / "stat.csv"),
        ]  # fmt: skip
        if calls:
            command += ["-m", str(calls), "-r", f"{rate:g}", "-l", str(calls)]
        if calls and delays:
            command += ["-trace_rtt", "-rtt_freq", "1"]
        if patience:
            command += ["-recv_timeout", f"{patience * 1000:.0f}"]
        if lines is not None:
            command += ["-inf", str(lines)]
        if scenario == "phone_calls":
            command += ["-auth_uri", f"{_DIALLED}@{office.server.partition(':')[0]}"]
        if pause_ms:
            command += ["-d", str(pause_ms)]
        self.process = PeerProcess(
            f"sipp {scenario}", command, self.folder / "screen", cwd=self.folder, env={"TERM": "dumb"}
        )

    def finish(self, timeout: float) -> None:
        """Wait until all calls are done."""
        self.process.wait(timeout)

    def place_no_more(self) -> None:
        """End once the calls that are up are over."""
        self.process.process.send_signal(signal.SIGUSR1)

    def stop(self) -> None:
        self.process.stop()

    def totals(self) -> Totals:
        """What it counted by now; final once it has ended."""
        with (self.folder / "stat.csv").open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter=";"))
        last = rows[-1]
        return Totals(
            int(last["SuccessfulCall(C)"]),
            int(last["FailedCall(C)"]),
            int(last["Retransmissions(C)"]),
            _seconds(last["ElapsedTime(C)"]),
        )

    def delays(self, name: str) -> list[float]:
        """Milliseconds between the marks of this name, of every call."""
        out: list[float] = []
        for file in self.folder.glob("*_rtt.csv"):
            for line in file.read_text().splitlines()[1:]:
                _, took, mark = line.split(";")[:3]
                if mark == name:
                    out.append(float(took))
        return out


# -- what the processes use --------------------------------------------------------------------------------------------


def cpu(pids: list[int]) -> float:
    """Seconds of CPU that the processes have used, their ended children included."""
    total = 0
    for pid in pids:
        fields = _stat(pid)
        if fields:
            total += sum(int(field) for field in fields[11:15])
    return total / _TICKS


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _children(parent: int) -> list[int]:
    found = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in found if (fields := _stat(pid)) and int(fields[1]) == parent]


def probe_of(served: Served, phone_port: int, rate: float) -> Probe:
    """A probe that calls `PROBED` `rate` times a second and answers at a port of the phones."""
    host, port = served.server.rsplit(":", 1)
    return Probe((host, int(port)), (CARRIER, take_port()), (PHONES, phone_port), PROBED, rate)


def descendants(pid: int) -> list[int]:
    """Process ids of a process and all that it has started."""
    return [pid, *(below for child in _children(pid) for below in descendants(child))]


@dataclass(frozen=True, slots=True)
class Usage:
    """What an edge has used until a moment, to be subtracted from a later one."""

    at: float
    cpu: Mapping[str, float]
    memory: int
    lag: Mapping[float, float]
    """Timers of the event loop that were at most so late (seconds)."""
    dropped: int
    """Datagrams that the guard turned away."""

    @classmethod
    def of(cls, office: Office) -> Usage:
        metrics = office.edge.metrics()
        lag = {
            float(match[1]): value
            for key, value in metrics.items()
            if (match := re.fullmatch(r'sip_edge_loop_lag_seconds_bucket\{le="(.*)"\}', key))
        }
        used = {name: cpu(pids) for name, pids in office.processes().items()}
        dropped = int(sum(n for key, n in metrics.items() if key.startswith("sip_edge_guard_drops_total")))
        return cls(time.monotonic(), used, memory(office.signalling), lag, dropped)

    def lag_since(self, before: Usage, share: float) -> float:
        """Milliseconds that `share` of the timers since `before` were late at most (a bucket's limit)."""
        counts = {limit: count - before.lag.get(limit, 0) for limit, count in sorted(self.lag.items())}
        total = counts[float("inf")]
        return next(limit * 1000 for limit, count in counts.items() if count >= share * total)


def percentiles(values: list[float], *wanted: int) -> list[float]:
    """The `wanted` percentiles; zeros where there are no values."""
    if len(values) < 2:
        return [values[0] if values else 0.0] * len(wanted)
    cuts = quantiles(values, n=100, method="inclusive")
    return [cuts[n - 1] for n in wanted]


def pause(seconds: float) -> None:
    """Let time pass."""
    threading.Event().wait(seconds)


# -- provisioning ------------------------------------------------------------------------------------------------------


def _seat(n: int) -> str:
    return f"desk{n:02}"


def _password(n: int) -> str:
    return f"desk{n:02}-Pass-7351"


# SIPp makes a digest for one URI only
_DIALLED = "+49301234000"


def _credentials(n: int) -> str:
    return f"{_seat(n)};[authentication username={_seat(n)} password={_password(n)}];{_DIALLED}\n"


def _number(n: int) -> str:
    return f"+492283860{n:02}"


def _outside(n: int) -> str:
    return f"+49301234{n:03}"


CALLED = "SEQUENTIAL\n" + "".join(f"{_number(n)};{_outside(n)}\n" for n in range(SEATS))
"""What a carrier dials and who calls, a line per call in turn, as SIPp reads it."""
PROBED = _number(SEATS)
"""The number of the probe's phone."""


def _document(carrier_port: int, budget: Mapping[str, int] | None) -> dict[str, object]:
    limits = dict(budget or {})
    return {
        "version": 1,
        "carriers": [
            {
                "name": "static",
                "mode": "static",
                "domain": "static.example",
                "outbound_proxy": f"sip:{CARRIER}:{carrier_port};transport=udp",
                "sources": [CARRIER],
                "max_calls": 10000,
                "t38": "off",
            }
        ],
        "accounts": [
            {
                "id": "K1",
                "name": "Example",
                "status": "active",
                "country": "DE",
                "area_code": "228",
                "parallel_calls": 10000,
                "emergency_number": _number(0),
                **limits,
            }
        ],
        "seats": [
            {
                "username": _seat(n),
                "account": "K1",
                "password": _password(n),
                "name": f"Desk {n}",
                "extension": str(200 + n),
                "primary_number": _number(n),
                **limits,
            }
            for n in range(SEATS + 1)
        ],
        "blocks": [
            {
                "prefix": "+492283860",
                "digits": 2,
                "account": "K1",
                "carrier": "static",
                "channels": 10000,
                "ranges": [{"prefix": _number(n), "route": {"seat": _seat(n)}} for n in range(SEATS + 1)],
            }
        ],
    }


def _seconds(text: str) -> float:
    hours, minutes, seconds = text.split(":")[:3]
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
