"""The shared counts in PostgreSQL: the functions of migration 0004 over one connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

import asyncpg
from asyncpg import Record
from asyncpg.connection import Connection
from asyncpg.prepared_stmt import PreparedStatement

from config.away import AWAY
from edge.channels.counts import Claim, CountsAway, Exchanged, Lease, Verdict

_CONNECT_TIMEOUT = 5.0
_SLOW_TIMEOUT = 10.0
"""Of statements that no call waits for."""
_SETTINGS = {
    "application_name": "sip-edge channels",
    # what the last half second of a crashed machine lost, each edge tells anew when it connects
    "synchronous_commit": "off",
    "statement_timeout": "10s",
    # few rows of tables that may be large by now: found by their keys, whatever the statistics of an empty table said
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",  # it would read the leases of every call that ended since the last vacuum
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}


class PostgresCounts:
    """The counts in the database at `url`, for the edge `name`, whose process is `instance`."""

    def __init__(self, url: str, name: str, instance: UUID) -> None:
        self._url = url
        self._name = name
        self._instance = instance

    async def connect(self) -> PostgresSession:
        """A new connection; raises CountsAway."""
        connection: Connection[Record] | None = None
        try:
            connection = await asyncpg.connect(self._url, timeout=_CONNECT_TIMEOUT, server_settings=_SETTINGS)
            exchange = await connection.prepare(
                "SELECT known, against, in_use, alone FROM sip_edge.exchange_or_alone($1, $2, $3, $4, $5)",
                timeout=_CONNECT_TIMEOUT,
            )
            session = PostgresSession(connection, exchange, self._name, self._instance)
            await connection.add_listener("sip_edge_joined", session.heard)
        except AWAY as error:
            if connection is not None:
                connection.terminate()
            raise _away(error) from error
        return session


class PostgresSession:
    """See `edge.channels.counts.Session`."""

    def __init__(
        self, connection: Connection[Record], exchange: PreparedStatement[Record], name: str, instance: UUID
    ) -> None:
        self._connection = connection
        self._exchange = exchange
        self._name = name
        self._instance = instance
        self.joined: Callable[[], None] = lambda: None

    def heard(self, connection: object, pid: int, channel: str, instance: object) -> None:
        """A notification."""
        if instance != str(self._instance):
            self.joined()

    async def resume(self, epoch: int, fresh: bool, held: Sequence[Lease]) -> bool:
        done = await self._value(
            "SELECT sip_edge.resume($1, $2, $3, $4, $5)", self._instance, self._name, epoch, fresh, held
        )
        return bool(done)

    async def exchange(
        self, epoch: int, leases: Sequence[Lease], claims: Sequence[Claim], stay: bool
    ) -> Exchanged | None:
        try:
            row = await self._exchange.fetchrow(self._instance, epoch, leases, claims, stay)
        except AWAY as error:
            raise _away(error) from error
        assert row is not None
        if not row[0]:
            return None
        return Exchanged([Verdict(against, in_use) for against, in_use in zip(row[1], row[2], strict=True)], row[3])

    async def alone_elsewhere(self) -> bool:
        return bool(await self._value("SELECT sip_edge.alone_elsewhere($1)", self._instance))

    async def recount(self) -> int:
        return int(await self._value("SELECT sip_edge.recount()"))

    async def leave(self) -> None:
        await self._value("SELECT sip_edge.leave($1)", self._instance)

    def abort(self) -> None:
        self._connection.terminate()

    async def _value(self, query: str, *arguments: object) -> int | bool:
        try:
            value: int | bool = await self._connection.fetchval(query, *arguments, timeout=_SLOW_TIMEOUT)
        except AWAY as error:
            raise _away(error) from error
        return value


def _away(error: BaseException) -> CountsAway:
    return CountsAway(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
