"""Sources that try one user after the other without ever answering a challenge (domain rule 7.3). Pure.

An office whose phones all come up at once, after a power cut there or a restart here, asks for as many users before
the first of them has had time to answer. So a source that asked for many is only suspected, and what it does next
tells: where one answers its challenge rightly within `GRACE`, nobody sweeps there. Waiting gives a sweep nothing, since
all users are challenged alike, and the guard holds its rate.

The source of such requests may be forged, so what follows is short: a customer whose address was borrowed, and who has
no phone registered there yet, waits a minute.
"""

from __future__ import annotations

from array import array
from itertools import islice
from typing import Any

USERS = 20
WINDOW = 60.0
GRACE = 4.0
"""Seconds from the request for one user too many: time to repeat a lost one thrice (RFC 3261 section 17.1.2.1)."""
BAN = 60.0
"""Seconds; not prolonged by more of the same."""
_SOURCES_MAX = 20_000


class Sweeps:
    """Counts the users that a source asked for within `WINDOW` seconds; who authenticates begins anew."""

    __slots__ = ("_asked", "_suspected")

    def __init__(self) -> None:
        self._asked: dict[str, tuple[float, array[int]]] = {}  # users by hash: a set of names takes ten times the room
        self._suspected: dict[str, float] = {}

    def asked(self, source: str, user: str, now: float) -> bool:
        """A request for `user` came without credentials. True where the source had its time to answer and did not (and
        counting starts anew)."""
        since = self._suspected.get(source)
        if since is not None:
            if now - since < GRACE:
                return False
            del self._suspected[source]
            if now - since < WINDOW:
                return True
        found = self._asked.get(source)
        name = hash(user)
        if found is None or now - found[0] > WINDOW:
            self._asked.pop(source, None)
            _make_room(self._asked)
            self._asked[source] = now, array("q", (name,))
            return False
        users = found[1]
        if name not in users:
            users.append(name)
        if len(users) > USERS:
            del self._asked[source]
            _make_room(self._suspected)
            self._suspected[source] = now
        return False

    def answered(self, source: str) -> None:
        """Somebody at `source` knew a password."""
        self._asked.pop(source, None)
        self._suspected.pop(source, None)


def _make_room(table: dict[str, Any]) -> None:
    if len(table) >= _SOURCES_MAX:
        for old in list(islice(table, _SOURCES_MAX // 16)):
            del table[old]
