"""Records as an operator asks for them: also those that are still on their way into the database."""

from __future__ import annotations

from datetime import datetime

from edge.cdr.tables import PostgresRecords
from edge.cdr.writer import RecordWriter

_PATIENCE = 1.0
"""Seconds: records are a quarter of a second on their way, unless the database is away."""


class LatestRecords:
    """Reads records. Methods raise what asyncpg raises."""

    def __init__(self, records: PostgresRecords, writer: RecordWriter) -> None:
        self._records = records
        self._writer = writer

    async def refusals(
        self,
        since: datetime,
        number: str | None = None,
        account: str | None = None,
        limit: int = 200,
        *,
        limits_only: bool = False,
    ) -> list[dict[str, object]]:
        """See `PostgresRecords.refusals`."""
        await self._writer.settled(_PATIENCE)
        return await self._records.refusals(since, number, account, limit, limits_only=limits_only)

    async def find(self, key: str) -> dict[str, object] | None:
        """See `PostgresRecords.find`."""
        found = await self._records.find(key)
        if found is None and self._writer.waiting:
            await self._writer.settled(_PATIENCE)
            found = await self._records.find(key)
        return found
