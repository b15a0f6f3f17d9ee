"""Requests of ours and who hears their answers: one table from client transaction to handler.

Everything that sends requests (legs, carrier registrations, OPTIONS) goes through here, so that the dispatcher of
`edge.inbound` only sees what comes of itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Protocol

from edge.sip.flow import Flow
from edge.sip.message import Request, Response
from edge.sip.transaction.key import TransactionId
from edge.transport.driver import Driver


class Handler(Protocol):
    """Hears what becomes of a request that was sent."""

    def on_response(self, tx: TransactionId, response: Response) -> None:
        """Each provisional and final response, and each retransmitted 2xx to an INVITE."""
        ...

    def on_no_response(self, tx: TransactionId) -> None:
        """The transaction timed out or its transport failed."""
        ...


class Exchange:
    """Sends requests and hands their responses to whoever sent them."""

    __slots__ = ("_answered", "_driver", "_handlers", "_linger", "_lingering", "_pending", "_quiet")

    def __init__(self, driver: Driver, linger: float = 32.0) -> None:
        """`linger`: seconds for which a 2xx to an INVITE may come again (RFC 6026 timer M)."""
        self._driver = driver
        self._linger = linger
        self._handlers: dict[TransactionId, Handler] = {}
        self._lingering: deque[tuple[float, TransactionId]] = deque()
        self._answered: set[TransactionId] = set()
        self._pending = 0
        self._quiet = asyncio.Event()

    def request(self, request: Request, flow: Flow, handler: Handler) -> TransactionId:
        """Send `request`; `handler` hears all that follows, never before this returns."""
        self.forget()
        tx = self._driver.send_request(request, flow)
        self._handlers[tx] = handler
        self._pending += 1
        return tx

    def handler(self, tx: TransactionId) -> Handler | None:
        """Who hears of a request."""
        return self._handlers.get(tx)

    def adopt(self, tx: TransactionId, handler: Handler, *, answered: bool = False) -> None:
        """A request of an earlier process goes on; `answered`: its 2xx has come and may come again."""
        self._handlers[tx] = handler
        if answered:
            self._answered.add(tx)
            self._lingering.append((self._driver.now() + self._linger, tx))
        else:
            self._pending += 1

    def response(self, tx: TransactionId, response: Response) -> None:
        """A response came."""
        handler = self._handlers.get(tx)
        if handler is None:
            return
        final = response.status >= 200 and tx not in self._answered
        if final:
            if response.status < 300 and response.cseq.method == "INVITE":
                self._answered.add(tx)
                self._lingering.append((self._driver.now() + self._linger, tx))
            else:
                del self._handlers[tx]
        handler.on_response(tx, response)
        if final:
            self._done()

    def no_response(self, tx: TransactionId) -> None:
        """The transaction ended without a final response."""
        handler = self._handlers.pop(tx, None)
        if handler is not None and tx not in self._answered:
            handler.on_no_response(tx)
            self._done()

    async def quiet(self, seconds: float) -> None:
        """Until no request waits for its final response, but not longer than `seconds`."""
        self._quiet.clear()
        if self._pending:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._quiet.wait()

    def _done(self) -> None:
        self._pending -= 1
        if not self._pending:
            self._quiet.set()

    @property
    def waiting(self) -> int:
        """Requests that have a handler (for leak tests)."""
        self.forget()
        return len(self._handlers)

    def forget(self) -> None:
        """Let go of who heard a 2xx that cannot come again any more."""
        now = self._driver.now()
        while self._lingering and self._lingering[0][0] <= now:
            tx = self._lingering.popleft()[1]
            self._handlers.pop(tx, None)
            self._answered.discard(tx)
