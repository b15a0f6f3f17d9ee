"""The first five minutes of a newcomer: `sip-edge demo up`, `demo call`, the simulator's tricks, and Ctrl-C."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from peers.edge import COMMAND
from peers.ports import take_port, take_ports
from peers.process import PeerProcess

pytestmark = pytest.mark.phones


@dataclass
class Demo:
    """A demonstration in a folder of its own."""

    folder: Path
    admin: int
    control: int
    process: PeerProcess

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(COMMAND), *words], capture_output=True, text=True, timeout=60)

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(name + " "):
                    return float(line.rpartition(" ")[2])
        raise AssertionError(f"there is no metric {name}")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    port, admin, carrier = take_port(), take_port(), take_ports(2)
    process = PeerProcess(
        "demo",
        [
            str(COMMAND),
            "demo",
            "up",
            "--folder",
            str(folder),
            "--port",
            str(port),
            "--admin",
            str(admin),
            "--carrier",
            str(carrier),
        ],
        folder / "screen.log",
    )
    process.wait_for("Ctrl-C ends everything", 60)
    demo = Demo(folder, admin, carrier + 1, process)
    yield demo
    process.interrupt()
    status = process.wait(20)
    process.stop()
    assert status == 0 and not process.left_children
    left = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True).stdout.split()
    assert left == [], "processes are left behind"
    assert "registration ended" in (folder / "carrier-simulator.log").read_text()


def test_screen_tells_what_to_do(demo: Demo) -> None:
    """Phones' settings, what to dial, how to be called, where the metrics are: in a screenful."""
    screen = (demo.folder / "screen.log").read_text()
    words = json.loads((demo.folder / "passwords.json").read_text())
    for expected in (
        "phone-1",
        "phone-2",
        words["SIP_EDGE_DEMO_PHONE_1"],
        "069 90009123",
        "carrier-sim call",
        "/metrics",
    ):
        assert expected in screen
    assert len(screen.splitlines()) < 30


def test_two_calls_without_a_phone(demo: Demo) -> None:
    """One call in, one out, the tone heard back, both ladders printed, nothing left."""
    done = demo.command("demo", "call", "--folder", str(demo.folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Heard our own 440 Hz back") == 2
    assert "407 Proxy Authentication Required" in done.stdout
    assert demo.metric("sip_edge_relay_sessions") == 0


@pytest.mark.parametrize(
    ("behaviour", "status"), [("busy", "486"), ("overloaded", "503"), ("unknown", "404"), ("decline", "603")]
)
def test_simulator_misbehaves(demo: Demo, behaviour: str, status: str) -> None:
    """What the carrier answers reaches the phone."""
    control = str(demo.control)
    assert demo.command("carrier-sim", "behave", behaviour, "--control", control).returncode == 0
    done = demo.command("demo", "call", "--folder", str(demo.folder))
    demo.command("carrier-sim", "behave", "answer", "--control", control)
    assert done.returncode == 1
    assert f"was not answered: {status}" in done.stderr


def test_simulator_calls_a_number_of_nobody(demo: Demo) -> None:
    """An unknown number is refused with 404, and the simulator says so."""
    done = demo.command("carrier-sim", "call", "+493023125999", "--control", str(demo.control))
    assert "did not answer: 404" in done.stdout


def test_second_demonstration_in_the_same_folder(demo: Demo) -> None:
    """Two that share their data would destroy each other's."""
    done = demo.command("demo", "up", "--folder", str(demo.folder))
    assert done.returncode == 1 and "is running in" in done.stderr
