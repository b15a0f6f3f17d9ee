"""Copies of SIP messages for Homer and its like, as HEP version 3 over UDP (docs/operations.md, "Homer").

The hot path puts a message into a queue; a thread hides digest proofs, media keys and content (`privacy.redact`), packs
and sends. What does not fit into the queue is dropped and counted: a capture is not worth a call.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import deque
from ipaddress import ip_address
from typing import Literal

from edge.observability.privacy import redact
from edge.sip.flow import Flow

_MAX_WAITING = 20_000
_MAX_PAYLOAD = 65_507 - 200
_FLUSH_SECONDS = 0.05
_SIP = 1
_UDP, _TCP = 17, 6
_RETRY_SECONDS = 10.0


def encode(
    payload: bytes,
    direction: Literal["in", "out"],
    flow: Flow,
    at: float,
    capture_id: int,
    password: str = "",
) -> bytes:
    """One HEPv3 packet. `at`: seconds since 1970; `capture_id`: this edge's number in the capture server.

    Chunks: vendor 0, type, length with these six bytes, value (HEP3 network protocol specification, revision 26).
    """
    source, target = (flow.remote, flow.local) if direction == "in" else (flow.local, flow.remote)
    src, dst = ip_address(source.host.partition("%")[0]), ip_address(target.host.partition("%")[0])
    if src.version != dst.version:
        dst = ip_address(bytes(len(src.packed)))
    ipv4 = src.version == 4
    micros = int(at * 1_000_000)
    chunks = [
        struct.pack("!HHHB", 0, 1, 7, socket.AF_INET if ipv4 else 10),
        struct.pack("!HHHB", 0, 2, 7, _UDP if flow.transport == "udp" else _TCP),
        struct.pack("!HHH", 0, 3 if ipv4 else 5, 6 + len(src.packed)) + src.packed,
        struct.pack("!HHH", 0, 4 if ipv4 else 6, 6 + len(dst.packed)) + dst.packed,
        struct.pack("!HHHH", 0, 7, 8, source.port),
        struct.pack("!HHHH", 0, 8, 8, target.port),
        struct.pack("!HHHI", 0, 9, 10, micros // 1_000_000),
        struct.pack("!HHHI", 0, 10, 10, micros % 1_000_000),
        struct.pack("!HHHB", 0, 11, 7, _SIP),
        struct.pack("!HHHI", 0, 12, 10, capture_id),
    ]
    if password:
        key = password.encode()
        chunks.append(struct.pack("!HHH", 0, 14, 6 + len(key)) + key)
    payload = payload[:_MAX_PAYLOAD]
    chunks.append(struct.pack("!HHH", 0, 15, 6 + len(payload)) + payload)
    body = b"".join(chunks)
    return b"HEP3" + struct.pack("!H", 6 + len(body)) + body


class HepExport:
    """Sends to the capture server at `host`:`port` from a thread of its own."""

    def __init__(self, host: str, port: int, capture_id: int, password: str = "") -> None:
        self.sent = 0
        self.dropped = 0
        """Messages that were not sent: no room, or the server's name or address cannot be used."""
        self._server = host, port
        self._capture_id = capture_id
        self._password = password
        self._waiting: deque[tuple[Literal["in", "out"], bytes, Flow, float]] = deque()
        self._wake = threading.Event()
        self._closed = False
        self._socket: socket.socket | None = None
        self._again_at = 0.0
        self._thread = threading.Thread(target=self._run, name="hep-export", daemon=True)
        self._thread.start()

    def message(self, direction: Literal["in", "out"], data: bytes, flow: Flow) -> None:
        """A message passed; never blocks."""
        if len(self._waiting) >= _MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append((direction, data, flow, time.time()))
        if not self._wake.is_set():
            self._wake.set()

    def close(self, timeout: float = 1.0) -> None:
        """Send what waits and end the thread."""
        self._closed = True
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            if not self._closed:
                threading.Event().wait(_FLUSH_SECONDS)
            while self._waiting:
                self._send(*self._waiting.popleft())
        if self._socket is not None:
            self._socket.close()

    def _send(self, direction: Literal["in", "out"], data: bytes, flow: Flow, at: float) -> None:
        try:
            made = self._connected()
            if made is not None:
                made.send(encode(redact(data), direction, flow, at, self._capture_id, self._password))
                self.sent += 1
                return
        except OSError:
            # nobody listens there, or the message is too large for a datagram: the next one may go
            pass
        except ValueError:
            pass  # an address that is none cannot be captured
        self.dropped += 1

    def _connected(self) -> socket.socket | None:
        now = time.monotonic()
        if self._socket is None and now >= self._again_at:
            self._again_at = now + _RETRY_SECONDS
            family, kind, protocol, _, address = socket.getaddrinfo(*self._server, type=socket.SOCK_DGRAM)[0]
            made = socket.socket(family, kind, protocol)
            made.connect(address)
            self._socket = made
        return self._socket
