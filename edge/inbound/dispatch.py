"""What the driver's events mean and who hears them: the only handler of the driver."""

from __future__ import annotations

from edge.b2bua.description import SDP
from edge.b2bua.engine import Engine
from edge.b2bua.leg import SUPPORTED
from edge.inbound.admission import UNDERSTOOD, Admission
from edge.inbound.registrations import Registrations
from edge.inbound.sparing import Sparing
from edge.inbound.steps.strangers import Strangers
from edge.observability.logging import get_logger
from edge.sip.build import response_to
from edge.sip.events import (
    AckReceived,
    BadMessage,
    CancelReceived,
    Event,
    FlowClosed,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from edge.transport.exchange import Exchange

ALLOWED = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, PRACK, REGISTER"
"""What is understood outside of dialogs, and of strangers: no texts, no subscriptions, no transfers."""

log = get_logger("inbound")


class Dispatch:
    """Hands each event of the SIP core to its room."""

    def __init__(
        self,
        engine: Engine,
        exchange: Exchange,
        admission: Admission,
        registrations: Registrations,
        strangers: Strangers,
    ) -> None:
        self._engine = engine
        self._exchange = exchange
        self._admission = admission
        self._registrations = registrations
        self._strangers = strangers
        self._malformed = Sparing()

    def on_event(self, event: Event) -> None:
        """An event of the endpoint."""
        kind = type(event)
        if kind is ResponseReceived:
            self._exchange.response(event.tx, event.response)  # type: ignore[union-attr]
        elif kind is RequestReceived:
            self._request(event)  # type: ignore[arg-type]
        elif kind is AckReceived:
            leg = self._engine.calls.leg(event.request)  # type: ignore[union-attr]
            if leg is not None:
                leg.on_ack(event.request)  # type: ignore[union-attr]
        elif kind is CancelReceived:
            self._admission.cancelled(event.tx, event.request)  # type: ignore[union-attr]
        elif kind is TransactionTimedOut or kind is TransportFailed:
            self._exchange.no_response(event.tx)  # type: ignore[union-attr]
        elif kind is FlowClosed:
            self._engine.registrar.flow_closed(event.flow)  # type: ignore[union-attr]
            self._engine.carriers.flow_closed(event.flow)  # type: ignore[union-attr]
        elif kind is BadMessage:
            self._engine.metrics.malformed()
            left_out = self._malformed.line(self._engine.driver.now())
            if left_out is not None:
                more = {"left_out": left_out} if left_out else {}
                log.info("message.malformed", source=str(event.flow), detail=str(event.error), **more)  # type: ignore[union-attr]

    def _request(self, event: RequestReceived) -> None:
        request = event.request
        method = request.method
        if request.to.tag is not None:
            leg = self._engine.calls.leg(request)
            if leg is not None:
                leg.on_request(event.tx, request, event.flow)
            elif not self._ignored(event):
                self._answer(event, 481)
        elif self._ignored(event):
            return
        elif method == "INVITE":
            self._admission.invite(event.tx, request, event.flow)
        elif method == "REGISTER":
            self._registrations.register(event.tx, request, event.flow)
        elif strange := [token for token in request.headers.tokens("require") if token not in UNDERSTOOD]:
            self._answer(event, 420, ("Unsupported", ", ".join(strange)))
        elif method == "OPTIONS" and self._admission.draining:
            self._answer(event, 503, ("Retry-After", "5"))  # whoever chooses among edges chooses another
        elif method == "OPTIONS":
            self._answer(event, 200, ("Allow", ALLOWED), ("Accept", SDP), ("Supported", SUPPORTED))
        elif method in ("BYE", "UPDATE", "INFO", "PRACK", "NOTIFY"):
            self._answer(event, 481)
        else:
            self._answer(event, 405, ("Allow", ALLOWED))

    def _ignored(self, event: RequestReceived) -> bool:
        """A stranger that hears nothing."""
        engine = self._engine
        if not self._strangers.possible:
            return False
        why = self._strangers.ignored(event.request, event.flow, engine.driver.now())
        if why is None:
            return False
        engine.metrics.dropped(why)
        engine.driver.ignore(event.tx)
        if event.request.method == "INVITE" and event.request.to.tag is None:
            engine.calls.books.begin("invite")
            engine.calls.books.end("ignored")
        return True

    def _answer(self, event: RequestReceived, status: int, *headers: tuple[str, str]) -> None:
        response = response_to(event.request, status, None, self._engine.port.ids.token())
        for name, value in headers:
            response.headers.add(name, value)
        self._engine.port.respond(event.tx, response)
