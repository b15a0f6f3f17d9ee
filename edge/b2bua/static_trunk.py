"""The way to a PBX that does not register: its address, or the connection that it holds open and is certified for."""

from __future__ import annotations

from config.model import Trunk
from edge.b2bua.engine import Reach
from edge.carriers.sources import SourceIndex
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Flow
from edge.sip.uri import Uri, parse_hostport
from edge.transport.certified import CertifiedPeers
from edge.transport.errors import ConnectError, ResolveError


async def static_way(reach: Reach, peers: CertifiedPeers, trunk: Trunk) -> tuple[Uri, Flow]:
    """The URI of a static trunk without a user, and a flow there. Raises ResolveError or ConnectError.

    To its `address` if it has one. A PBX with a certificate has to name itself so as a server too (RFC 5922), and is
    called over the connection that it opened (RFC 5923) where there is no address, or none that can be reached.
    """
    where = _address(trunk)
    certificate = trunk.certificate
    if certificate is None:
        if where is None:
            raise ConnectError("the static trunk has no source that is one address; give it an address")
        return where, await reach(where)
    try:
        if where is not None:
            return where, await reach(where, certificate)
        failure: ResolveError | ConnectError = ConnectError(
            f"{certificate} has no TLS connection open to us; give the trunk an address"
        )
    except (ResolveError, ConnectError) as error:
        failure = error
    allowed = SourceIndex((source, trunk) for source in trunk.sources)
    for flow in reversed(peers.opened_by(certificate)):
        if not trunk.sources or allowed.find(flow.remote):
            return where or Uri("sip", None, certificate), flow
    raise failure


def _address(trunk: Trunk) -> Uri | None:
    """Where calls to the trunk go, as provisioned; None: nowhere in particular."""
    try:
        if trunk.address is not None:
            return Uri.parse(trunk.address)
        if trunk.certificate is None and (source := next((s for s in trunk.sources if "/" not in s), None)) is not None:
            if source.count(":") > 1 and not source.startswith("["):
                return Uri("sip", None, source)
            host, port = parse_hostport(source)
            return Uri("sip", None, host, port)
    except RemoteProtocolError as error:
        raise ConnectError(f"the address of trunk {trunk.name} is no SIP URI: {error.detail}") from None
    return None
