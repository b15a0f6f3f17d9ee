"""Carriers that agree to T.38 and then send none: after two such faxes in a row theirs go over G.711 for a day
(domain rule 4.8.37). Pure."""

from __future__ import annotations

from typing import Final

STRIKES: Final = 2
OFF_SECONDS: Final = 24 * 3600.0


class T38Memory:
    """What faxes over T.38 taught, by carrier. Times are seconds on any one clock. A restart forgets it."""

    def __init__(self) -> None:
        self._silent: dict[str, int] = {}
        self._off_until: dict[str, float] = {}

    def usable(self, carrier: str, now: float) -> bool:
        """Whether T.38 is worth agreeing to."""
        return self._off_until.get(carrier, now) <= now

    def note(self, carrier: str, packets: int, now: float) -> bool:
        """A fax over T.38 is over; `packets`: UDPTL that came. True where this switches T.38 off."""
        if packets:
            self._silent.pop(carrier, None)
            return False
        silent = self._silent.get(carrier, 0) + 1
        if silent < STRIKES:
            self._silent[carrier] = silent
            return False
        self._silent.pop(carrier, None)
        self._off_until[carrier] = now + OFF_SECONDS
        return True
