"""What carriers at work have in common, whether we register with them or they know us by our address."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Protocol, cast

from config.model import Carrier
from edge.carriers.ears import Ears
from edge.carriers.hosts import Avoided
from edge.carriers.login import Login
from edge.carriers.registration import proxy_route
from edge.sip.flow import Address, Flow, Hop, Transport
from edge.sip.headers import Headers
from edge.sip.ids import IdSource
from edge.sip.message import Request
from edge.sip.uri import Uri
from edge.transport.driver import Driver
from edge.transport.exchange import Exchange
from edge.transport.resolver import Resolver


@dataclass(frozen=True, slots=True)
class Ways:
    """How lines reach the network."""

    driver: Driver
    exchange: Exchange
    resolver: Resolver
    ids: IdSource
    jitter: Callable[[], float]
    """Numbers from 0 to 1."""
    spawn: Callable[[Coroutine[None, None, None]], None]
    """Runs a task in the background and reports its faults."""
    moved: Callable[[str, Flow, Flow], None]
    """Told of the carrier, the flow of a registration that was lost, and of the one that took its place."""
    learn_address: bool
    """Contact takes the address that carriers see us at (RFC 3581)."""
    avoided: Avoided
    """What is known of the hosts behind carriers' names."""


class Line(Protocol):
    """One carrier at work over one outbound proxy."""

    carrier: Carrier
    ears: Ears
    addresses: frozenset[Address]
    """What the carrier's next hop resolved to."""

    @property
    def up(self) -> bool:
        """Calls may be sent to it."""
        ...

    @property
    def realms(self) -> frozenset[str]:
        """Realms that challenged what this line sent."""
        ...

    @property
    def state(self) -> str: ...

    @property
    def detail(self) -> str: ...

    @property
    def status(self) -> int | None: ...

    @property
    def since(self) -> float: ...

    @property
    def flow(self) -> Flow | None:
        """The registered flow, or the one that answered last."""
        ...

    @property
    def registered_until(self) -> float | None: ...

    @property
    def contact(self) -> Uri | None:
        """Our Contact as the carrier knows it."""
        ...

    @property
    def routes(self) -> tuple[str, ...]:
        """Route values for requests outside of dialogs."""
        ...

    def start(self) -> None: ...

    def stop(self, done: Callable[[], None]) -> None:
        """End; `done` is called when nothing more will be sent."""
        ...

    def flow_closed(self, flow: Flow) -> None: ...

    def call_unanswered(self) -> None:
        """A call that was sent over it got nothing back at all."""
        ...


def login_of(carrier: Carrier, ids: IdSource) -> Login:
    """The credentials of a carrier, with nonces of their own."""
    return Login(carrier.auth_username or carrier.username or "", carrier.password, ids)


def hop_of(carrier: Carrier) -> Hop:
    """Where requests to the carrier go: its outbound proxy, else its domain.

    The TLS server name is the name that was configured, before SRV (T1.5).
    """
    uri = proxy_route(carrier) if carrier.outbound_proxy else Uri.parse(f"sip:{carrier.domain}")
    transport = "tls" if uri.scheme == "sips" else uri.transport or carrier.transport
    return Hop(cast(Transport, transport), uri.params.get("maddr") or uri.host, uri.port, uri.host)


def options_request(carrier: Carrier, routes: tuple[str, ...], ids: IdSource) -> Request:
    """OPTIONS to the carrier's domain."""
    domain = Uri.parse(f"sip:{carrier.domain}")
    headers = Headers([("Route", route) for route in routes])
    headers.add("Max-Forwards", "70")
    headers.add("From", f"<{domain}>;tag={ids.token()}")
    headers.add("To", f"<{domain}>")
    headers.add("Call-ID", ids.token())
    headers.add("CSeq", "1 OPTIONS")
    headers.add("Accept", "application/sdp")
    return Request("OPTIONS", str(domain), headers)


def proxy_routes(carrier: Carrier) -> tuple[str, ...]:
    """Route values where the carrier has an outbound proxy."""
    return (f"<{proxy_route(carrier)}>",) if carrier.outbound_proxy else ()
