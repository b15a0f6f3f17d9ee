"""Sees every record on its way to the disk, for budgets and alarms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge.cdr.record import CallRecord, Record
from edge.defence.alarms import Alarms
from edge.defence.budgets import Budgets
from edge.defence.patterns import Patterns


class Records(Protocol):
    """Where records go."""

    def put(self, record: Record) -> None: ...


class Watched:
    """Records that are looked at after they were taken."""

    def __init__(
        self, records: Records, budgets: Budgets, patterns: Patterns, alarms: Alarms, now: Callable[[], float]
    ) -> None:
        self._records = records
        self._budgets = budgets
        self._patterns = patterns
        self._alarms = alarms
        self._now = now

    def put(self, record: Record) -> None:
        """Take a record."""
        self._records.put(record)
        if isinstance(record, CallRecord):
            self._budgets.finished(record)
        for alarm in self._patterns.see(record, self._now()):
            self._alarms.raise_(alarm)
