"""The place where a carrier known by address is always found, whichever SIPp happens to answer its calls.

The edge asks such a carrier with OPTIONS whether it is there, at any time. SIPp would take that for a call, so it is
behind this: bytes go through unchanged, OPTIONS are answered here.
"""

from __future__ import annotations

import socket
import threading


class Switchboard:
    """Listens on UDP `address`:`port`; what comes from elsewhere goes to `target`, what `target` sends goes back."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.target: tuple[str, int] | None = None
        self._edge: tuple[str, int] | None = None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, port))
        self._thread = threading.Thread(target=self._run, name="switchboard", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                data, source = self._socket.recvfrom(65536)
            except ConnectionRefusedError:
                continue  # the SIPp that was the target has gone
            if data == _END:
                return
            if source == self.target:
                if self._edge is not None:
                    self._socket.sendto(data, self._edge)
                continue
            self._edge = source
            if data.startswith(b"OPTIONS "):
                self._socket.sendto(_answer(data), source)
            elif self.target is not None:
                self._socket.sendto(data, self.target)

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bell:
            bell.sendto(_END, (self.address, self.port))
        self._thread.join(5)
        self._socket.close()


_END = b"end of the switchboard"
_COPIED = (b"via:", b"from:", b"call-id:", b"cseq:")


def _answer(request: bytes) -> bytes:
    lines = [b"SIP/2.0 200 OK"]
    for line in request.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]:
        name = line.lower()
        if name.startswith(b"to:"):
            lines.append(line + b";tag=switchboard")
        elif name.startswith(_COPIED):
            lines.append(line)
    return b"\r\n".join([*lines, b"Content-Length: 0", b"", b""])
