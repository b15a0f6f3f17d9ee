"""Who guesses passwords: counted by source and user, and by source (domain rule 7.4c). Pure.

Of a source five *different* users that fail count, or thirty attempts: one device with a wrong password, or one that is
plugged in before it is provisioned, tries again and again, and its neighbours behind the same address did nothing.
Known and unknown users count alike, else a ban would tell who there is.
"""

from __future__ import annotations

from edge.inbound.steps.failures import LIMIT, Failures

ATTEMPTS = 30
GOOD_FOR = 86400.0
"""Seconds for which a source where somebody knew a password is not silenced as a whole."""
_GOOD_MAX = 20_000


class Guesses:
    """Failed and successful attempts; `source` is what the guard counts as one."""

    __slots__ = ("_attempts", "_good", "_pairs", "_users")

    def __init__(self) -> None:
        self._pairs = Failures()
        self._users = Failures(LIMIT)
        self._attempts = Failures(ATTEMPTS)
        self._good: dict[str, float] = {}

    def failed(self, source: str, user: str, now: float) -> tuple[float | None, float | None]:
        """A wrong password. The seconds for which the user is refused from there, and for which the whole source should
        be silenced; None where this one brings no ban."""
        pair = source, user
        first = not self._pairs.lately(pair, now)
        refused = self._pairs.failed(pair, now)
        whole = self._users.failed(source, now) if first else None
        attempts = self._attempts.failed(source, now)
        return refused, whole if whole is not None else attempts

    def insisted(self, source: str, now: float) -> float | None:
        """A user that is refused from this source tried again. Seconds for which to silence it, if so."""
        return self._attempts.failed(source, now)

    def refused(self, source: str, user: str, now: float) -> bool:
        """Whether this user is refused from this source."""
        return self._pairs.banned((source, user), now)

    def knew(self, source: str, user: str, now: float) -> None:
        """The right password: what this user failed before was a slip, and somebody at this source is good."""
        slips = self._pairs.lately((source, user), now)
        if slips:
            self._pairs.forgive((source, user), slips)
            self._users.forgive(source, 1)
            self._attempts.forgive(source, slips)
        self._good.pop(source, None)
        if len(self._good) >= _GOOD_MAX:
            for old in list(self._good)[: _GOOD_MAX // 16]:
                del self._good[old]
        self._good[source] = now

    def is_good(self, source: str, now: float) -> bool:
        """Whether somebody at this source knew a password lately."""
        at = self._good.get(source)
        return at is not None and now - at < GOOD_FOR

    def remembered(self) -> list[tuple[str, str]]:
        """Sources and users that failed there."""
        return [key for key in self._pairs.remembered() if isinstance(key, tuple)]

    def locked(self, now: float) -> list[tuple[str, str, float]]:
        """Sources, the users that are refused from there, and the seconds this has to go."""
        return [(*key, seconds) for key, seconds in self._pairs.bans(now) if isinstance(key, tuple)]

    def pardon(self, source: str, user: str | None = None) -> bool:
        """Forget what was counted against a user from a source, or against a source and all users from there; False
        where nothing was."""
        if user is not None:
            return self._pairs.pardon((source, user))
        pairs = [self._pairs.pardon(key) for key in self.remembered() if key[0] == source]
        return self.release(source) or any(pairs)

    def release(self, source: str) -> bool:
        """Forget what was counted against a source as a whole; False where nothing was."""
        users, attempts = self._users.pardon(source), self._attempts.pardon(source)
        return users or attempts
