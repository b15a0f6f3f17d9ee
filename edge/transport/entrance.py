"""The way of TLS peers into the edge: counted and limited before the handshake, which is the dear part.

Handshakes run side by side, so that slow ones hold up nobody; a peer that does not finish is dropped.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from edge.transport.tcp import StreamConnection, StreamLimits

_BATCH = 64  # connections accepted before other work of the loop gets its turn
_PAUSE = 0.5  # seconds without accepting when the process has no file descriptors left


class Doorkeeper(Protocol):
    """Decides who may shake hands."""

    limits: StreamLimits

    def may_enter(self, host: str) -> bool:
        """A peer wants to begin a handshake; True counts it until `entered`."""
        ...

    def entered(self, host: str, error: Exception | None) -> None:
        """The handshake is over, one way or the other."""
        ...


class Entrance:
    """A listening socket for TLS."""

    def __init__(
        self,
        keeper: Doorkeeper,
        sock: socket.socket,
        connection: Callable[[], StreamConnection],
    ) -> None:
        """`connection` makes what reads behind it."""
        self._keeper = keeper
        self._sock = sock
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop.add_reader(sock, self._accept)

    def close(self) -> None:
        """Accept nobody any more, and give up the handshakes that are under way."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()
        for task in self._tasks:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(_BATCH):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._sock)
                self._loop.call_later(_PAUSE, self._again)
                return
            sock.setblocking(False)
            host = str(peer[0])
            if not self._keeper.may_enter(host):
                sock.close()
                continue
            task = self._loop.create_task(self._shake_hands(sock, host))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _again(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock, self._accept)

    async def _shake_hands(self, sock: socket.socket, host: str) -> None:
        failure: Exception | None = None
        connection = self._connection()
        try:
            async with asyncio.timeout(self._keeper.limits.handshake):
                await self._loop.connect_accepted_socket(lambda: connection, sock)
                await connection.opened
        except OSError as error:  # SSLError and TimeoutError are such
            failure = error
        finally:
            if not connection.opened.done() or connection.opened.cancelled():
                connection.abort()
            self._keeper.entered(host, failure)
