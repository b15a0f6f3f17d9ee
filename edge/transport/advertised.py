"""What peers are told of our addresses (Via, Contact)."""

from __future__ import annotations

import socket

from edge.sip.flow import Address, Flow, Transport

_ANY = frozenset(("0.0.0.0", "::"))
_MOST_OWN = 4096


class Advertised:
    """The address to tell of each listener, and where it listens on all of them, of this machine towards each peer."""

    __slots__ = ("_by_listener", "_own")

    def __init__(self) -> None:
        self._by_listener: dict[tuple[Transport, Address], Address] = {}
        self._own: dict[str, str] = {}

    def add(self, transport: Transport, bound: Address, told: Address) -> None:
        """A listener is bound; port 0 of `told` stands for its port."""
        self._by_listener[(transport, bound)] = Address(told.host, told.port or bound.port)

    def bound(self, transport: Transport) -> list[Address]:
        """The addresses that listeners of `transport` have."""
        return [address for kind, address in self._by_listener if kind == transport]

    def to(self, flow: Flow, listener: Address) -> Address:
        """What the peer of `flow` is told, which came to `listener`, or is reached from there."""
        found = self._by_listener.get((flow.transport, listener))
        if found is None:
            v6 = ":" in flow.local.host
            for (transport, bound), address in self._by_listener.items():
                if transport == flow.transport and (":" in bound.host) == v6:
                    found = address
                    break
            else:
                return flow.local
        if found.host in _ANY:
            return Address(self._own_address(flow), found.port)
        return found

    def _own_address(self, flow: Flow) -> str:
        """The address of this machine that the peer of `flow` can answer to."""
        if flow.local.host not in _ANY:
            return flow.local.host
        remote = flow.remote.host
        own = self._own.get(remote)
        if own is None:
            family = socket.AF_INET6 if ":" in remote else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                try:
                    probe.connect((remote, 9))
                    own = str(probe.getsockname()[0])
                except OSError:
                    own = flow.local.host
            if len(self._own) >= _MOST_OWN:
                self._own.clear()
            self._own[remote] = own
        return own
