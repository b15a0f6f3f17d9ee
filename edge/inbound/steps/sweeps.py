"""Sources that try one user after the other without ever answering a challenge (domain rule 7.3). Pure.

The source of such requests may be forged, so what follows is short: a customer whose address was borrowed, and who has
no phone registered there yet, waits a minute.
"""

from __future__ import annotations

USERS = 20
WINDOW = 60.0
BAN = 60.0
"""Seconds; not prolonged by more of the same."""
_SOURCES_MAX = 20_000


class Sweeps:
    """Counts the users that a source asked for within `WINDOW` seconds; who authenticates begins anew."""

    __slots__ = ("_asked",)

    def __init__(self) -> None:
        self._asked: dict[str, tuple[float, set[str]]] = {}

    def asked(self, source: str, user: str, now: float) -> bool:
        """A request for `user` came without credentials. True where it is one too many (and counting starts anew)."""
        found = self._asked.get(source)
        if found is None or now - found[0] > WINDOW:
            if len(self._asked) >= _SOURCES_MAX:
                del self._asked[next(iter(self._asked))]
            self._asked.pop(source, None)
            self._asked[source] = now, {user}
            return False
        users = found[1]
        users.add(user)
        if len(users) <= USERS:
            return False
        del self._asked[source]
        return True

    def answered(self, source: str) -> None:
        """Somebody at `source` knew a password."""
        self._asked.pop(source, None)
