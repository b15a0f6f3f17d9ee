"""Where messages come from and go to, as values without sockets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Transport = Literal["udp", "tcp", "tls"]


class Address(NamedTuple):
    """An IP address (text, IPv6 without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Flow(NamedTuple):
    """A way to a peer (RFC 5626): for UDP the local socket and the peer's address, else one connection.

    `connection` is 0 for UDP and the driver's running number of the connection for TCP and TLS. Flows are values:
    a UDP flow read back from a database after a restart reaches the peer again, a connection that is gone does not.
    """

    transport: Transport
    local: Address
    remote: Address
    connection: int = 0

    @property
    def reliable(self) -> bool:
        """True for TCP and TLS (RFC 3261 section 17: no retransmission)."""
        return self.transport != "udp"

    def __str__(self) -> str:
        return f"{self.transport}:{self.remote}"


@dataclass(frozen=True, slots=True)
class Hop:
    """A next hop that the driver turns into a flow: an address, or a name for RFC 3263 to resolve.

    `server_name` is what a TLS certificate must say and SNI carries: the service domain before SRV (RFC 5922).
    """

    transport: Transport | None
    host: str
    port: int | None
    server_name: str | None = None
