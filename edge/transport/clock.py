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
    """Identifiers from the system's random source: 80 bits in 20 hexadecimal digits."""

    __slots__ = ()

    def token(self) -> str:
        """A fresh token."""
        return secrets.token_hex(10)
