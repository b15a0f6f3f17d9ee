"""Counters of failed authentications, and the bans that follow (domain rule 7.4c). Pure."""

from __future__ import annotations

from collections.abc import Hashable

LIMIT = 5
WINDOW = 60.0
BAN_FIRST = 900.0
BAN_MAX = 86400.0
_KEYS_MAX = 20_000


class _Record:
    __slots__ = ("bans", "times", "until")

    def __init__(self) -> None:
        self.times: list[float] = []
        self.until = 0.0
        self.bans = 0

    def quiet_since(self) -> float:
        return max(self.until, self.times[-1]) if self.times else self.until


class Failures:
    """Counts failures per key. `limit` within `WINDOW` seconds ban for `BAN_FIRST`, twice as long each further time.

    A key is forgotten after a day without a failure; memory is bounded: where too many keys fail at once, those
    that have been quiet longest go.
    """

    __slots__ = ("_limit", "_records")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._records: dict[Hashable, _Record] = {}

    def failed(self, key: Hashable, now: float) -> float | None:
        """Count a failure. Returns the seconds of a ban that it brings, None where it brings none."""
        if len(self._records) >= _KEYS_MAX:
            self._forget(now)
        record = self._records.pop(key, None) or _Record()
        self._records[key] = record  # at the end: the order is that of the last failure
        if record.until > now:
            return None
        if now - record.quiet_since() > BAN_MAX:
            record.bans = 0
        record.times = [t for t in record.times if now - t < WINDOW]
        record.times.append(now)
        if len(record.times) < self._limit:
            return None
        seconds: float = min(BAN_MAX, BAN_FIRST * 2**record.bans)
        record.bans = min(record.bans + 1, 10)
        record.until = now + seconds
        record.times = [now]
        return seconds

    def lately(self, key: Hashable, now: float) -> int:
        """Failures of this key within the window."""
        record = self._records.get(key)
        return 0 if record is None else sum(now - t < WINDOW for t in record.times)

    def forgive(self, key: Hashable, failures: int) -> None:
        """Take back the last `failures` of this key; bans that it had still make the next one longer."""
        record = self._records.get(key)
        if record is not None and failures:
            del record.times[-failures:]

    def remembered(self) -> list[Hashable]:
        """Keys that anything is remembered of."""
        return list(self._records)

    def banned(self, key: Hashable, now: float) -> bool:
        """Whether a ban of this key is running."""
        record = self._records.get(key)
        return record is not None and record.until > now

    def bans(self, now: float) -> list[tuple[Hashable, float]]:
        """Keys under a ban, and the seconds it has to go."""
        return [(key, record.until - now) for key, record in self._records.items() if record.until > now]

    def pardon(self, key: Hashable) -> bool:
        """Forget what this key did; False where it had done nothing."""
        return self._records.pop(key, None) is not None

    def _forget(self, now: float) -> None:
        quiet = [k for k, r in self._records.items() if now - r.quiet_since() > BAN_MAX]
        for key in quiet or list(self._records)[: _KEYS_MAX // 10]:
            del self._records[key]
