"""Carriers and customers' PBXs by address: names for messages to operators, networks for the guard."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

from config.snapshot import Snapshot
from edge.carriers.sources import SourceIndex
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Address
from edge.sip.uri import parse_hostport
from edge.transport.guard import Network


class KnownPeers:
    """Who is at an address, by the provisioning; `carrier_at` knows those whose names were resolved."""

    def __init__(self, carrier_at: Callable[[str], bool]) -> None:
        self._carrier_at = carrier_at
        self._sources: SourceIndex[str] = SourceIndex()

    def apply(self, snapshot: Snapshot) -> None:
        """Take the sources of a new snapshot."""
        named = [(carrier.sources, f"carrier {name}") for name, carrier in snapshot.carriers.items()]
        for (account, name), trunk in snapshot.trunks.items():
            if trunk.mode == "static":
                named.append((trunk.sources, f"trunk {account}/{name}"))
        entries: list[tuple[str, str]] = []
        for sources, peer in named:
            for source in sources:
                try:
                    SourceIndex([(source, peer)])
                except ValueError:
                    continue  # the rooms that use it report it
                entries.append((source, peer))
        self._sources = SourceIndex(entries)

    def at(self, host: str) -> str | None:
        """`carrier NAME` or `trunk ACCOUNT/NAME`; None: a stranger."""
        found = self._sources.find(Address(host, 0))
        if found:
            return found[0]
        return "a carrier" if self._carrier_at(host) else None


def networks(snapshot: Snapshot) -> list[Network]:
    """Addresses that carriers and static trunks have in the provisioning, which the guard lets through."""
    found: list[Network] = []
    for sources in (peer.sources for peers in (snapshot.carriers, snapshot.trunks) for peer in peers.values()):
        for source in sources:
            try:
                found.append(_network(source))
            except (ValueError, RemoteProtocolError):
                continue  # the rooms that use it report what is no address at all
    return found


def _network(source: str) -> Network:
    try:
        return ip_network(source, strict=False)
    except ValueError:
        return ip_network(parse_hostport(source)[0])
