"""Who sends this request, before any password: a carrier, a PBX known by its address or its certificate, or somebody
who has to say so.

Carriers and static trunks are known by where they send from or by what they show over TLS, never by From or To (domain
rules 1.3-16, T1.25). A trunk with a certificate is known by that alone: its sources only say where it may come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from config.model import Carrier, Trunk
from config.snapshot import Snapshot
from edge.carriers.sources import SourceIndex
from edge.observability.logging import get_logger
from edge.observability.seldom import Seldom
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


class Certificates(Protocol):
    """What is needed of the driver."""

    def certified(self, flow: Flow) -> tuple[str, ...]:
        """What the certificate names that the peer of a connection has shown."""
        ...

    def now(self) -> float: ...


class Identifier:
    """Knows senders by where they send from, and by the certificates that they show.

    `registered` says whether a seat or trunk is registered over a flow. `domains` are the hosts that requests may name
    in their Request-URI in lower case; none: all.
    """

    def __init__(
        self,
        carriers: CarrierSources,
        registered: Callable[[Flow], object],
        certificates: Certificates,
        domains: frozenset[str] = frozenset(),
    ) -> None:
        self._carriers = carriers
        self._registered = registered
        self._certificates = certificates
        self.domains = domains
        self._trunks: SourceIndex[Trunk] = SourceIndex()
        self._certified: dict[str, tuple[Trunk, SourceIndex[Trunk]]] = {}
        self._wanted: SourceIndex[Trunk] = SourceIndex()
        """Where trunks with certificates come from."""
        self._seldom = Seldom()

    def apply(self, snapshot: Snapshot) -> None:
        """Take the static trunks of a new snapshot."""
        entries: list[tuple[str, Trunk]] = []
        certified: dict[str, tuple[Trunk, SourceIndex[Trunk]]] = {}
        wanted: list[tuple[str, Trunk]] = []
        for trunk in snapshot.trunks.values():
            if trunk.mode == "static":
                good: list[tuple[str, Trunk]] = []
                for source in trunk.sources:
                    try:
                        SourceIndex([(source, trunk)])
                    except ValueError as error:
                        _log.error("trunk.bad_source", trunk=trunk.name, account=trunk.account, detail=str(error))
                    else:
                        good.append((source, trunk))
                if trunk.certificate is None:
                    entries += good
                elif good or not trunk.sources:
                    certified[trunk.certificate] = (trunk, SourceIndex(good))
                    wanted += good
        self._trunks = SourceIndex(entries)
        self._certified = certified
        self._wanted = SourceIndex(wanted)

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
        trunk = self._by_certificate(flow) if self._certified else None
        if trunk is not None:
            return trunk
        carrier = self._carriers.identify(request, flow)
        if carrier is not None:
            return carrier
        trunks = self._trunks.find(flow.remote)
        if trunks:
            return trunks[0]
        if self._certified:
            self._say_what_is_wrong(flow)
        return None

    def shows_certificate(self, flow: Flow) -> bool:
        """Whether the peer of a connection shows the certificate of a trunk."""
        return flow.transport == "tls" and self.is_certified(self._certificates.certified(flow))

    def is_certified(self, names: Iterable[str]) -> bool:
        """Whether a trunk is known by a certificate with one of these names."""
        return any(name in self._certified for name in names)

    def _by_certificate(self, flow: Flow) -> Trunk | None:
        if flow.transport != "tls":
            return None
        for name in self._certificates.certified(flow):
            trunk, sources = self._certified.get(name, (None, None))
            if trunk is not None and sources is not None and (not trunk.sources or sources.find(flow.remote)):
                return trunk
        return None

    def _say_what_is_wrong(self, flow: Flow) -> None:
        """A PBX that is not the trunk that somebody thinks it is: from a trunk's address, or with a certificate of the
        right authority."""
        names = self._certificates.certified(flow)
        wanted = self._wanted.find(flow.remote)
        if not (names or wanted) or not self._seldom(flow.remote.host, self._certificates.now()):
            return
        trunk, _ = next((self._certified[name] for name in names if name in self._certified), (None, None))
        if trunk is not None:
            remedy = f"add {flow.remote.host} to the sources of trunk {trunk.name} of account {trunk.account}"
        elif flow.transport != "tls":
            remedy = "let the PBX use TLS, and show its certificate"
        elif not names:
            remedy = "let the PBX show its certificate, to a listener whose client_certificates is optional or required"
        else:
            remedy = "set certificate of the trunk to a name of this one, or give the PBX the certificate of the trunk"
        _log.warning(
            "trunk.wrong_certificate",
            source=str(flow),
            certified=list(names[:5]),
            wanted=[f"{t.account}/{t.name}: {t.certificate}" for t in wanted[:5]],
            remedy=remedy,
        )

    def is_foreign(self, request: Request) -> bool:
        """Whether the request asks for a domain that is none of ours: scanners do, and are owed nothing (rule 7.4a)."""
        if not self.domains:
            return False
        try:
            uri = request.parsed_uri()
        except RemoteProtocolError:
            return False
        return uri.scheme != "tel" and uri.host.lower() not in self.domains
