"""Tables `faxes` and `fax_mails`: the record of each fax, its document until it is delivered, and its mail."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from media.fax.record import FaxMeta, FaxResult, PageQuality

if TYPE_CHECKING:
    from asyncpg import Record as Row
    from asyncpg.connection import Connection
    from asyncpg.pool import PoolConnectionProxy

AnyConnection: TypeAlias = "Connection[Row] | PoolConnectionProxy[Row]"
Acquire: TypeAlias = Callable[[], AbstractAsyncContextManager[AnyConnection]]
"""Gives a connection for a while; a pool's `acquire`."""

_COLUMNS: Final = (
    "id", "account", "fax_box", "number", "caller", "caller_withheld", "call_id", "started_at", "ended_at", "transport",
    "remote_tsi", "t30_code", "t30_text", "sip_reason", "pages", "page_quality", "bit_rate", "ecm", "ecm_retries",
    "rtp_events", "rtn_events", "encoding", "bytes", "result", "direction", "called", "language", "time_zone",
    "encrypted", "poor_quality", "remote_model", "t38_packets", "lost_packets", "content",
)  # fmt: skip
_INSERT: Final = (
    f"INSERT INTO sip_edge.faxes ({', '.join(_COLUMNS)})"
    f" VALUES ({', '.join(f'${i + 1}' for i in range(len(_COLUMNS)))}) ON CONFLICT (id) DO NOTHING"
)
_QUEUE: Final = (
    "INSERT INTO sip_edge.fax_mails (fax, email, queued_at, next_try_at) VALUES ($1, $2, $3, $3)"
    " ON CONFLICT (fax) DO NOTHING"
)
# Who gets the row sends the mail; a claim of an edge that died ends by itself.
_CLAIM: Final = """
UPDATE sip_edge.fax_mails m SET claimed_until = $2, tries = m.tries + 1
FROM sip_edge.faxes f
WHERE f.id = m.fax AND m.fax = (
    SELECT fax FROM sip_edge.fax_mails
    WHERE state = 'queued' AND next_try_at <= $1 AND (claimed_until IS NULL OR claimed_until <= $1)
      AND NOT fax = ANY ($3::text[])
    ORDER BY next_try_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING m.email, m.tries, m.queued_at, f.*"""
_DELIVERED: Final = (
    "UPDATE sip_edge.fax_mails SET state = 'delivered', delivered_at = $2, claimed_until = NULL, last_error = NULL,"
    " next_try_at = NULL WHERE fax = $1"
)
_LATER: Final = (
    "UPDATE sip_edge.fax_mails SET next_try_at = $2, last_error = $3, claimed_until = NULL"
    " WHERE fax = $1 AND state = 'queued'"
)
_HURRY: Final = (
    "UPDATE sip_edge.fax_mails SET next_try_at = $1"
    " WHERE state = 'queued' AND claimed_until IS NULL AND next_try_at > $1 AND starts_with(last_error, $2)"
)
_FAILED: Final = (
    "UPDATE sip_edge.fax_mails SET state = 'failed', next_try_at = NULL, last_error = $2, claimed_until = NULL"
    " WHERE fax = $1 AND state = 'queued'"
)
_NEXT: Final = (
    "SELECT min(greatest(next_try_at, coalesce(claimed_until, next_try_at))) FROM sip_edge.fax_mails"
    " WHERE state = 'queued'"
)
_RESEND: Final = """
UPDATE sip_edge.fax_mails m SET state = 'queued', tries = 0, queued_at = $2, next_try_at = $2, last_error = NULL,
    claimed_until = NULL, delivered_at = NULL
FROM sip_edge.faxes f WHERE f.id = m.fax AND m.fax = $1 AND (f.pages = 0 OR f.content IS NOT NULL)"""
_LISTED: Final = """
SELECT f.id, f.account, f.fax_box, f.direction, f.number, f.called, f.caller, f.caller_withheld, f.started_at,
    f.ended_at, f.transport, f.pages, f.result, f.t30_code, f.t30_text, f.poor_quality, f.content IS NOT NULL AS kept,
    m.email, m.state AS mail, m.tries, m.next_try_at, m.last_error, m.delivered_at
FROM sip_edge.faxes f LEFT JOIN sip_edge.fax_mails m ON m.fax = f.id
WHERE ($1::text IS NULL OR f.account = $1) AND f.started_at >= $2 ORDER BY f.started_at DESC LIMIT $3"""
_SHOWN: Final = f"""
SELECT {", ".join(f"f.{c}" for c in _COLUMNS if c != "content")}, f.content IS NOT NULL AS kept, m.email,
    m.state AS mail, m.tries, m.next_try_at, m.last_error, m.delivered_at
FROM sip_edge.faxes f LEFT JOIN sip_edge.fax_mails m ON m.fax = f.id WHERE f.id = $1"""


