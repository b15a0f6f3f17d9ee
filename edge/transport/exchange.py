"""Requests of ours and who hears their answers: one table from client transaction to handler.

Everything that sends requests (legs, carrier registrations, OPTIONS) goes through here, so that the dispatcher of
`edge.inbound` only sees what comes of itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
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

    __slots__ = ("_driver", "_handlers", "_linger", "_lingering")

    def __init__(self, driver: Driver, linger: float = 32.0) -> None:
        """`linger`: seconds for which a 2xx to an INVITE may come again (RFC 6026 timer M)."""
        self._driver = driver
        self._linger = linger
        self._handlers: dict[TransactionId, Handler] = {}
        self._lingering: deque[tuple[float, TransactionId]] = deque()

    def request(self, request: Request, flow: Flow, handler: Handler) -> TransactionId:
        """Send `request`; `handler` hears all that follows, never before this returns."""
        self._forget()
        tx = self._driver.send_request(request, flow)
        self._handlers[tx] = handler
        return tx

    def response(self, tx: TransactionId, response: Response) -> None:
        """A response came."""
        handler = self._handlers.get(tx)
        if handler is None:
            return
        if response.status >= 200:
            if response.status < 300 and response.cseq.method == "INVITE":
                self._lingering.append((self._driver.now() + self._linger, tx))
            else:
                del self._handlers[tx]
        handler.on_response(tx, response)

    def no_response(self, tx: TransactionId) -> None:
        """The transaction ended without a final response."""
        handler = self._handlers.pop(tx, None)
        if handler is not None:
            handler.on_no_response(tx)

    @property
    def waiting(self) -> int:
        """Requests that have a handler (for leak tests)."""
        self._forget()
        return len(self._handlers)

    def _forget(self) -> None:
        now = self._driver.now()
        while self._lingering and self._lingering[0][0] <= now:
            self._handlers.pop(self._lingering.popleft()[1], None)
