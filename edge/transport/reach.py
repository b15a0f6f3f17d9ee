"""From a SIP URI to a flow that leads there (RFC 3261 section 8.1.2, RFC 3263)."""

from __future__ import annotations

from typing import cast

from edge.sip.flow import Flow, Hop, Transport
from edge.sip.uri import Uri
from edge.transport.driver import Driver
from edge.transport.errors import ConnectError, ResolveError
from edge.transport.resolver import Resolver


async def reach(driver: Driver, resolver: Resolver, uri: Uri, certificate: str | None = None) -> Flow:
    """The first address of `uri` that can be reached. `certificate`: over TLS, and what the certificate has to name
    instead of the URI's host (RFC 5922). Raises ResolveError or ConnectError, each naming the host."""
    transport: str | None = uri.transport
    if uri.scheme == "sips" or certificate is not None:
        transport = "tls"
    if transport not in (None, "udp", "tcp", "tls"):
        raise ConnectError(f"{uri.host}: transport {transport!r} is not supported")
    host = uri.params.get("maddr") or uri.host
    hops = await resolver.resolve(Hop(cast("Transport | None", transport), host, uri.port, certificate))
    failure: ConnectError | None = None
    for hop in hops:
        try:
            return await driver.flow_to(hop)
        except ConnectError as error:
            failure = error
    raise failure or ResolveError(f"{host} has no address", temporary=False)
