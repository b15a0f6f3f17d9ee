"""The place where a carrier known by address is always found, whichever SIPp happens to answer its calls.

The edge asks such a carrier with OPTIONS whether it is there, at any time. SIPp would take that for a call, so it is
behind this: bytes go through unchanged, OPTIONS are answered here.
"""

from __future__ import annotations

import socket
import threading


class Switchboard:
    """Listens on UDP `address`:`port`; what comes from elsewhere goes to `target`, what `target` sends goes back.

    Without a target INVITEs get no answer, or `refusal` where there is one (`503 Busy` and header lines)."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.target: tuple[str, int] | None = None
        self.refusal = ""
        self.calls: set[bytes] = set()
        """Call-IDs of the INVITEs that came."""
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
                self._socket.sendto(_answer(data, "200 OK"), source)
                continue
            if data.startswith(b"INVITE "):
                self.calls.update(line for line in data.split(b"\r\n") if line.lower().startswith(b"call-id:"))
                if self.refusal:
                    self._socket.sendto(_answer(data, self.refusal), source)
            if self.target is not None:
                self._socket.sendto(data, self.target)

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bell:
            bell.sendto(_END, (self.address, self.port))
        self._thread.join(5)
        self._socket.close()


_END = b"end of the switchboard"
_COPIED = (b"via:", b"from:", b"call-id:", b"cseq:")


def _answer(request: bytes, says: str) -> bytes:
    lines = [b"SIP/2.0 " + says.encode()]
    for line in request.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]:
        name = line.lower()
        if name.startswith(b"to:"):
            lines.append(line + b";tag=switchboard")
        elif name.startswith(_COPIED):
            lines.append(line)
    return b"\r\n".join([*lines, b"Content-Length: 0", b"", b""])
