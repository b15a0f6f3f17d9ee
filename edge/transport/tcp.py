"""Connections, plain or TLS: bytes in both directions, never waited for."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from errno import ECONNRESET
from typing import Protocol, cast

from edge.sip.flow import Address, Flow, Transport
from edge.transport.certificate import certified_names
from edge.transport.handover import KeptConnection
from edge.transport.tls_channel import TlsChannel

PING = b"\r\n\r\n"
"""Keep-alive of RFC 5626 section 4.4.1; the peer answers with one CRLF."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Limits of connections.

    `connections` open at once, `write_buffer` bytes a peer may leave unread before it is dropped, `first_message`
    seconds until a connection that was opened to us must have brought a message, `connect` seconds for a connection
    of ours to open (TLS included), `pong` seconds for the answer to a keep-alive from a peer that answered before,
    `handshake` seconds for a peer to finish its TLS handshake, `handshakes` of all peers at once, `silence` seconds
    until a peer that says nothing is probed, and until one that acknowledges nothing is given up, `message` seconds
    from the first byte of a message to its last, `idle` seconds of silence that a stranger may keep.
    """

    connections: int = 20_000
    write_buffer: int = 1024 * 1024
    first_message: float = 32.0
    connect: float = 5.0
    pong: float = 10.0
    handshake: float = 10.0
    handshakes: int = 1000
    silence: float = 30.0
    message: float = 32.0
    idle: float = 300.0


class StreamUser(Protocol):
    """Hears of connections."""

    limits: StreamLimits

    def connection_made(self, connection: StreamConnection) -> bool:
        """A connection is open; False: it is not wanted."""
        ...

    def stream_received(self, connection: StreamConnection, data: bytes) -> None: ...

    def connection_lost(self, connection: StreamConnection) -> None: ...


class StreamConnection(asyncio.Protocol):
    """One TCP or TLS connection. `flow` is set once its socket is there."""

    flow: Flow
    names: tuple[str, ...] = ()
    """What the verified certificate of a TLS peer names (RFC 5922); nothing where it showed none."""

    def __init__(
        self,
        user: StreamUser,
        transport: Transport,
        number: int,
        listener: Address | None,
        channel: TlsChannel | None = None,
        accept: Callable[[tuple[str, ...]], bool] | None = None,
        kept: KeptConnection | None = None,
    ) -> None:
        """`listener`: the address that it was accepted at, None for connections of ours. `channel`: its TLS.

        `accept` judges the names of the peer's certificate before anything is read; False drops the connection.
        `kept`: the program before this one had it, and what it knew of it.
        """
        self.listener = listener
        self.number = number
        self.closed = False
        self._kind: Transport = transport
        self._user = user
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._wanted = False
        self._first: asyncio.TimerHandle | None = None
        self._keep_alive: asyncio.TimerHandle | None = None
        self._pong: asyncio.TimerHandle | None = None
        self._pongs_seen = False
        self._accept = accept
        self._channel = channel
        self.kept = kept
        self.opened: asyncio.Future[None] = self._loop.create_future()
        """Done when it is open, its handshake included. Raises OSError, of which ssl.SSLError is one."""
        self.opened.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.heard_at = 0.0
        """When bytes came last, on the driver's clock."""
        self._unfinished = 0
        self._rest: asyncio.TimerHandle | None = None

    # from the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        if self.kept is not None:
            self.flow, self.names = self.kept.flow, self.kept.names
            self._begin()
            return
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer or not own:  # it went away before we looked
            self.abort()
            return
        self.flow = Flow(self._kind, Address(own[0], own[1]), Address(peer[0], peer[1]), self.number)
        _keep_watch(transport.get_extra_info("socket"), self._user.limits.silence)
        if self._channel is None:
            self._begin()
            return
        try:
            self._channel.begin()
        except ssl.SSLError as error:
            self._fail(error)
        transport.write(self._channel.outgoing())

    def _begin(self) -> None:
        """It is open: is it wanted?"""
        if not self.opened.done():
            self.opened.set_result(None)
        if self._channel is not None:
            self.names = certified_names(self._channel.certificate())
        if self._accept is not None and not self._accept(self.names):
            self.abort()
            return
        self._wanted = self._user.connection_made(self)
        if not self._wanted:
            self.abort()
            return
        if self.listener is not None and (self.kept is None or not self.kept.spoke):
            self._first = self._loop.call_later(self._user.limits.first_message, self.close)

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        channel = self._channel
        if channel is None:
            self._user.stream_received(self, data)
            return
        was_open = channel.open
        try:
            said = channel.receive(data)
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._flush()
        if channel.open and not was_open:
            self._begin()
        if said and not self.closed:
            self._user.stream_received(self, said)
        if channel.closed and not self.closed:
            self.close()

    def _flush(self) -> None:
        """Write what TLS has for the peer."""
        if self._channel is not None and self._transport is not None and (records := self._channel.outgoing()):
            self._transport.write(records)

    def _fail(self, error: ssl.SSLError) -> None:
        """TLS has failed: the peer hears why, and no more."""
        self._flush()
        if not self.opened.done():
            self.opened.set_exception(error)
        self.closed = True
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if not self.opened.done():
            self.opened.set_exception(ConnectionResetError(ECONNRESET, "closed before it was open"))
        for handle in (self._first, self._keep_alive, self._pong, self._rest):
            if handle is not None:
                handle.cancel()
        if self._wanted:
            self._user.connection_lost(self)

    # from the driver

    def send(self, data: bytes) -> bool:
        """Write; False where it is closed. A peer that does not read is dropped, not waited for."""
        transport = self._transport
        if transport is None or self.closed or transport.is_closing():
            return False
        if self._channel is None:
            transport.write(data)
        else:
            self._channel.send(data)
            transport.write(self._channel.outgoing())
        if transport.get_write_buffer_size() > self._user.limits.write_buffer:
            self.abort()
            return False
        return True

    @property
    def unsent(self) -> bool:
        """Something that was sent waits for the peer to read."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    @property
    def spoke(self) -> bool:
        """The peer has sent a message."""
        return self._first is None

    def release(self) -> tuple[int, TlsChannel | None]:
        """Its descriptor and its TLS, for whoever goes on with it; it does nothing more here."""
        assert self._transport is not None
        self.closed = True
        return int(self._transport.get_extra_info("socket").fileno()), self._channel

    def message_received(self) -> None:
        """The peer has shown that it speaks SIP."""
        if self._first is not None:
            self._first.cancel()
            self._first = None

    def unfinished(self, number: int) -> None:
        """Message `number` of this connection has begun and is not there yet; 0: none. Who sends one byte a minute is
        not waited for."""
        if number == self._unfinished:
            return
        self._unfinished = number
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if number:
            self._rest = self._loop.call_later(self._user.limits.message, self.close)

    def keep_alive(self, seconds: float | None) -> None:
        """Send a keep-alive each 5/6 to 1 times `seconds`; None stops it.

        A peer that once answered and does so no more has gone, and the connection is dropped (RFC 5626 section 4.4.1).
        """
        if self._keep_alive is not None:
            self._keep_alive.cancel()
            self._keep_alive = None
        if seconds is not None and not self.closed:
            wait = random.uniform(seconds * 5 / 6, seconds)
            self._keep_alive = self._loop.call_later(wait, self._ping, seconds)

    def pong_received(self) -> None:
        """The peer answered a keep-alive."""
        self._pongs_seen = True
        if self._pong is not None:
            self._pong.cancel()
            self._pong = None

    def close(self) -> None:
        """Close once everything is written; nothing more is read."""
        self.closed = True
        if self._transport is not None:
            if self._channel is not None and not self._transport.is_closing():
                self._channel.finish()
                self._flush()
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def _ping(self, seconds: float) -> None:
        if self.send(PING):
            if self._pongs_seen and self._pong is None:
                self._pong = self._loop.call_later(self._user.limits.pong, self.abort)
            self.keep_alive(seconds)


def _keep_watch(sock: socket.socket | None, seconds: float) -> None:
    """Let the kernel find peers that vanished without a word (RFC 5482): it drops those who do not acknowledge what was
    sent for so long, if only the probes that follow on as long a silence."""
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(seconds)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, int(seconds / 3)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
