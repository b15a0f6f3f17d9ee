"""REGISTER: authenticate the sender, then let the registrar have it (RFC 3261 section 10.3)."""

from __future__ import annotations

from edge.b2bua.engine import Engine
from edge.inbound.steps.authenticate import Authenticated, Authenticator, Challenge
from edge.inbound.steps.identify import Identifier
from edge.sip.build import response_to
from edge.sip.causes import REFUSALS
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.message import Request
from edge.sip.transaction.key import TransactionId


class Registrations:
    """Takes REGISTER requests of seats and trunks."""

    def __init__(self, engine: Engine, identifier: Identifier, authenticator: Authenticator) -> None:
        self._engine = engine
        self._identifier = identifier
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
            engine.port.respond(tx, engine.registrar.handle(request, flow, result.who, now))
        elif isinstance(result, Challenge):
            if self._identifier.is_foreign(request) and not flow.reliable:
                engine.driver.ignore(tx)
            else:
                engine.port.respond(tx, result.response)
        else:
            status, _ = REFUSALS[result.reason.value]
            engine.port.respond(tx, response_to(request, result.status or status))
