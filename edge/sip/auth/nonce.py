"""Nonces that need no memory until they are used, and a bounded memory of what was used (RFC 7616 section 5.4)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import OrderedDict
from enum import Enum
from typing import Final

_HEAD: Final = 12  # milliseconds (8 bytes), running number (4)
_MAC: Final = 15  # so that the whole is 27 bytes: 36 characters without padding
_WINDOW: Final = 64  # nonce counts that may arrive out of order


class NonceVerdict(Enum):
    """What a nonce is worth. All but FRESH are owed a new challenge with `stale=true`."""

    FRESH = "fresh"
    STALE = "stale"
    """Too old, for another peer, or not of this process."""
    REPLAYED = "replayed"
    """This nonce and nonce count were used before."""


class Nonces:
    """Gives out nonces bound to a peer and a time, and takes each (nonce, nonce count) once.

    The state is one entry per nonce in use, `capacity` at most; where that is too few, older nonces become stale early
    and nothing is ever accepted twice.
    """

    __slots__ = ("_capacity", "_floor", "_lifetime", "_number", "_secret", "_used")

    def __init__(self, secret: bytes, lifetime: float = 300.0, capacity: int = 65536) -> None:
        """`secret`: at least 32 random bytes of this process; `lifetime`: seconds from issue to stale."""
        self._secret = secret
        self._lifetime = int(lifetime * 1000)
        self._capacity = capacity
        self._number = 0
        self._floor = -1  # nonces issued until then (ms) are stale unless they are known
        self._used: OrderedDict[str, tuple[int, int, int]] = OrderedDict()  # nonce → issued, highest nc, window

    def issue(self, binding: str, now: float) -> str:
        """A nonce for the peer that `binding` names (its IP address), `now` in monotonic seconds."""
        self._number = (self._number + 1) & 0xFFFFFFFF
        head = int(now * 1000).to_bytes(8, "big") + self._number.to_bytes(4, "big")
        return base64.b64encode(head + self._mac(head, binding)).decode()

    def genuine(self, nonce: str, binding: str) -> bool:
        """Whether `nonce` was given to this peer, however long ago: its sender hears us and is not forged."""
        return self._issued(nonce, binding) is not None

    def accept(self, nonce: str, binding: str, nc: str | None, now: float) -> NonceVerdict:
        """Use a nonce. Call it only after the digest was found right, so that strangers cannot use up nonces.

        `nc` is the nonce count as it came (eight hexadecimal digits); None, from peers without qop, is a first use.
        Counts may arrive out of order within a window of 64.
        """
        issued = self._issued(nonce, binding)
        moment = int(now * 1000)
        self._forget(moment)
        if issued is None or not 0 <= moment - issued <= self._lifetime:
            return NonceVerdict.STALE
        count = int(nc, 16) if nc is not None else 1
        known = self._used.get(nonce)
        if known is None:
            if issued <= self._floor:
                return NonceVerdict.STALE
            self._used[nonce] = issued, count, 1
            while len(self._used) > self._capacity:
                _, (oldest, _, _) = self._used.popitem(last=False)
                self._floor = max(self._floor, oldest)
            return NonceVerdict.FRESH
        _, highest, window = known
        if count > highest:
            window = (window << (count - highest) | 1) if count - highest < _WINDOW else 1
            self._used[nonce] = issued, count, window & (1 << _WINDOW) - 1
            return NonceVerdict.FRESH
        bit = 1 << (highest - count) if highest - count < _WINDOW else 0
        if not bit or window & bit:
            return NonceVerdict.REPLAYED
        self._used[nonce] = issued, highest, window | bit
        return NonceVerdict.FRESH

    def _forget(self, moment: int) -> None:
        # entries stand in order of first use; one that expires behind a younger one waits for it, within the capacity
        while self._used:
            issued = next(iter(self._used.values()))[0]
            if moment - issued <= self._lifetime:
                return
            self._used.popitem(last=False)

    def _issued(self, nonce: str, binding: str) -> int | None:
        try:
            raw = base64.b64decode(nonce, validate=True)
        except (binascii.Error, ValueError):
            return None
        if len(raw) != _HEAD + _MAC or not hmac.compare_digest(raw[_HEAD:], self._mac(raw[:_HEAD], binding)):
            return None
        return int.from_bytes(raw[:8], "big")

    def _mac(self, head: bytes, binding: str) -> bytes:
        return hmac.digest(self._secret, head + binding.encode(), hashlib.sha256)[:_MAC]
