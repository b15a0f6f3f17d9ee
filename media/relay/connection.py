"""The two connections to a relay process: commands with their replies in order, and events.

Commands are pipelined: a batch goes out in one write and its replies are counted off in the order they come. What has
time waits a moment for a batch that has none, for each write wakes two processes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import cast

from media.relay.port import RelayError


class _Batch:
    __slots__ = ("done", "replies", "sent", "wanted")

    def __init__(self, wanted: int, sent: float, done: asyncio.Future[list[str]]) -> None:
        self.wanted = wanted
        self.sent = sent
        self.done = done
        self.replies: list[str] = []


class CommandConnection(asyncio.Protocol):
    """A command connection. A relay that leaves a batch unanswered for `limit` seconds is cut off, for its replies
    could no longer be told apart.

    `on_lost(self, reason)` is called once; `observe(seconds)` with the time each batch took.
    """

    def __init__(
        self,
        limit: float,
        on_lost: Callable[[CommandConnection, str], None],
        observe: Callable[[float], None] | None = None,
    ) -> None:
        self._limit = limit
        self._on_lost = on_lost
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._batches: deque[_Batch] = deque()
        self._rest = b""
        self._unsent: list[tuple[bytes, _Batch]] = []
        self._departure: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reason = "the relay closed the connection"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, commands: bytes, wanted: int, within: float = 0.0) -> asyncio.Future[list[str]]:
        """Send `wanted` complete commands; the future gives their replies, or RelayError. Raises RelayError.

        `within`: seconds that they may wait for others to go with; none are sent before those that came first."""
        transport = self._transport
        if transport is None:
            raise RelayError(f"the media relay is away: {self._reason}")
        now = monotonic()
        done: asyncio.Future[list[str]] = self._loop.create_future()
        batch = _Batch(wanted, now, done)
        self._batches.append(batch)
        if self._timer is None:
            self._timer = self._loop.call_later(self._limit, self._check)
        if within:
            self._unsent.append((commands, batch))
            if self._departure is None:
                self._departure = self._loop.call_later(within, self._depart)
        elif self._unsent:
            self._write_unsent(commands)
        else:
            transport.write(commands)
        return done

    def _depart(self) -> None:
        self._departure = None
        if self._unsent:
            self._write_unsent(b"")

    def _write_unsent(self, last: bytes) -> None:
        unsent, self._unsent = self._unsent, []
        now = monotonic()
        for _, batch in unsent:
            batch.sent = now
        if self._transport is not None:
            self._transport.write(b"".join([commands for commands, _ in unsent]) + last)

    def data_received(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if not self._batches:
                self._fail("the relay sent a reply that nobody asked for")
                return
            batch = self._batches[0]
            batch.replies.append(line.decode("ascii", "replace"))
            if len(batch.replies) == batch.wanted:
                self._batches.popleft()
                if self._observe is not None:
                    self._observe(monotonic() - batch.sent)
                if not batch.done.done():
                    batch.done.set_result(batch.replies)

    def _check(self) -> None:
        self._timer = None
        if self._batches:
            left = self._batches[0].sent + self._limit - monotonic()
            if left <= 0:
                self._fail(f"the relay did not answer within {self._limit:g} s")
            else:
                self._timer = self._loop.call_later(left, self._check)

    def _fail(self, reason: str) -> None:
        self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for timer in (self._timer, self._departure):
            if timer is not None:
                timer.cancel()
        self._timer = self._departure = None
        self._unsent.clear()
        batches, self._batches = self._batches, deque()
        for batch in batches:
            if not batch.done.done():
                batch.done.set_exception(RelayError(f"the media relay went away: {self._reason}"))
        self._on_lost(self, self._reason)

    def close(self) -> None:
        """Drop the connection; batches under way fail."""
        self._fail("the connection was closed here")


class EventConnection(asyncio.Protocol):
    """The event connection: `greeting` gives what the relay said of itself, `on_event(tag)` each timeout thereafter.

    `on_lost(self)` is called when the relay has ended, for it closes this connection at no other time.
    """

    def __init__(self, on_event: Callable[[str], None], on_lost: Callable[[EventConnection], None]) -> None:
        self.greeting: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self._on_event = on_event
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for raw in lines:
            line = raw.decode("ascii", "replace")
            if self.greeting.done():
                self._on_event(line)
            else:
                word, *pairs = line.split()
                if word != "ready":
                    self.greeting.set_exception(RelayError(f"what answers is no media relay: {line[:80]!r}"))
                    return
                self.greeting.set_result(dict(pair.partition("=")[::2] for pair in pairs))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.greeting.done():
            self.greeting.set_exception(RelayError("the relay closed the connection before it was ready"))
            # Nobody may be waiting any more.
            self.greeting.exception()
        self._on_lost(self)

    def close(self) -> None:
        """Drop the connection; `on_lost` follows."""
        if self._transport is not None:
            self._transport.abort()
