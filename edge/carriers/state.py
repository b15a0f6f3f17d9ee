"""How each carrier stands, as operators see it."""

from __future__ import annotations

from dataclasses import dataclass

from edge.carriers.hosts import Avoided
from edge.carriers.line import Line, hop_of
from edge.carriers.proxies import Proxies
from edge.sip.flow import Flow
from edge.sip.uri import Uri


@dataclass(frozen=True, slots=True)
class ProxyState:
    """One of a carrier's outbound proxies, for operators."""

    proxy: str
    """As provisioned; the carrier's domain where it has none."""
    state: str
    up: bool
    since: float
    detail: str
    flow: Flow | None
    hosts: tuple[tuple[str, str], ...] = ()
    """Addresses that its name leads to, each with why it is avoided now; empty where it is not."""


@dataclass(frozen=True, slots=True)
class CarrierState:
    """One carrier, for operators. Times are seconds on the driver's clock."""

    carrier: str
    mode: str
    state: str
    up: bool
    """Calls may be sent to it."""
    since: float
    detail: str
    status: int | None
    flow: Flow | None
    contact: Uri | None
    registered_until: float | None
    proxies: tuple[ProxyState, ...] = ()


def _hosts_of(line: Line, avoided: Avoided, now: float) -> tuple[tuple[str, str], ...]:
    transport = hop_of(line.carrier).transport or "udp"
    return tuple((str(at), avoided.why(transport, at, now)) for at in sorted(line.addresses))


def state_of(of: Proxies, avoided: Avoided, now: float) -> CarrierState:
    """How this carrier stands at `now`, in seconds on the driver's clock."""
    line = of.main
    return CarrierState(
        carrier=of.carrier.name,
        mode=of.carrier.mode,
        state=line.state,
        up=of.up,
        since=line.since,
        detail=of.detail,
        status=line.status,
        flow=line.flow,
        contact=line.contact,
        registered_until=line.registered_until,
        proxies=tuple(
            ProxyState(
                each.carrier.outbound_proxy or each.carrier.domain,
                each.state,
                each.up,
                each.since,
                each.detail,
                each.flow,
                _hosts_of(each, avoided, now),
            )
            for each in of.lines
        ),
    )
