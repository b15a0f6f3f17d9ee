"""Who has a TLS connection open to us and has shown a certificate. Pure."""

from __future__ import annotations

from edge.sip.flow import Flow


class CertifiedPeers:
    """Open connections by the names of their peers' certificates, and these names by address."""

    __slots__ = ("_flows", "_names")

    def __init__(self) -> None:
        self._flows: dict[str, list[Flow]] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, flow: Flow, names: tuple[str, ...]) -> None:
        """A connection is open whose peer's certificate names these."""
        for name in names:
            self._flows.setdefault(name, []).append(flow)
        self._names.setdefault(flow.remote.host, []).extend(names)

    def remove(self, flow: Flow, names: tuple[str, ...]) -> None:
        """A connection that was added is gone."""
        at = self._names[flow.remote.host]
        for name in names:
            self._flows[name].remove(flow)
            if not self._flows[name]:
                del self._flows[name]
            at.remove(name)
        if not at:
            del self._names[flow.remote.host]

    def opened_by(self, name: str) -> list[Flow]:
        """The connections of peers with this name, the oldest first."""
        return self._flows.get(name, [])

    def names_from(self, host: str) -> list[str]:
        """What the peers that are connected from an address are certified as."""
        return self._names.get(host, [])
