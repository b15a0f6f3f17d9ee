"""rtpengine (Debian `rtpengine-daemon`) as a media relay of the edge, without its kernel module."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from pathlib import Path

from peers.ports import take_port, take_ports
from peers.process import PeerProcess, poll


class RtpEngine:
    """One rtpengine on loopback; `options` beside those that every one of them has."""

    def __init__(self, folder: Path, name: str, *options: str, ports: int = 200) -> None:
        self.control_port = take_port()
        self._folder = folder
        self._name = name
        first = take_ports(ports)
        self._command = [
            "rtpengine", "--config-file=none", "--foreground", "--log-stderr", "--log-level=6", "--table=-1",
            "--num-threads=2", "--delete-delay=0", "--interface=127.0.0.1",
            f"--listen-ng=127.0.0.1:{self.control_port}", f"--port-min={first}", f"--port-max={first + ports - 1}",
            *options,
        ]  # fmt: skip
        self._starts = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def address(self) -> str:
        """As it stands in the settings."""
        return f"127.0.0.1:{self.control_port}"

    def start(self) -> None:
        """Start it, also again after its end, and wait until it answers."""
        self._starts += 1
        self.process = PeerProcess(self._name, self._command, self._folder / f"{self._name}-{self._starts}.log")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("127.0.0.1", self.control_port))
            probe.settimeout(0.1)

            def answers() -> bool:
                with suppress(OSError):
                    probe.send(b"probe d7:command4:pinge")
                    return b"pong" in probe.recv(1000)
                return False

            poll(lambda: not self.process.running or answers(), "rtpengine answers", 10)

    def kill(self) -> None:
        """kill -9."""
        self.process.process.kill()
        self.process.stop()

    def stop(self) -> None:
        """End it as an operator would."""
        self.process.stop()

    @property
    def calls(self) -> int:
        """How many calls it has had since it was started."""
        return sum(1 for line in self.process.output.lines if re.search(r"Creating new call", line))
