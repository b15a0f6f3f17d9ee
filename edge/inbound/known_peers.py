"""The names of carriers and customers' PBXs by their addresses, for messages to operators."""

from __future__ import annotations

from collections.abc import Callable

from config.snapshot import Snapshot
from edge.carriers.sources import SourceIndex
from edge.sip.flow import Address


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
