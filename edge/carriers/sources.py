"""Who may send from where: an index of addresses and networks, as provisioning names them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Generic, TypeVar

from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Address
from edge.sip.uri import parse_hostport

T = TypeVar("T")


class SourceIndex(Generic[T]):
    """Owners of source addresses. Entries are `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32`, or with a port
    `192.0.2.1:5080`, `[2001:db8::1]:5080`."""

    __slots__ = ("_addresses", "_hosts", "_networks")

    def __init__(self, entries: Iterable[tuple[str, T]] = ()) -> None:
        """(source, owner) pairs. Raises ValueError where a source is no address, network or address with port."""
        self._addresses: dict[Address, list[T]] = {}
        self._hosts: dict[str, list[T]] = {}
        self._networks: list[tuple[IPv4Network | IPv6Network, T]] = []
        for source, owner in entries:
            self._add(source.strip(), owner)
        self._networks.sort(key=lambda entry: -entry[0].prefixlen)

    def find(self, remote: Address) -> list[T]:
        """Owners of the nearest entry: address with port, address, longest network; several where they share it."""
        if not (self._addresses or self._hosts or self._networks):
            return []
        owners = self._addresses.get(remote) or self._hosts.get(remote.host)
        if owners or not self._networks:
            return owners or []
        address = ip_address(remote.host.partition("%")[0])
        found: list[T] = []
        length = -1
        for network, owner in self._networks:
            if network.prefixlen < length:
                break
            if network.version == address.version and address in network:
                length = network.prefixlen
                found.append(owner)
        return found

    def _add(self, source: str, owner: T) -> None:
        try:
            network = ip_network(source, strict=False)
        except ValueError:
            try:
                host, port = parse_hostport(source)
                host = str(ip_address(host))
            except (RemoteProtocolError, ValueError):
                raise ValueError(f"source {source!r} is no IP address or network") from None
            if port is None:
                raise ValueError(f"source {source!r} is no IP address or network") from None
            self._addresses.setdefault(Address(host, port), []).append(owner)
            return
        if network.num_addresses == 1:
            self._hosts.setdefault(str(network.network_address), []).append(owner)
        else:
            self._networks.append((network, owner))
