"""Keeps budgets true beside the calls: every ten seconds live calls are counted, calls without minutes left ended, and
what was used is exchanged with the other edges over the database. Without it an edge counts alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from config.away import AWAY
from config.tables.write_behind import Acquire
from edge.defence.alarms import Alarm, Alarms
from edge.defence.budgets import BUCKET, Budgets, Key, Row
from edge.defence.live import LiveCalls
from edge.observability.logging import get_logger

_log = get_logger("budgets")
EVERY = 10.0
_OVERLAP = timedelta(seconds=60)
"""How far back the others' changes are read again: a transaction may become visible after a later one."""
_SAVE = (
    "INSERT INTO sip_edge.budget_usage AS u (edge, level, key, bucket, calls, seconds)"
    " SELECT $1, * FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::int[], $6::int[])"
    " ON CONFLICT (edge, level, key, bucket) DO UPDATE"
    " SET calls = excluded.calls, seconds = excluded.seconds, updated_at = now()"
)
_HEAR = (
    "SELECT edge, level, key, bucket, calls, seconds FROM sip_edge.budget_usage"
    " WHERE updated_at > $1 AND bucket > $2 AND ($4 OR edge <> $3)"
)


class BudgetUsage:
    """Run it beside the edge."""

    def __init__(
        self,
        budgets: Budgets,
        calls: LiveCalls,
        alarms: Alarms,
        acquire: Acquire,
        edge: str,
        now: Callable[[], float],
        utcnow: Callable[[], datetime],
    ) -> None:
        self._budgets = budgets
        self._calls = calls
        self._alarms = alarms
        self._acquire = acquire
        self._edge = edge
        self._now = now
        self._utcnow = utcnow
        self._heard_at: datetime | None = None
        self._own_heard = False
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Work until `stop`, and write once more then."""
        away = False
        while True:
            self.count()
            try:
                await self.exchange()
                away = False
            except AWAY as error:
                if not away:
                    _log.warning("budgets.alone", detail=f"{type(error).__name__}: {error}")
                away = True
            if self._stopping.is_set():
                return
            try:
                async with asyncio.timeout(EVERY):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    def count(self) -> None:
        """Count the minutes of live calls; end those that have none left."""
        for call_id, spent in self._budgets.tick(self._talking):
            call = self._calls.get(call_id)
            if call is not None:
                _log.warning("call.out_of_budget", call=call_id, account=call.plan.account, detail=str(spent))
                self._alarms.raise_(Alarm("budget", call.plan.account, f"{spent.level} {spent.key}", str(spent)))
                call.end(21, "budget-exhausted")

    def _talking(self, call_id: str) -> float | None:
        call = self._calls.get(call_id)
        return None if call is None or call.answered_at is None else self._now() - call.answered_at

    async def exchange(self) -> None:
        """Tell the others what was used here, and hear what was used there. Raises what asyncpg raises."""
        first = not self._own_heard
        async with self._acquire() as connection:
            at: datetime = await connection.fetchval("SELECT now()")
            since = at - timedelta(days=1) if self._heard_at is None else self._heard_at - _OVERLAP
            for level, key, reset_at in await connection.fetch(
                "SELECT level, key, reset_at FROM sip_edge.budget_resets WHERE reset_at > $1", self._heard_at or at
            ):
                _log.info("budget.reset", limit_level=level, detail=f"{level} {key} at {reset_at:%H:%M:%S}")
                self._budgets.reset((level, key))
            oldest = self._utcnow() - timedelta(days=1)
            for edge, level, key, bucket, calls, seconds in await connection.fetch(
                _HEAR, since, oldest, self._edge, first
            ):
                row = Row((level, key), int(bucket.timestamp()) // BUCKET, calls, seconds)
                self._budgets.heard(edge, row, own=edge == self._edge)
            self._own_heard = True
            rows = self._budgets.unsaved()
            if rows:
                await connection.execute(
                    _SAVE,
                    self._edge,
                    [row.key[0] for row in rows],
                    [row.key[1] for row in rows],
                    [datetime.fromtimestamp(row.bucket * BUCKET, UTC) for row in rows],
                    [row.calls for row in rows],
                    [row.seconds for row in rows],
                )
                self._budgets.saved(rows)
        self._heard_at = at
        self._budgets.settle()

    async def reset(self, key: Key) -> bool:
        """Begin to count a budget anew, here at once and at the other edges within ten seconds; False where there is
        none. Raises what asyncpg raises."""
        if not self._budgets.has(key):
            return False
        async with self._acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO sip_edge.budget_resets (level, key) VALUES ($1, $2)"
                " ON CONFLICT (level, key) DO UPDATE SET reset_at = clock_timestamp()",
                *key,
            )
            await connection.execute("DELETE FROM sip_edge.budget_usage WHERE level = $1 AND key = $2", *key)
        self._budgets.reset(key)
        self._budgets.settle()
        return True
