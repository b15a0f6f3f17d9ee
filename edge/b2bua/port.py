"""What a leg needs from outside: sending, timers, identifiers. The runner gives it for real, tests by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge.sip.flow import Flow
from edge.sip.ids import IdSource
from edge.sip.message import Request, Response
from edge.sip.transaction.key import TransactionId


class Timer(Protocol):
    """A running timer."""

    def cancel(self) -> None: ...

    def when(self) -> float:
        """When it is due, on the loop's clock."""
        ...


class ClientHandler(Protocol):
    """Hears what becomes of a request that was sent."""

    def on_response(self, tx: TransactionId, response: Response) -> None:
        """Each provisional and final response, and each retransmitted 2xx to an INVITE."""
        ...

    def on_no_response(self, tx: TransactionId) -> None:
        """The transaction timed out or its transport failed."""
        ...


class NextHosts(Protocol):
    """The hosts that an INVITE may go to, one after the other (RFC 3263 section 4.3)."""

    patience: float
    """Seconds for a host to answer while there is another."""

    @property
    def several(self) -> bool:
        """Whether there was more than one from the beginning."""
        ...

    @property
    def more(self) -> bool:
        """Whether there is another one to go on to."""
        ...

    def next(self, then: Callable[[Flow | None], None]) -> None:
        """Go on to the next host; `then` gets a flow, or None where none is left that can be had."""
        ...

    def silent(self, flow: Flow) -> None:
        """The host that was asked did not answer."""
        ...

    def refused(self, flow: Flow, retry_after: float | None) -> None:
        """The host that was asked said 503."""
        ...

    def heard(self, flow: Flow) -> None:
        """The host that was asked answered something."""
        ...


class LegPort(Protocol):
    """The way out of a leg."""

    @property
    def ids(self) -> IdSource: ...

    def request(self, request: Request, flow: Flow, handler: ClientHandler) -> TransactionId:
        """Send a request in a transaction of its own."""
        ...

    def ack(self, request: Request, flow: Flow) -> None:
        """Send the ACK of a 2xx."""
        ...

    def cancel(self, tx: TransactionId, reason: str | None = None) -> None:
        """CANCEL an INVITE of ours; `reason` is a Reason value."""
        ...

    def respond(self, tx: TransactionId, response: Response) -> None: ...

    def later(self, delay: float, callback: Callable[..., None], *arguments: object) -> Timer:
        """Call back with `arguments` after `delay` seconds."""
        ...

    def contact(self, flow: Flow, user: str) -> str:
        """A Contact value of ours that is reachable over `flow`."""
        ...
