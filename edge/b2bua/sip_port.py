"""The real way out of a leg: driver, exchange and timers."""

from __future__ import annotations

from collections.abc import Callable

from edge.b2bua.port import ClientHandler, Timer
from edge.sip.flow import Flow
from edge.sip.ids import IdSource
from edge.sip.message import Request, Response
from edge.sip.transaction.key import TransactionId
from edge.sip.uri import format_host
from edge.transport.driver import Driver
from edge.transport.exchange import Exchange
from edge.transport.timers import Timers


class SipPort:
    """A LegPort over real flows. `on_final` hears of every INVITE that got its final response from us."""

    __slots__ = ("_driver", "_exchange", "_ids", "_timers", "on_final")

    def __init__(self, driver: Driver, exchange: Exchange, ids: IdSource) -> None:
        self._driver = driver
        self._exchange = exchange
        self._ids = ids
        self._timers = Timers()
        self.on_final: Callable[[TransactionId], None] = lambda tx: None

    @property
    def ids(self) -> IdSource:
        return self._ids

    def request(self, request: Request, flow: Flow, handler: ClientHandler) -> TransactionId:
        """See LegPort."""
        return self._exchange.request(request, flow, handler)

    def ack(self, request: Request, flow: Flow) -> None:
        """See LegPort."""
        self._driver.send_ack(request, flow)

    def cancel(self, tx: TransactionId, reason: str | None = None) -> None:
        """See LegPort."""
        self._driver.cancel(tx, reason)

    def respond(self, tx: TransactionId, response: Response) -> None:
        """See LegPort."""
        self._driver.respond(tx, response)
        if response.status >= 200:
            self.on_final(tx)

    def later(self, delay: float, callback: Callable[..., None], *arguments: object) -> Timer:
        """See LegPort."""
        return self._timers.later(delay, callback, *arguments)

    def contact(self, flow: Flow, user: str) -> str:
        """`sip:user@advertised`, with the transport where it is not UDP."""
        address = self._driver.advertised(flow)
        at = f"{user}@" if user else ""
        transport = "" if flow.transport == "udp" else f";transport={flow.transport}"
        return f"<sip:{at}{format_host(address.host)}:{address.port}{transport}>"
