"""Who sends this request, before any password: a carrier, a PBX known by its address, or somebody who has to say so.

Carriers and static trunks are known by where they send from, never by From or To (domain rules 1.3-16, T1.25).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from config.model import Carrier, Trunk
from config.snapshot import Snapshot
from edge.carriers.sources import SourceIndex
from edge.observability.logging import get_logger
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.message import Request

_log = get_logger("identify")


class CarrierSources(Protocol):
    """What is needed of `edge.carriers`."""

    def registered_over(self, request: Request, flow: Flow) -> Carrier | None:
        """The carrier that we are registered with over this very flow."""
        ...

    def identify(self, request: Request, flow: Flow) -> Carrier | None:
        """The carrier that may send this request from there."""
        ...


class Identifier:
    """Knows senders by where they send from.

    `registered` says whether a seat or trunk is registered over a flow. `domains` are the hosts that requests may name
    in their Request-URI in lower case; none: all.
    """

    def __init__(
        self, carriers: CarrierSources, registered: Callable[[Flow], object], domains: frozenset[str] = frozenset()
    ) -> None:
        self._carriers = carriers
        self._registered = registered
        self._domains = domains
        self._trunks: SourceIndex[Trunk] = SourceIndex()

    def apply(self, snapshot: Snapshot) -> None:
        """Take the static trunks of a new snapshot."""
        entries: list[tuple[str, Trunk]] = []
        for trunk in snapshot.trunks.values():
            if trunk.mode == "static":
                for source in trunk.sources:
                    try:
                        SourceIndex([(source, trunk)])
                    except ValueError as error:
                        _log.error("trunk.bad_source", trunk=trunk.name, account=trunk.account, detail=str(error))
                    else:
                        entries.append((source, trunk))
        self._trunks = SourceIndex(entries)

    def identify(self, request: Request, flow: Flow) -> Carrier | Trunk | None:
        """The carrier or static trunk that sent this, None where the sender has to authenticate."""
        carrier = self._carriers.registered_over(request, flow)
        if carrier is not None:
            return carrier
        # Who registers with us, or brings a password, is a customer, even behind the address of a carrier.
        if request.method == "REGISTER" or self._registered(flow):
            return None
        if "authorization" in request.headers or "proxy-authorization" in request.headers:
            return None
        carrier = self._carriers.identify(request, flow)
        if carrier is not None:
            return carrier
        trunks = self._trunks.find(flow.remote)
        return trunks[0] if trunks else None

    @property
    def has_domains(self) -> bool:
        """Whether there are domains that requests have to name."""
        return bool(self._domains)

    def is_foreign(self, request: Request) -> bool:
        """Whether the request asks for a domain that is none of ours: scanners do, and are owed nothing (rule 7.4a)."""
        if not self._domains:
            return False
        try:
            uri = request.parsed_uri()
        except RemoteProtocolError:
            return False
        return uri.scheme != "tel" and uri.host.lower() not in self._domains
