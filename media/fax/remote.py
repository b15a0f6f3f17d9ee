"""Where media go: what SDP said, until something comes from elsewhere first (symmetric RTP and UDPTL, RFC 4961). Pure.

After that only from there. When SDP names another place, packets of the old one are still on their way: they must not
bind us to what was left. What SDP names is always listened to.
"""

from __future__ import annotations

from typing import Final

_STRAGGLERS: Final = 50
"""Packets of the place that was left which are not believed: a second of G.711."""


class Remote:
    """The far end of one transport."""

    __slots__ = ("_latched", "_left", "_said", "_stragglers", "address")

    def __init__(self) -> None:
        self._said: tuple[str, int] | None = None
        self._left: tuple[str, int] | None = None
        self._stragglers = 0
        self._latched = False
        self.address: tuple[str, int] | None = None
        """Where to send; None while nobody said."""

    def expect(self, host: str, port: int) -> None:
        """What SDP says (again). The same address again changes nothing."""
        if self._said != (host, port):
            self._left = self.address
            self._stragglers = _STRAGGLERS
            self._said = self.address = (host, port)
            self._latched = False

    def accepts(self, source: tuple[str, int]) -> bool:
        """Whether a packet of this source is for us: the first one decides, unless SDP names its source."""
        if source == self._said:
            return True
        if self._latched:
            return source == self.address
        if source == self._left and self._stragglers:
            self._stragglers -= 1
            return False
        return True

    def latch(self, source: tuple[str, int]) -> None:
        """A good packet came from here."""
        self._latched = True
        self.address = source
