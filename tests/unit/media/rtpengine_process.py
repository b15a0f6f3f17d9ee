"""rtpengine as it is installed (Debian's `rtpengine-daemon`), without its kernel module."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import suppress
from typing import IO

from media.relay import ng_messages as ng
from media.relay.rtpengine import RtpEngineAddress, RtpEngineRelay


def free_port(host: str = "127.0.0.1") -> int:
    """A UDP port that nobody has now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


class RtpEngineProcess:
    """One rtpengine on loopback; `options` beside those that every one of them has."""

    def __init__(
        self, *options: str, port: int = 0, ports: tuple[int, int] = (23000, 23899), log: IO[bytes] | None = None
    ) -> None:
        self.port = port or free_port()
        self._log = log
        self._command = [
            "rtpengine", "--config-file=none", "--foreground", "--log-stderr", "--log-level=5",
            "--table=-1", "--delete-delay=0", "--num-threads=2", f"--listen-ng=127.0.0.1:{self.port}",
            f"--port-min={ports[0]}", f"--port-max={ports[1]}",
            *options,
        ]  # fmt: skip
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log or subprocess.DEVNULL
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("127.0.0.1", self.port))
            probe.settimeout(0.05)
            for n in range(200):
                with suppress(OSError):
                    probe.send(ng.command(b"p%d" % n, "ping"))
                    probe.recv(1000)
                    return process
                time.sleep(0.02)
        process.kill()
        raise AssertionError("rtpengine did not start")

    def client(self, owner: str = "edge", **options: float) -> RtpEngineRelay:
        """A relay of this one instance."""
        return RtpEngineRelay((self.address(),), owner, **options)

    def address(self, weight: int = 1) -> RtpEngineAddress:
        """Where it is, for settings."""
        return RtpEngineAddress("127.0.0.1", self.port, weight)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(10)

    def again(self) -> None:
        """Start it again on the same port."""
        self.process = self._start()

    def stop(self) -> None:
        """End it as an operator would."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
