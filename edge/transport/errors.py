"""What goes wrong between us and the network, in words for the log and the operator."""

from __future__ import annotations

import errno

from edge.sip.flow import Address


class ListenError(Exception):
    """An address could not be bound; the text names it, the cause and the remedy."""

    def __init__(self, transport: str, address: Address, cause: str, remedy: str) -> None:
        super().__init__(f"cannot listen on {transport} {address}: {cause}; {remedy}")
        self.address = address

    @classmethod
    def of(cls, transport: str, address: Address, error: OSError) -> ListenError:
        """From what the system said."""
        return cls(transport, address, *_listen_cause(error, address))


class ConnectError(Exception):
    """No flow to a next hop could be had; the text says why."""


class ResolveError(Exception):
    """A name leads to no address. `temporary`: the servers did not answer, rather than saying there is none."""

    def __init__(self, detail: str, temporary: bool = False) -> None:
        super().__init__(detail)
        self.temporary = temporary


def _listen_cause(error: OSError, address: Address) -> tuple[str, str]:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                "the port is taken by another process",
                f"stop it (`ss -lnp 'sport = :{address.port}'` shows it) or choose another port",
            )
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address", "choose one that `ip address` shows, or 0.0.0.0 or [::] for all"
        case errno.EACCES | errno.EPERM:
            return (
                "no permission",
                "choose a port above 1023, or give the service CAP_NET_BIND_SERVICE",
            )
        case errno.EAFNOSUPPORT:
            return (
                "this machine has no IPv6" if ":" in address.host else "this machine has no IPv4",
                "remove the listener",
            )
        case _:
            return error.strerror or str(error), "check the address"
