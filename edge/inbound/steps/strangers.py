"""Requests outside of dialogs that hear nothing (domain rule 7.4a): of whoever asks for a domain that is none of ours
over UDP, and, where the operator wants it, all but REGISTER of sources where nobody is registered."""

from __future__ import annotations

from edge.inbound.steps.identify import Identifier
from edge.sip.flow import Flow
from edge.sip.message import Request
from edge.transport.guard import Guard


class Strangers:
    """Says who is owed no answer. What costs nothing is asked first: calls of carriers and phones come here too."""

    def __init__(self, identifier: Identifier, guard: Guard, *, only_register: bool = False) -> None:
        self._identifier = identifier
        self._guard = guard
        self.only_register = only_register

    @property
    def possible(self) -> bool:
        """False: everybody is answered, nothing need be asked."""
        return self.only_register or bool(self._identifier.domains)

    def ignored(self, request: Request, flow: Flow, now: float) -> str | None:
        """Why this request hears nothing (a label of a metric); None where it is to be answered."""
        if self._guard.is_known(flow.remote.host, now) or self._identifier.shows_certificate(flow):
            return None
        if self.only_register and request.method != "REGISTER":
            return "stranger"
        if not flow.reliable and self._identifier.is_foreign(request):
            return "unknown-domain"
        return None
