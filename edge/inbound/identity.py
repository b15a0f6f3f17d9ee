"""Who places a call: the steps `identify` and `authenticate` made into one answer for admission."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from config.model import Carrier, Seat, Trunk
from config.snapshot import Snapshot
from dialplan.model import Reason, Refusal, Source, SourceKind
from edge.b2bua.leg import Authorize
from edge.inbound.steps.authenticate import Authenticated, Authenticator, Challenge
from edge.inbound.steps.identify import Identifier
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.message import Request
from edge.sip.value import quick


@quick
@dataclass(frozen=True, slots=True)
class Known:
    """The sender of a call. `authorize` answers challenges to what we send it in the call's dialog."""

    source: Source
    authorize: Authorize | None = None


Who = Known | Challenge | Refusal


class Identify:
    """Answers who sent an INVITE. The snapshot is asked for at each call, since it may be swapped meanwhile."""

    def __init__(
        self,
        identifier: Identifier,
        authenticator: Authenticator,
        snapshot: Callable[[], Snapshot],
        authorize: Callable[[str], Authorize],
        now: Callable[[], float],
    ) -> None:
        """`authorize` gives a carrier's credentials by its name."""
        self._identifier = identifier
        self._authenticator = authenticator
        self._snapshot = snapshot
        self._authorize = authorize
        self._now = now

    def __call__(self, request: Request, flow: Flow) -> Who:
        """The sender, a challenge to send, or a refusal."""
        sender: Carrier | Trunk | Seat | None = self._identifier.identify(request, flow)
        if sender is None:
            try:
                result = self._authenticator.authenticate(request, flow, self._snapshot(), self._now())
            except RemoteProtocolError as error:
                return Refusal(Reason.BAD_REQUEST, error.detail, status=error.status)
            if not isinstance(result, Authenticated):
                return result
            sender = result.who
        if isinstance(sender, Carrier):
            return Known(Source(SourceKind.CARRIER, sender.name), self._authorize(sender.name))
        if isinstance(sender, Trunk):
            return Known(Source(SourceKind.TRUNK, sender.name, sender.account))
        return Known(Source(SourceKind.SEAT, sender.username, sender.account))
