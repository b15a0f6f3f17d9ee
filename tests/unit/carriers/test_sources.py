"""Source addresses and their owners."""

from __future__ import annotations

import pytest

from edge.carriers.sources import SourceIndex
from edge.sip.flow import Address

INDEX = SourceIndex([
    ("192.0.2.0/24", "net"),
    ("192.0.2.128/25", "half"),
    ("192.0.2.200", "host"),
    ("192.0.2.200:5080", "port"),
    ("2001:DB8::/32", "six"),
    ("[2001:db8::1]:5080", "six port"),
    ("198.51.100.1", "one"),
    ("198.51.100.1", "two"),
])  # fmt: skip


@pytest.mark.parametrize(
    ("host", "port", "owners"),
    [
        ("192.0.2.5", 5060, ["net"]),
        ("192.0.2.130", 5060, ["half"]),
        ("192.0.2.200", 5060, ["host"]),
        ("192.0.2.200", 5080, ["port"]),
        ("2001:db8:9::9", 5060, ["six"]),
        ("2001:db8::1", 5080, ["six port"]),
        ("198.51.100.1", 1, ["one", "two"]),
        ("203.0.113.1", 5060, []),
        ("fe80::1%eth0", 5060, []),
    ],
)
def test_nearest_entry_wins(host: str, port: int, owners: list[str]) -> None:
    """Address with port, address, then the longest network."""
    assert INDEX.find(Address(host, port)) == owners


@pytest.mark.parametrize("source", ["carrier.example", "192.0.2.300", "", "192.0.2.1:99999", "192.0.2.0/24:5060"])
def test_what_is_no_address_is_named(source: str) -> None:
    """Names are not sources: they would have to be looked up for every request."""
    with pytest.raises(ValueError, match="is no IP address or network"):
        SourceIndex([(source, "x")])
