"""What systemd is told (sd_notify(3)): that the edge is ready, what it does, and that its event loop is alive.

Without `NOTIFY_SOCKET` in the environment nothing is told to anybody.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping


class Notify:
    """Tells the service manager; `environment` is that of the process."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environment is None else environment
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        micros = environ.get("WATCHDOG_USEC", "")
        self._every = int(micros) / 2_000_000 if micros.isdigit() and self._ours(environ) else 0.0
        self._timer: asyncio.TimerHandle | None = None

    @staticmethod
    def _ours(environ: Mapping[str, str]) -> bool:
        return environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())

    def ready(self, status: str) -> None:
        """Started: from now on the watchdog is fed, by the event loop itself."""
        self._tell(f"READY=1\nSTATUS={status}")
        if self._every and self._timer is None:
            self._feed()

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._tell(f"STATUS={text}")

    def stopping(self) -> None:
        """The edge ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell("STOPPING=1\nSTATUS=ending calls, unregistering")

    def _feed(self) -> None:
        self._tell("WATCHDOG=1")
        self._timer = asyncio.get_running_loop().call_later(self._every, self._feed)

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there:
                there.setblocking(False)
                there.sendto(text.encode(), self._address)
        except OSError:
            pass  # a service manager that does not listen must not end calls
