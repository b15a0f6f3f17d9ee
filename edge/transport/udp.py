"""A UDP socket: drained in batches and written to directly, so that an error belongs to the datagram that caused it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

from edge.sip.flow import Address, Flow
from edge.transport import inherited
from edge.transport.errors import ListenError

_BATCH = 32  # datagrams read before other work of the loop gets its turn
_BUFFER = 4 * 1024 * 1024  # asked of the kernel, which may grant less
_LARGEST = 65535
_SO_MEMINFO = 55
"""Of Linux: nine figures of a socket's memory, the last of them its drops (include/uapi/linux/sock_diag.h)."""
_DROPS = struct.Struct("=32xI")
_MOST_FLOWS = 16384


def bound_socket(kind: socket.SocketKind, transport: str, address: Address) -> socket.socket:
    """A non-blocking socket bound to `address`; IPv6 sockets take IPv6 only. Raises ListenError."""
    if (kept := inherited.take(transport, address)) is not None:
        kept.setblocking(False)
        _enlarge(kept, kind)
        return kept
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        sock = socket.socket(family, kind)
    except OSError as error:
        raise ListenError.of(transport, address, error) from error
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(tuple(address))
            sock.listen(1024)
        else:
            _enlarge(sock, kind)
            sock.bind(tuple(address))
    except OSError as error:
        sock.close()
        raise ListenError.of(transport, address, error) from error
    sock.setblocking(False)
    return sock


def _enlarge(sock: socket.socket, kind: socket.SocketKind) -> None:
    """Ask for room: what the kernel grants may have grown since an earlier program made the socket."""
    if kind == socket.SOCK_DGRAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)


def local_address(sock: socket.socket) -> Address:
    """The address that `sock` is bound to."""
    name = sock.getsockname()
    return Address(name[0], name[1])


class UdpSocket:
    """A bound UDP socket in the loop."""

    _loop: asyncio.AbstractEventLoop

    def __init__(self, address: Address, received: Callable[[bytes, Flow], None]) -> None:
        """Bind `address`; ListenError. `received` gets each datagram once `start` was called."""
        self._sock = bound_socket(socket.SOCK_DGRAM, "udp", address)
        self.local = local_address(self._sock)
        self._received = received
        self._buffer = bytearray(_LARGEST)
        self._view = memoryview(self._buffer)
        self._flows: dict[tuple[str, int], Flow] = {}
        self._woken_at = 0.0

    @property
    def descriptor(self) -> int:
        """Of the socket."""
        return self._sock.fileno()

    @property
    def dropped(self) -> int:
        """Datagrams that the kernel threw away since the socket was made, because nobody read them in time."""
        try:
            figures = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _DROPS.size)
        except OSError:
            return 0
        return int(_DROPS.unpack(figures)[0]) if len(figures) == _DROPS.size else 0

    def start(self) -> None:
        """Begin to read."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._readable)

    def close(self) -> None:
        """Give the port back."""
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    def send(self, data: bytes, remote: Address) -> bool:
        """Send; False where this datagram cannot be sent at all. A full buffer loses it, as the network may."""
        try:
            with contextlib.suppress(BlockingIOError):
                self._sock.sendto(data, remote)
        except OSError:
            return False
        return True

    def _readable(self) -> None:
        view = self._view
        # one, as the loop comes again where there are more; many where it did so within its millisecond
        now = self._loop.time()
        batch = _BATCH if now == self._woken_at else 1
        self._woken_at = now
        for _ in range(batch):
            try:
                size, source = self._sock.recvfrom_into(view)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # the kernel reports what became of an earlier datagram; the next read goes on
                continue
            self._received(bytes(view[:size]), self._flows.get(source) or self._flow(source))

    def _flow(self, source: tuple[str, int]) -> Flow:
        """The flow from a source, one object for all its datagrams: they are kept with every message of a trace."""
        if len(self._flows) >= _MOST_FLOWS:
            self._flows.clear()
        flow = self._flows[source] = Flow("udp", self.local, Address(source[0], source[1]))
        return flow
