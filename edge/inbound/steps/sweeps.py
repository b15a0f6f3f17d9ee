"""Sources that try one user after the other without ever answering a challenge (domain rule 7.3). Pure.

The source of such requests may be forged, so what follows is short: a customer whose address was borrowed, and who has
no phone registered there yet, waits a minute.
"""

from __future__ import annotations

from array import array
from itertools import islice

USERS = 20
WINDOW = 60.0
BAN = 60.0
"""Seconds; not prolonged by more of the same."""
_SOURCES_MAX = 20_000


class Sweeps:
    """Counts the users that a source asked for within `WINDOW` seconds; who authenticates begins anew."""

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked: dict[str, tuple[float, array[int]]] = {}  # users by hash: a set of names takes ten times the room

    def asked(self, source: str, user: str, now: float) -> bool:
        """A request for `user` came without credentials. True where it is one too many (and counting starts anew)."""
        found = self._asked.get(source)
        name = hash(user)
        if found is None or now - found[0] > WINDOW:
            self._asked.pop(source, None)
            if len(self._asked) >= _SOURCES_MAX:
                for old in list(islice(self._asked, _SOURCES_MAX // 16)):
                    del self._asked[old]
            self._asked[source] = now, array("q", (name,))
            return False
        users = found[1]
        if name not in users:
            users.append(name)
        if len(users) <= USERS:
            return False
        del self._asked[source]
        return True

    def answered(self, source: str) -> None:
        """Somebody at `source` knew a password."""
        self._asked.pop(source, None)
