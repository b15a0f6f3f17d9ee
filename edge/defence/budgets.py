"""Budgets of calls and minutes out to carriers, per account, trunk and seat (domain rule 7.4g).

A call is counted where a carrier is about to be called for it, however it came to that: dialled, forwarded or
transferred; emergency calls never. Windows slide in steps of five minutes. On the way of a call dictionaries are looked
up; everything else happens every ten seconds (`edge.defence.usage`). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from config.model import NO_BUDGET, Budget
from config.snapshot import Snapshot
from dialplan.model import Source, SourceKind
from edge.cdr.record import CallRecord
from edge.defence.patterns import is_night

BUCKET = 300
"""Seconds."""
_HOUR, _DAY = 3600 // BUCKET, 86400 // BUCKET

Key = tuple[str, str]
"""Level (account, trunk, seat) and its key: the id, `account/name`, the username."""
Counts = tuple[int, int, int, int]
"""Calls in the last hour and day, seconds in the last hour and day."""


class Spent(NamedTuple):
    """A budget that is used up."""

    level: str
    key: str
    what: str
    """`calls_per_hour` and so on."""
    limit: int
    used: int

    def __str__(self) -> str:
        return f"{self.level} {self.key}: {self.used} of {self.limit} {self.what.replace('_', ' ')}"


@dataclass(frozen=True, slots=True)
class Row:
    """What one edge used in one bucket (number of five minutes since 1970)."""

    key: Key
    bucket: int
    calls: int
    seconds: int


class _Usage:
    __slots__ = ("dirty", "others", "own", "sums")

    def __init__(self) -> None:
        self.own: dict[int, list[int]] = {}
        self.others: dict[tuple[str, int], tuple[int, int]] = {}
        self.sums: list[int] = [0, 0, 0, 0]
        self.dirty: set[int] = set()

    def add(self, bucket: int, calls: int, seconds: int) -> None:
        found = self.own.setdefault(bucket, [0, 0])
        found[0] += calls
        found[1] += seconds
        self.dirty.add(bucket)
        sums = self.sums
        sums[0] += calls
        sums[1] += calls
        sums[2] += seconds
        sums[3] += seconds

    def settle(self, bucket: int) -> None:
        """Forget what is older than a day, and sum up anew."""
        day, hour = bucket - _DAY, bucket - _HOUR
        for old in [b for b in self.own if b <= day]:
            del self.own[old]
        for other in [k for k in self.others if k[1] <= day]:
            del self.others[other]
        sums = [0, 0, 0, 0]
        parts: Iterable[tuple[int, int, int]] = [
            *((b, calls, seconds) for b, (calls, seconds) in self.own.items()),
            *((b, calls, seconds) for (_, b), (calls, seconds) in self.others.items()),
        ]
        for b, calls, seconds in parts:
            sums[1] += calls
            sums[3] += seconds
            if b > hour:
                sums[0] += calls
                sums[2] += seconds
        self.sums = sums


@dataclass(slots=True)
class _Live:
    keys: tuple[Key, ...]
    counted: int = 0


class Budgets:
    """The budgets of a snapshot, and what was used of them by this edge and, as far as they told, by the others."""

    def __init__(self, utcnow: Callable[[], datetime]) -> None:
        self._utcnow = utcnow
        self._budgets: dict[Key, tuple[Budget, str]] = {}
        self._nights: dict[str, tuple[int, str]] = {}
        self._limits: dict[Key, Counts] = {}
        self._usage: dict[Key, _Usage] = {}
        self._live: dict[str, _Live] = {}

    def apply(self, snapshot: Snapshot) -> None:
        """Take the budgets of a new snapshot; what was used stays."""
        found: dict[Key, tuple[Budget, str]] = {}
        for account in snapshot.accounts.values():
            if account.budget != NO_BUDGET:
                found["account", account.id] = account.budget, account.id
        for trunk in snapshot.trunks.values():
            if trunk.budget != NO_BUDGET:
                found["trunk", f"{trunk.account}/{trunk.name}"] = trunk.budget, trunk.account
        for seat in snapshot.seats.values():
            if seat.budget != NO_BUDGET:
                found["seat", seat.username] = seat.budget, seat.account
        self._budgets = found
        accounts = {account for _, account in found.values()}
        self._nights = {
            a.id: (a.night_percent, a.time_zone)
            for a in snapshot.accounts.values()
            if a.id in accounts and a.night_percent != 100
        }
        self._usage = {key: self._usage.get(key) or _Usage() for key in found}
        self.settle()

    def begin(self, call_id: str, account: str, source: Source) -> Spent | None:
        """A carrier is to be called for this call. The budget that stands against it, or None and it is counted (once,
        however many carriers are tried)."""
        if not self._limits or call_id in self._live:
            return None
        keys = [key for key in _keys(account, source) if key in self._limits]
        if not keys:
            return None
        for key in keys:
            spent = _spent(key, self._limits[key], self._usage[key].sums)
            if spent is not None:
                return spent
        self._live[call_id] = _Live(tuple(keys))
        bucket = self._bucket()
        for key in keys:
            self._usage[key].add(bucket, 1, 0)
        return None

    def resume(self, call_id: str, account: str, source: Source, counted: float) -> None:
        """A call that an earlier process began and counted, with its first `counted` seconds, goes on."""
        self._live[call_id] = _Live(_keys(account, source), int(counted))

    def finished(self, record: CallRecord) -> None:
        """A call is over: the rest of its seconds."""
        live = self._live.pop(record.id, None)
        if live is not None and record.answered_at is not None:
            self._talked(live, int((record.ended_at - record.answered_at).total_seconds()))

    def tick(self, talking: Callable[[str], float | None]) -> list[tuple[str, Spent]]:
        """Count what live calls have talked since the last time (`talking`: seconds of a call so far, None where it is
        not answered or unknown). Calls whose minutes are used up, which are to be ended."""
        for call_id, live in self._live.items():
            seconds = talking(call_id)
            if seconds is not None:
                self._talked(live, int(seconds))
        self.settle()
        over: list[tuple[str, Spent]] = []
        for call_id, live in self._live.items():
            for key in live.keys:
                limits, usage = self._limits.get(key), self._usage.get(key)
                if limits is None or usage is None:
                    continue
                spent = _spent(key, limits, usage.sums, minutes_only=True)
                if spent is not None:
                    over.append((call_id, spent))
                    break
        return over

    def settle(self) -> None:
        """Let windows slide, and day and night come."""
        now = self._utcnow()
        bucket = int(now.timestamp()) // BUCKET
        share = {account: percent if is_night(now, zone) else 100 for account, (percent, zone) in self._nights.items()}
        for usage in self._usage.values():
            usage.settle(bucket)
        self._limits = {
            key: _limits(budget, share.get(account, 100)) for key, (budget, account) in self._budgets.items()
        }

    # with the other edges

    def unsaved(self) -> list[Row]:
        """What changed here since `saved`."""
        return [
            Row(key, bucket, *usage.own[bucket])
            for key, usage in self._usage.items()
            for bucket in usage.dirty
            if bucket in usage.own
        ]

    def saved(self, rows: Iterable[Row]) -> None:
        """These rows are in the database as they were given out."""
        for row in rows:
            usage = self._usage.get(row.key)
            if usage is not None and usage.own.get(row.bucket) == [row.calls, row.seconds]:
                usage.dirty.discard(row.bucket)

    def heard(self, edge: str, row: Row, *, own: bool = False) -> None:
        """What another edge used in all in a bucket, or (`own`, once) this one in its last run."""
        usage = self._usage.get(row.key)
        if usage is None:
            return
        if own:
            found = usage.own.setdefault(row.bucket, [0, 0])
            found[0] += row.calls
            found[1] += row.seconds
        else:
            usage.others[edge, row.bucket] = row.calls, row.seconds

    def reset(self, key: Key) -> None:
        """Begin to count anew."""
        if key in self._usage:
            self._usage[key] = _Usage()

    # what operators see

    def listed(self) -> Iterator[Mapping[str, object]]:
        """Each budget with its limits as they are now (at night, less) and what is used."""
        for (level, key), limits in sorted(self._limits.items()):
            sums = self._usage[level, key].sums
            row: dict[str, object] = {"level": level, "key": key}
            for name, limit, used in zip(Budget._fields, limits, sums, strict=True):
                minutes = name.startswith("minutes")
                row[name] = None if limit == _NONE else limit // 60 if minutes else limit
                row[f"{name}_used"] = used // 60 if minutes else used
            yield row

    def has(self, key: Key) -> bool:
        """Whether there is such a budget."""
        return key in self._budgets

    def _talked(self, live: _Live, seconds: int) -> None:
        more = seconds - live.counted
        if more > 0:
            live.counted = seconds
            bucket = self._bucket()
            for key in live.keys:
                usage = self._usage.get(key)
                if usage is not None:
                    usage.add(bucket, 0, more)

    def _bucket(self) -> int:
        return int(self._utcnow().timestamp()) // BUCKET


_NONE = 1 << 62


def _keys(account: str, source: Source) -> tuple[Key, ...]:
    of_account = ("account", account)
    if source.kind is SourceKind.SEAT:
        return ("seat", source.name), of_account
    if source.kind is SourceKind.TRUNK:
        return ("trunk", f"{source.account}/{source.name}"), of_account
    return (of_account,)


def _limits(budget: Budget, percent: int) -> Counts:
    values = [_NONE if v is None else v * percent // 100 for v in budget]
    return values[0], values[1], *(v if v == _NONE else v * 60 for v in values[2:])  # type: ignore[return-value]


def _spent(key: Key, limits: Counts, sums: list[int], *, minutes_only: bool = False) -> Spent | None:
    for n in range(2 if minutes_only else 0, 4):
        if sums[n] >= limits[n]:
            unit = 60 if n >= 2 else 1
            return Spent(*key, Budget._fields[n], limits[n] // unit, sums[n] // unit)
    return None
