"""REGISTER: authenticate the sender, then let the registrar have it (RFC 3261 section 10.3)."""

from __future__ import annotations

from collections.abc import Callable

from edge.b2bua.engine import Engine
from edge.inbound.steps.authenticate import Authenticated, Authenticator, Challenge
from edge.sip.build import response_to
from edge.sip.causes import REFUSALS
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.message import Request
from edge.sip.transaction.key import TransactionId


class Registrations:
    """Takes REGISTER requests of seats and trunks."""

    def __init__(
        self,
        engine: Engine,
        authenticator: Authenticator,
        when_stored: Callable[[Callable[[], None]], None],
    ) -> None:
        """`when_stored` calls back once the bindings as they are outlive this process."""
        self._engine = engine
        self._when_stored = when_stored
        self._authenticator = authenticator

    def register(self, tx: TransactionId, request: Request, flow: Flow) -> None:
        """A REGISTER came."""
        engine = self._engine
        now = engine.driver.now()
        try:
            result = self._authenticator.authenticate(request, flow, engine.snapshot(), now)
        except RemoteProtocolError as error:
            engine.port.respond(tx, response_to(request, error.status or 400))
            return
        if isinstance(result, Authenticated):
            response, lasting = engine.registrar.handle(request, flow, result.who, now)
            if lasting:
                # who heard the 200 believes that it holds until it ends, whatever happens to this process
                self._when_stored(lambda: engine.port.respond(tx, response))
            else:
                engine.port.respond(tx, response)
        elif isinstance(result, Challenge):
            engine.port.respond(tx, result.response)
        else:
            status, _ = REFUSALS[result.reason.value]
            engine.port.respond(tx, response_to(request, result.status or status))
