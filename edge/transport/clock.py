"""The only reader of time and of randomness for identifiers."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for intervals, one for people and records."""

    def now(self) -> float:
        """Seconds, monotonic, of no particular origin."""
        ...

    def utcnow(self) -> datetime:
        """Wall clock, in UTC."""
        ...


class SystemClock:
    """The clocks of this machine."""

    __slots__ = ()

    def now(self) -> float:
        """CLOCK_MONOTONIC in seconds."""
        return time.monotonic()

    def utcnow(self) -> datetime:
        """CLOCK_REALTIME."""
        return datetime.now(UTC)  # noqa: TID251


class RandomIds:
    """Identifiers from the system's random source: 80 bits in 20 hexadecimal digits. Drawn in stock, since a call needs
    half a dozen and each draw is a system call; what is in stock was told to nobody."""

    __slots__ = ("_stock",)

    def __init__(self) -> None:
        self._stock: list[str] = []

    def token(self) -> str:
        """A fresh token."""
        if not self._stock:
            drawn = secrets.token_hex(10 * _IN_STOCK)
            self._stock = [drawn[start : start + 20] for start in range(0, len(drawn), 20)]
        return self._stock.pop()


_IN_STOCK = 64
