"""What keeps the shared counts true beside the calls: channels of dead edges come back, counts are checked, live calls
are shown. Nothing here is on a call's path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from uuid import UUID

import structlog

from config.away import AWAY
from config.tables.storable import storable

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.connection import Connection
    from asyncpg.pool import PoolConnectionProxy

AnyConnection: TypeAlias = "Connection[Record] | PoolConnectionProxy[Record]"
Acquire: TypeAlias = Callable[[], AbstractAsyncContextManager[AnyConnection]]
"""Gives a connection for a while; a pool's `acquire`."""

SILENCE = timedelta(seconds=20)
"""An edge that was silent for so long counts as dead: with `_EVERY` its channels are back within 30 s."""
_EVERY = 2.0
_AT_ONCE = 100
"""Calls that are looked at in one go."""
_SETTLING = 5.0
"""Seconds for which the database has to answer before an edge is declared dead: while it was away all edges were
silent, and each needs a moment to speak again."""
_RECOUNT_EVERY = 300.0

_SHOW = """
INSERT INTO sip_edge.live_calls AS l (
    instance, edge, id, state, started_at, answered_at, direction, source_kind, source_name, account, caller, called,
    target_kind, target_name
)
SELECT $1, $2, c.* FROM unnest(
    $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[], $8::text[], $9::text[], $10::text[],
    $11::text[], $12::text[], $13::text[], $14::text[]
) AS c
WHERE EXISTS (SELECT FROM sip_edge.edges WHERE instance = $1 AND NOT lost)
ON CONFLICT (id) DO UPDATE SET instance = excluded.instance, edge = excluded.edge, state = excluded.state,
    answered_at = excluded.answered_at, account = excluded.account,
    target_kind = excluded.target_kind, target_name = excluded.target_name
"""


class LiveCall(NamedTuple):
    """A call that is up or being set up, as the table `live_calls` shows it. Withheld callers have no `caller`."""

    id: str
    state: str
    started_at: datetime
    answered_at: datetime | None
    direction: str
    source_kind: str
    source_name: str
    account: str | None
    caller: str | None
    called: str | None
    target_kind: str | None
    target_name: str | None


class Upkeep:
    """Run it beside the edge whose process is `instance`.

    `live` gives the calls that are up, `now` seconds, monotonic.
    """

    def __init__(
        self,
        acquire: Acquire,
        name: str,
        instance: UUID,
        live: Callable[[], Iterable[LiveCall]],
        now: Callable[[], float],
        silence: timedelta = SILENCE,
    ) -> None:
        self._acquire = acquire
        self._name = name
        self._instance = instance
        self._live = live
        self._now = now
        self._silence = silence
        self._shown: dict[str, LiveCall] = {}
        self._shown_at: float | None = None
        self._answers_since: float | None = None
        self._recount_at = 0.0
        self._stopping = asyncio.Event()
        self._log = structlog.get_logger(room="channels")

    async def run(self) -> None:
        """Work until `stop`."""
        while not self._stopping.is_set():
            try:
                await self.once()
            except AWAY as error:
                if self._answers_since is not None:
                    self._log.warning("channels.upkeep_failed", error=f"{type(error).__name__}: {error}")
                self._answers_since = None
            try:
                async with asyncio.timeout(_EVERY):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    def fresh(self) -> bool:
        """Whether the table was brought up to date in the last rounds: where the database is slow or away it is not."""
        return self._shown_at is not None and self._now() - self._shown_at < 3 * _EVERY

    async def once(self) -> None:
        """Do what is due. Raises what the database raises."""
        async with self._acquire() as connection:
            await self._show(connection)
            now = self._now()
            if self._answers_since is None:
                self._answers_since = now
            if now - self._answers_since < _SETTLING:
                return
            given = await connection.fetchval("SELECT sip_edge.reclaim($1)", self._silence)
            if given:
                self._log.warning("channels.reclaimed", leases=given, reason="an edge is silent")
            if now >= self._recount_at:
                self._recount_at = now + _RECOUNT_EVERY
                wrong = await connection.fetchval("SELECT sip_edge.recount()")
                if wrong:
                    self._log.error("channels.recounted", rows=wrong, reason="the tables were changed by hand")

    async def _show(self, connection: AnyConnection) -> None:
        began = self._now()
        live: dict[str, LiveCall] = {}
        for call in self._live():
            live[call.id] = call
            if not len(live) % _AT_ONCE:
                await _others()
        async with connection.transaction():
            there = await connection.fetchval(
                "SELECT count(*) FROM sip_edge.live_calls WHERE instance = $1", self._instance
            )
            shown = self._shown
            if there != len(shown):
                # not what we have shown: this edge was given up meanwhile, or an answer was lost
                await connection.execute("DELETE FROM sip_edge.live_calls WHERE instance = $1", self._instance)
                shown = {}
            new = [call for call in live.values() if not _shows(shown.get(call.id), call)]
            if new:
                rows = [map(storable, call) for call in new]
                await connection.execute(_SHOW, self._instance, self._name, *zip(*rows, strict=True))
            gone = [call_id for call_id in shown if call_id not in live]
            if gone:
                await connection.execute("DELETE FROM sip_edge.live_calls WHERE id = ANY ($1)", gone)
        self._shown, self._shown_at = live, began


async def _others() -> None:
    """Let others run: messages do not wait for ten thousand calls."""
    loop = asyncio.get_running_loop()
    turn = loop.create_future()
    loop.call_soon(turn.set_result, None)
    await turn


def _shows(shown: LiveCall | None, call: LiveCall) -> bool:
    """True where the table need not change. The wall-clock time of an answer is worked out anew each time, to within
    microseconds: that it was answered is what counts."""
    if shown is None or (shown.answered_at is None) != (call.answered_at is None):
        return False
    return shown[:_ANSWERED_AT] == call[:_ANSWERED_AT] and shown[_ANSWERED_AT + 1 :] == call[_ANSWERED_AT + 1 :]


_ANSWERED_AT = LiveCall._fields.index("answered_at")
