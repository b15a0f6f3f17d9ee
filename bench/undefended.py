"""`sip-edge` without guard, budgets and the search for patterns: what bench/defences.py compares with. Not for use."""

from __future__ import annotations

from edge.cli import app
from edge.defence.budgets import Budgets
from edge.defence.watch import Watched
from edge.transport.guard import Guard, Verdict

Guard.admit = lambda self, data, host, now: Verdict.PASS  # type: ignore[method-assign]
Guard.admit_stream = lambda self, host, size, now: Verdict.PASS  # type: ignore[method-assign]
Budgets.begin = lambda self, call_id, account, source: None  # type: ignore[method-assign]
Watched.put = lambda self, record: self._records.put(record)  # type: ignore[method-assign]

if __name__ == "__main__":
    app()
