"""Which digest algorithms to offer to whom (RFC 8760 section 2.3, domain rule 7.5). Pure.

The RFC would have every algorithm offered, best first. Stacks from before it give up at a challenge with SHA-256 in it,
in whatever place, instead of taking the MD5 one. They are known by name, or by going silent: who was offered both and
comes again without credentials is offered MD5 alone, where the operator accepts MD5 at all, and stays with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

MD5_ONLY_AGENTS = ("baresip v0.", "baresip v1.")
"""Beginnings of User-Agent values whose stacks refuse a challenge that also offers SHA-256."""

STICKY = 86400.0
"""Seconds for which MD5 stays the only offer to a device that answered nothing else."""
SILENCE = 600.0
"""Seconds within which an unanswered challenge is held against the next request."""
_DEVICES_MAX = 50_000
Device = tuple[str, str, str]
"""Source, user and User-Agent as the sender says them."""


class Offers:
    """Remembers who did not understand the whole offer."""

    __slots__ = ("_all", "_old", "_silent", "_simple")

    def __init__(self, algorithms: Sequence[str]) -> None:
        """`algorithms` best first, as configured."""
        self._all = tuple(algorithms)
        self._old = ("MD5",) if "MD5" in algorithms and len(algorithms) > 1 else self._all
        # by hash: strangers fill both tables, with names as long as they like
        self._silent: dict[int, float] = {}
        self._simple: dict[int, float] = {}

    def to(self, device: Device, now: float) -> tuple[str, ...]:
        """What a request without usable credentials is to be offered."""
        if self._old is self._all or device[2].startswith(MD5_ONLY_AGENTS):
            return self._old
        key = hash(device)
        since = self._simple.get(key)
        if since is not None and now - since < STICKY:
            return self._old
        asked = self._silent.pop(key, None)
        if asked is not None and now - asked < SILENCE:
            _remember(self._simple, key, now)
            return self._old
        _remember(self._silent, key, now)
        return self._all

    def answered(self, device: Device) -> None:
        """Credentials came: the device understood what it was offered last."""
        self._silent.pop(hash(device), None)


def _remember(table: dict[int, float], key: int, now: float) -> None:
    if len(table) >= _DEVICES_MAX:
        # many at once: the first of a dict is found slowly where those before it are gone
        for old in list(islice(table, _DEVICES_MAX // 16)):
            del table[old]
    table[key] = now
