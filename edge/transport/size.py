"""Requests that are too large for a datagram go over TCP (RFC 3261 section 18.1.1)."""

from __future__ import annotations

import asyncio

from edge.sip.flow import Address, Flow
from edge.transport.driver import Driver
from edge.transport.errors import ConnectError
from edge.transport.resolver import ResolvedHop

LARGEST_DATAGRAM = 1300
"""Bytes of a request, where the path MTU is not known."""
PATIENCE = 1.0
"""Seconds that a caller is kept waiting for a connection: some firewalls answer nothing."""
REMEMBERED = 600.0
"""Seconds for which a peer that takes no connection gets datagrams, however large."""
_MOST_REMEMBERED = 1000


class Sizes:
    """Which flow takes a request of some size; remembers who takes no TCP."""

    __slots__ = ("_driver", "_refused")

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._refused: dict[Address, float] = {}

    async def fitting(self, flow: Flow, size: int) -> Flow:
        """`flow`, or a connection to the same address where `size` bytes are too many for it and the peer takes one.

        Never fails: without a connection, a large datagram is what is left."""
        if flow.transport != "udp" or size <= LARGEST_DATAGRAM or not self._driver.bound("tcp"):
            return flow
        now = self._driver.now()
        if self._refused.get(flow.remote, 0.0) > now:
            return flow
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._driver.flow_to(ResolvedHop("tcp", flow.remote, flow.remote.host))
        except (ConnectError, TimeoutError):
            if len(self._refused) >= _MOST_REMEMBERED:
                self._refused.clear()
            self._refused[flow.remote] = now + REMEMBERED
            return flow
