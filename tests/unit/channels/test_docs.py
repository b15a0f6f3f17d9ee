"""The queries of docs/channels.md run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from asyncpg import Connection, Record

from tests.unit.channels.test_postgres import db, folder, url

pytestmark = pytest.mark.adapter
__all__ = ["db", "folder", "url"]
DOCUMENT = Path(__file__).parents[3] / "docs" / "channels.md"


async def test_every_query_runs(db: Connection[Record]) -> None:
    """What a portal is told to ask is SQL that this schema understands."""
    blocks = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.S)
    queries = [query for block in blocks for query in block.split(";\n") if query.strip()]
    assert len(queries) == 7
    for query in queries:
        await db.fetch(query)
