"""Log lines that strangers can cause, a few a second: under a flood they would bury all others. Pure."""

from __future__ import annotations


class Sparing:
    """Lets `most` lines through in a second, and counts what was left out."""

    __slots__ = ("_left_out", "_lines", "_most", "_since")

    def __init__(self, most: int = 5) -> None:
        self._most = most
        self._since = 0.0
        self._lines = 0
        self._left_out = 0

    def line(self, now: float) -> int | None:
        """None: leave this line out. Otherwise write it, with how many were left out before it."""
        if now - self._since >= 1.0:
            self._since, self._lines = now, 0
        if self._lines >= self._most:
            self._left_out += 1
            return None
        self._lines += 1
        left_out, self._left_out = self._left_out, 0
        return left_out
