"""Listening sockets across a change of the program in the same process (`sip-edge upgrade`): no datagram is lost and no
connection refused while the new program starts, for the kernel keeps them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from edge.sip.flow import Address

VARIABLE = "SIP_EDGE_SOCKETS"
_left: dict[str, int] | None = None


def leave(sockets: Iterable[tuple[str, Address, int]]) -> None:
    """Keep descriptors open for the program that takes the place of this one: transport, address, descriptor."""
    entries = []
    for transport, address, descriptor in sockets:
        os.set_inheritable(descriptor, True)
        entries.append(f"{_name(transport, address)}={descriptor}")
    os.environ[VARIABLE] = " ".join(entries)


def take(transport: str, address: Address) -> socket.socket | None:
    """The socket that the program before this one listened with; None where it had none there."""
    descriptor = _inherited().pop(_name(transport, address), None)
    if descriptor is None:
        return None
    os.set_inheritable(descriptor, False)
    try:
        return socket.socket(fileno=descriptor)
    except OSError:
        return None


def close_rest() -> None:
    """Close what nobody listens with any more."""
    for descriptor in _inherited().values():
        try:
            os.close(descriptor)
        except OSError:
            continue
    _inherited().clear()


def _inherited() -> dict[str, int]:
    global _left
    if _left is None:
        _left = {}
        for entry in os.environ.pop(VARIABLE, "").split():
            name, _, descriptor = entry.rpartition("=")
            if descriptor.isdigit():
                _left[name] = int(descriptor)
    return _left


def _name(transport: str, address: Address) -> str:
    return f"{transport}:{address}"
