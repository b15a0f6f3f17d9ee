"""TLS of one connection, bytes in and bytes out: handshake, records, the end. It holds no socket, so that a process
which is forked from this one can go on with it (`edge.transport.tls_keeper`)."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

_CHUNK = 65536


class TlsChannel:
    """Between a peer's records and what they say. After every call `outgoing` has what the peer is to get."""

    __slots__ = ("_incoming", "_object", "_outgoing", "closed", "open")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None) -> None:
        """`server_name`: what SNI carries, for connections of ours."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side, server_name)
        self.open = False
        """The handshake is done."""
        self.closed = False
        """The peer has said that nothing follows (close_notify)."""

    def begin(self) -> None:
        """Say hello, where that is ours to say. Raises ssl.SSLError."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        self.open = True

    def receive(self, data: bytes) -> bytes:
        """What these bytes of the peer say. Raises ssl.SSLError where they are no TLS, or not the peer's; the peer is
        still to get what is outgoing (an alert), and nothing else."""
        self._incoming.write(data)
        if not self.open:
            self.begin()
            if not self.open:
                return b""
        said: list[bytes] = []
        try:
            while chunk := self._object.read(_CHUNK):
                said.append(chunk)
            self.closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.closed = True
        return b"".join(said)

    def send(self, data: bytes) -> None:
        """Put this into records. Raises ssl.SSLError after the end."""
        view = memoryview(data)
        while view:
            view = view[self._object.write(view) :]

    def finish(self) -> None:
        """Say that nothing follows (close_notify); its answer is not waited for (RFC 8446 section 6.1)."""
        if self.open:
            try:
                self._object.unwrap()
            except ssl.SSLError:
                pass

    def outgoing(self) -> bytes:
        """Records for the peer."""
        return self._outgoing.read()

    def certificate(self) -> Mapping[str, object] | None:
        """The verified certificate of the peer, as `ssl.SSLSocket.getpeercert` gives it."""
        return self._object.getpeercert()
