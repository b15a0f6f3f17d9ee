"""Which carrier a request is from."""

from __future__ import annotations

from collections.abc import Iterable

from config.model import Carrier
from edge.carriers.line import hop_of
from edge.carriers.proxies import Proxies
from edge.carriers.registration import line_token
from edge.carriers.sources import SourceIndex
from edge.observability.logging import get_logger
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Address, Flow
from edge.sip.message import Request

_log = get_logger("carriers")


class Senders:
    """The senders that count as a carrier's."""

    def __init__(self, carriers: Iterable[Proxies] = ()) -> None:
        """Made anew with every change of `carriers`; changes are rare, and there are few carriers."""
        by_flow: dict[Flow, list[Proxies]] = {}
        by_address: dict[Address, list[Proxies]] = {}
        by_host: dict[str, list[Proxies]] = {}
        entries: list[tuple[str, Proxies]] = []
        for line in sorted(carriers, key=lambda c: (c.carrier.priority, c.carrier.name)):
            if line.carrier.mode == "register":
                for flow in {each.flow for each in line.lines if each.flow is not None}:
                    by_flow.setdefault(flow, []).append(line)
            addresses = frozenset[Address]().union(*(each.addresses for each in line.lines))
            for address in addresses:
                by_address.setdefault(address, []).append(line)
            for host in {a.host for a in addresses}:
                by_host.setdefault(host, []).append(line)
            for source in line.carrier.sources:
                try:
                    SourceIndex([(source, line)])
                except ValueError as error:
                    _log.error("carrier.bad_source", carrier=line.carrier.name, detail=str(error))
                else:
                    entries.append((source, line))
        self._by_flow, self._by_address, self._by_host = by_flow, by_address, by_host
        self._sources = SourceIndex(entries)

    def registered_over(self, request: Request, flow: Flow) -> Carrier | None:
        """The carrier that we are registered with over this very flow (T1.25)."""
        lines = self._by_flow.get(flow)
        return _choose(lines, request).carrier if lines else None

    def identify(self, request: Request, flow: Flow) -> Carrier | None:
        """The carrier that may send this request from there, None for strangers (T1.25).

        By registered flow; by an address its next hop resolved to; by such a host with another port, over a connection
        or where the Request-URI is the Contact that we registered there; by the sources that provisioning names.
        """
        lines = self._by_flow.get(flow) or self._by_address.get(flow.remote)
        if not lines:
            lines = self._sources.find(flow.remote)
        if not lines:
            hosts = self._by_host.get(flow.remote.host, ())
            lines = [c for c in hosts if _any_port(c.carrier, flow) or _is_called(c, request)]
        return _choose(lines, request).carrier if lines else None

    def at(self, host: str) -> bool:
        """Whether a carrier is at this address, as far as its next hops were resolved."""
        return host in self._by_host


def _any_port(carrier: Carrier, flow: Flow) -> bool:
    """Peers open connections from ports of their choosing; carriers known by address alone may use any."""
    if carrier.mode == "static" and not carrier.sources:
        return True
    return flow.reliable and hop_of(carrier).transport == flow.transport


def _choose(lines: Iterable[Proxies], request: Request) -> Proxies:
    """Of several carriers behind one address, the one that the Request-URI is meant for, else the first."""
    candidates = list(lines)
    if len(candidates) == 1:
        return candidates[0]
    return next((c for c in candidates if _is_called(c, request)), candidates[0])


def _is_called(of: Proxies, request: Request) -> bool:
    """Whether the Request-URI is our Contact at this carrier: our mark is in it, or the user that we registered."""
    try:
        uri = request.parsed_uri()
    except RemoteProtocolError:
        return False
    mark = uri.params.get("line")
    if mark is not None:
        return any(mark == line_token(of.carrier, nth) for nth in range(len(of.lines)))
    return of.carrier.mode == "register" and uri.decoded_user == of.carrier.username
