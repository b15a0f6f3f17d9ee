"""Bytes as they are, over UDP or TCP: for messages that no SIP program would send."""

from __future__ import annotations

import socket
from types import TracebackType

from peers.messages import Seen


class Raw:
    """A socket at `address` that talks to `server` (`host:port`)."""

    def __init__(self, server: str, transport: str = "udp", address: str = "127.0.0.1") -> None:
        host, _, port = server.partition(":")
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.bind((address, 0))
        self._socket.settimeout(5)
        self._socket.connect((host, int(port)))

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def send(self, data: bytes | str) -> None:
        self._socket.sendall(data.encode() if isinstance(data, str) else data)

    def receive(self, timeout: float = 3.0) -> str:
        """The next bytes as text; empty when nothing came in `timeout` seconds or the other side closed."""
        self._socket.settimeout(timeout)
        try:
            return self._socket.recv(65536).decode("utf-8", "replace")
        except (TimeoutError, ConnectionError):
            return ""

    def final(self, timeout: float = 3.0) -> Seen | None:
        """The next final response; None when none came."""
        while text := self.receive(timeout):
            seen = Seen("in", text)
            if seen.status >= 200:
                return seen
        return None

    def status(self, timeout: float = 3.0) -> int:
        """The status of the next final response; 0 when none came."""
        answer = self.final(timeout)
        return answer.status if answer is not None else 0

    def __enter__(self) -> Raw:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()
