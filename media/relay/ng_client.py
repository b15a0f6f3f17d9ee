"""One rtpengine over UDP: commands with their answers, repeated until they are answered or time is up.

A datagram that is repeated keeps its cookie, and rtpengine answers a cookie it knows without doing the command again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import monotonic
from typing import Final, cast

from media.relay import ng_messages as ng
from media.relay.ng_messages import Plain, Value
from media.relay.port import RelayError

_FIRST_REPEAT: Final = 0.3
"""Seconds; doubles."""


class Unanswered(RelayError):
    """The instance did not answer in time, or its port is closed (`refused`: there is no such process any more)."""

    def __init__(self, detail: str, *, refused: bool = False) -> None:
        super().__init__(detail)
        self.refused = refused


class _Asked:
    __slots__ = ("data", "done", "repeat", "sent", "timer")

    def __init__(self, data: bytes, sent: float, done: asyncio.Future[dict[bytes, Value]]) -> None:
        self.data = data
        self.done = done
        self.sent = sent
        self.repeat = _FIRST_REPEAT
        self.timer: asyncio.TimerHandle | None = None


class NgClient(asyncio.DatagramProtocol):
    """A socket towards one instance (`name` as it stands in the settings); `limit` seconds for an answer.

    `observe(seconds)` is told how long each command took.
    """

    def __init__(self, name: str, limit: float, observe: Callable[[float], None] | None = None) -> None:
        self._name = name
        self._limit = limit
        self._observe = observe
        self._transport: asyncio.DatagramTransport | None = None
        self._asked: dict[bytes, _Asked] = {}
        # rtpengine knows cookies of all clients in one table
        self._prefix = os.urandom(6).hex().encode()
        self._count = 0

    async def open(self, host: str, port: int) -> None:
        """Make the socket. Raises OSError (a name that cannot be resolved)."""
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, remote_addr=(host, port))

    def close(self) -> None:
        """Fail what is under way and close the socket."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
        self._fail(Unanswered(f"rtpengine {self._name}: the connection was closed here"))

    def ask(self, command: str, **fields: Plain) -> asyncio.Future[dict[bytes, Value]]:
        """Send a command; the future gives the answer, or Unanswered. Raises RelayError."""
        transport = self._transport
        if transport is None:
            raise Unanswered(f"rtpengine {self._name}: not connected")
        self._count += 1
        cookie = b"%b_%d" % (self._prefix, self._count)
        data = ng.command(cookie, command, **fields)
        loop = asyncio.get_running_loop()
        asked = _Asked(data, monotonic(), loop.create_future())
        self._asked[cookie] = asked
        asked.timer = loop.call_later(asked.repeat, self._repeat, cookie)
        transport.sendto(data)
        return asked.done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            cookie, answer = ng.read(data)
        except ng.BadMessage:
            return
        asked = self._asked.pop(cookie, None)
        if asked is None:
            return  # the answer to a repetition
        if asked.timer is not None:
            asked.timer.cancel()
        if self._observe is not None:
            self._observe(monotonic() - asked.sent)
        if not asked.done.done():
            asked.done.set_result(answer)

    def error_received(self, exc: Exception) -> None:
        refused = isinstance(exc, ConnectionRefusedError)
        self._fail(Unanswered(f"rtpengine {self._name}: {exc}", refused=refused))

    def _repeat(self, cookie: bytes) -> None:
        asked = self._asked[cookie]
        left = asked.sent + self._limit - monotonic()
        if left <= 0:
            del self._asked[cookie]
            if not asked.done.done():
                asked.done.set_exception(Unanswered(f"rtpengine {self._name} did not answer within {self._limit:g} s"))
            return
        if self._transport is not None:
            self._transport.sendto(asked.data)
        asked.repeat *= 2
        asked.timer = asyncio.get_running_loop().call_later(min(asked.repeat, left), self._repeat, cookie)

    def _fail(self, error: Unanswered) -> None:
        pending, self._asked = self._asked, {}
        for asked in pending.values():
            if asked.timer is not None:
                asked.timer.cancel()
            if not asked.done.done():
                asked.done.set_exception(error)
                # nobody may be waiting any more
                asked.done.exception()