@dataclass(frozen=True, slots=True)
class DueMail:
    """A mail that we have claimed. `tries`: this one included. `pdf`: None for a fax without pages, or purged."""

    meta: FaxMeta
    result: FaxResult
    pdf: bytes | None
    encrypted: bool
    tries: int
    queued_at: datetime


class FaxTables:
    """Both tables. Methods raise what asyncpg raises."""

    def __init__(self, acquire: Acquire) -> None:
        self._acquire = acquire

    async def store(self, meta: FaxMeta, result: FaxResult, pdf: bytes | None, now: datetime) -> None:
        """The record, the document and, for a received fax, its mail: all of it is on the disk when this returns.

        Storing the same fax again changes nothing.
        """
        values = (
            meta.id, meta.account, meta.fax_box if meta.called is None else None, meta.number, meta.caller,
            meta.caller_withheld, meta.call_id, _time(meta.started_at), _time(result.ended_at), result.transport,
            _clean(result.remote_ident) or None, result.code, _clean(result.text), _clean(result.sip_reason) or None,
            result.pages, json.dumps([dataclasses.asdict(page) for page in result.page_quality]), result.bit_rate,
            result.ecm, result.ecm_retries, result.rtp_events, result.rtn_events, result.encoding, result.octets,
            result.outcome.value, "in" if meta.called is None else "out", meta.called, meta.language, meta.time_zone,
            meta.sealed_password is not None, result.poor_quality, _clean(result.remote_model) or None,
            result.t38_packets, result.lost_packets, pdf,
        )  # fmt: skip
        async with self._acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = on")
            await connection.execute(_INSERT, *values)
            if meta.called is None:
                await connection.execute(_QUEUE, meta.id, meta.email, now)

    async def claim(self, now: datetime, until: datetime, but: list[str]) -> DueMail | None:
        """Take the mail that has been due longest, except those of the faxes `but`; None where none is due."""
        async with self._acquire() as connection:
            row = await connection.fetchrow(_CLAIM, now, until, but)
        return None if row is None else _due(row)

    async def delivered(self, fax_id: str, at: datetime) -> None:
        """The mail server has taken it."""
        await self._change(_DELIVERED, fax_id, at)

    async def later(self, fax_id: str, at: datetime, error: str) -> None:
        """Try again `at`."""
        await self._change(_LATER, fax_id, at, error[:1000])

    async def hurry(self, at: datetime, error: str) -> None:
        """What waits because of an error that begins so is due `at`."""
        async with self._acquire() as connection:
            await connection.execute(_HURRY, at, error)

    async def failed(self, fax_id: str, error: str) -> None:
        """It will not be tried again."""
        await self._change(_FAILED, fax_id, error[:1000])

    async def next_due(self) -> datetime | None:
        """When the next mail is due; None where none waits."""
        async with self._acquire() as connection:
            found: datetime | None = await connection.fetchval(_NEXT)
        return found

    async def resend(self, fax_id: str, now: datetime) -> bool:
        """Queue the mail of a fax anew; False where there is no such mail or its document was removed."""
        return await self._change(_RESEND, fax_id, now)

    async def listed(self, account: str | None, since: datetime, limit: int = 200) -> list[dict[str, object]]:
        """Faxes after `since` with the state of their mails, newest first."""
        async with self._acquire() as connection:
            rows = await connection.fetch(_LISTED, account, since, limit)
        return [dict(row) for row in rows]

    async def shown(self, fax_id: str) -> dict[str, object] | None:
        """All that is known of a fax but its document."""
        async with self._acquire() as connection:
            row = await connection.fetchrow(_SHOWN, fax_id)
        return None if row is None else {**row, "page_quality": json.loads(row["page_quality"] or "[]")}

    async def _change(self, statement: str, *values: object) -> bool:
        async with self._acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = on")
            status: str = await connection.execute(statement, *values)
        return not status.endswith(" 0")


def _due(row: Row) -> DueMail:
    meta = FaxMeta(
        row["id"], row["account"], row["fax_box"] or "", row["number"], row["email"], row["started_at"].timestamp(),
        row["caller"], row["caller_withheld"], row["call_id"], row["language"], row["time_zone"],
    )  # fmt: skip
    result = FaxResult(
        row["t30_code"],
        row["t30_text"] or "",
        row["pages"],
        row["ended_at"].timestamp(),
        transport=row["transport"] or "g711",
        remote_ident=row["remote_tsi"] or "",
        lost_packets=row["lost_packets"],
        page_quality=tuple(PageQuality(**page) for page in json.loads(row["page_quality"] or "[]")),
    )
    return DueMail(meta, result, row["content"], row["encrypted"], row["tries"], row["queued_at"])


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _clean(text: str) -> str:
    """PostgreSQL takes any character but one."""
    return text.replace("\0", "")
