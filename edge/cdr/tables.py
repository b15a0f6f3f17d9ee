"""The SQL of call detail records and refused calls: storing and reading.

Records travel as JSON and PostgreSQL makes rows of them, so that each is encoded once for spool and table. Storing the
same record twice stores it once: the id is the key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from edge.cdr.record import CALL_COLUMNS, REFUSED_COLUMNS

if TYPE_CHECKING:
    from asyncpg import Record as Row
    from asyncpg.connection import Connection
    from asyncpg.pool import PoolConnectionProxy

AnyConnection: TypeAlias = "Connection[Row] | PoolConnectionProxy[Row]"
Acquire: TypeAlias = Callable[[], AbstractAsyncContextManager[AnyConnection]]
"""Gives a connection for a while; a pool's `acquire`."""

_JSON_COLUMNS = frozenset({"trace", "media", "attempts"})


def _insert(table: str, columns: Sequence[str], parameter: int) -> str:
    names = ", ".join(columns)
    return (
        f"INSERT INTO sip_edge.{table} ({names}) SELECT {names} "
        f"FROM json_populate_recordset(NULL::sip_edge.{table}, ${parameter}::json) ON CONFLICT DO NOTHING"
    )


# One statement is one round trip and one transaction. The spool forgets the records on our word, so they must be on the
# database's disk when it answers, whatever its own settings are.
_STORE = f"""WITH calls AS ({_insert("call_records", CALL_COLUMNS, 1)}),
    refused AS ({_insert("refused_calls", REFUSED_COLUMNS, 2)})
    SELECT set_config('synchronous_commit', 'on', true)"""


class PostgresRecords:
    """Stores and reads records through connections that `acquire` gives. Methods raise what asyncpg raises."""

    def __init__(self, acquire: Acquire) -> None:
        self._acquire = acquire

    async def insert(self, calls: Sequence[bytes], refused: Sequence[bytes]) -> None:
        """Store records (JSON of `edge.cdr.record.to_json`), all or none; those already there are left alone."""
        async with self._acquire() as connection:
            await connection.execute(_STORE, _array(calls), _array(refused))

    async def refusals(
        self,
        since: datetime,
        number: str | None = None,
        account: str | None = None,
        limit: int = 200,
        *,
        limits_only: bool = False,
    ) -> list[dict[str, object]]:
        """Refused calls after `since`, newest first; `number` matches the number, `account` the account;
        `limits_only`: those for which a channel limit stood in the way."""
        async with self._acquire() as connection:
            rows = await connection.fetch(_REFUSALS, since, number, account, limit, limits_only)
        return [dict(row) for row in rows]

    async def find(self, key: str) -> dict[str, object] | None:
        """The record of a call by our id or either SIP Call-ID, else the refused call of that id; None if unknown.

        `table` in the answer names where it was found.
        """
        async with self._acquire() as connection:
            row = await connection.fetchrow(_CALL, key)
            table = "call_records"
            if row is None:
                row = await connection.fetchrow(_REFUSED, key)
                table = "refused_calls"
        return None if row is None else {"table": table, **{k: _decoded(k, v) for k, v in row.items()}}


_REFUSALS = f"""SELECT {", ".join(REFUSED_COLUMNS)} FROM sip_edge.refused_calls
    WHERE at > $1 AND ($2::text IS NULL OR number = $2) AND ($3::text IS NULL OR account = $3)
        AND (level IS NOT NULL OR NOT $5)
    ORDER BY at DESC LIMIT $4"""
_CALL = f"""SELECT {", ".join(CALL_COLUMNS)} FROM sip_edge.call_records
    WHERE id::text = $1 OR a_call_id = $1 OR b_call_id = $1 ORDER BY started_at DESC LIMIT 1"""
_REFUSED = f"""SELECT {", ".join(REFUSED_COLUMNS)} FROM sip_edge.refused_calls WHERE id::text = $1"""


def _decoded(column: str, value: object) -> object:
    return json.loads(value) if column in _JSON_COLUMNS and isinstance(value, str) else value


def _array(lines: Sequence[bytes]) -> str:
    return "[" + b",".join(lines).decode() + "]"
