"""docs/database.md names every table and column, and its queries run; docs/provisioning.md names every key."""

from __future__ import annotations

import re
from pathlib import Path

from asyncpg import Record
from asyncpg.connection import Connection

from config.form import SECTIONS

DOCS = Path(__file__).parents[3] / "docs"


async def test_every_column_is_documented(db: Connection[Record]) -> None:
    """A portal finds each table and column."""
    text = (DOCS / "database.md").read_text()
    rows = await db.fetch(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'sip_edge'"
    )
    missing = [f"{t}.{c}" for t, c in rows if (t not in text or f"`{c}`" not in text)]
    assert missing == []


async def test_every_query_runs(world: Connection[Record]) -> None:
    """The examples are SQL that this schema understands."""
    await world.execute("INSERT INTO sip_edge.seats (username, account) VALUES ('a.mueller', 'K1')")
    queries = "\n".join(re.findall(r"```sql\n(.*?)```", (DOCS / "database.md").read_text(), re.S)).split(";\n")
    assert len(queries) > 10
    for query in filter(str.strip, queries):
        await world.execute(query)


def test_every_key_is_documented() -> None:
    """Whoever writes a document finds each key."""
    text = (DOCS / "provisioning.md").read_text()
    for section in SECTIONS:
        for field in section.fields:
            assert f"`{field.key}`" in text, field.key
