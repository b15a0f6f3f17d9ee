"""The address at which a carrier reaches us: ours, or what its answers say we look like (RFC 3581, T1.28). Pure."""

from __future__ import annotations

from ipaddress import ip_address

from edge.sip.fields.via import Via
from edge.sip.flow import Address, Flow


class OwnAddress:
    """Our address on one flow; `learn` is off where the operator has named the address."""

    __slots__ = ("_flow", "_learn", "_learned", "_own")

    def __init__(self, learn: bool) -> None:
        self._learn = learn
        self._own = Address("", 0)
        self._learned: Address | None = None
        self._flow: Flow | None = None

    @property
    def address(self) -> Address:
        """What belongs into Contact."""
        return self._learned or self._own

    def opened(self, flow: Flow, own: Address) -> None:
        """`flow` is used from now on; `own` is our address on it as we know it."""
        if self._flow is None or _socket(flow) != _socket(self._flow):
            self._learned = None  # another socket or connection has another port behind the NAT
        self._flow, self._own = flow, own

    def seen(self, via: Via) -> None:
        """The top Via of a response, with what the peer saw in `received` and `rport`."""
        if not self._learn or self._flow is None:
            return
        port = via.params.get("rport")
        if not (port and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            return
        host = via.params.get("received")
        address = self.address
        if host is None or _same_host(host, address.host):
            # The port of a connection is one of our own choosing, that of our listener is the right one without NAT.
            if self._flow.transport == "udp":
                address = Address(address.host, int(port))
        elif not _private(host) or _private(address.host):  # else a proxy shows us an inner address of the carrier
            address = Address(host, int(port))
        self._learned = address if address != self._own else None


def _socket(flow: Flow) -> tuple[str, Address, int]:
    return flow.transport, flow.local, flow.connection


def _same_host(a: str, b: str) -> bool:
    try:
        return a == b or ip_address(a) == ip_address(b)
    except ValueError:
        return False


def _private(host: str) -> bool:
    try:
        return ip_address(host).is_private
    except ValueError:
        return False
