"""A million numbers in PostgreSQL: time and memory until an edge has them in its snapshot, and until a change is there.

    python bench/provisioning.py [NUMBERS]

Starts an embedded PostgreSQL, fills it by SQL as an order system would, and loads it as an edge does.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from config.embedded import EmbeddedPostgres
from config.migrations.runner import migrate_up
from config.secrets import SecretBox, new_key
from config.store import Store

FILL = (
    "INSERT INTO sip_edge.accounts (id, country) SELECT 'K' || n, 'DE' FROM generate_series(0, 999) AS n",
    "INSERT INTO sip_edge.carriers (name, mode, domain, sources) "
    "VALUES ('north', 'static', 'north.example', '{192.0.2.1}')",
    # a tenth in blocks of ten, the others one by one
    "INSERT INTO sip_edge.blocks (prefix, digits, account, carrier) "
    "SELECT '+4930' || (1000000 + n), 1, 'K' || n % 1000, 'north' FROM generate_series(0, $1::int / 100) AS n",
    "INSERT INTO sip_edge.numbers (number, account, carrier) "
    "SELECT '+4940' || (1000000 + n), 'K' || n % 1000, 'north' FROM generate_series(1, $1::int) AS n",
)


async def main(numbers: int) -> None:
    """Fill, load, change one number, print JSON."""
    with tempfile.TemporaryDirectory() as folder:
        database = EmbeddedPostgres(Path(folder) / "database")
        url = await database.start()
        try:
            connection = await asyncpg.connect(url)
            await migrate_up(connection)
            began = time.perf_counter()
            for statement in FILL:
                await connection.execute(statement, *([numbers] if "$1" in statement else []), timeout=900)
            filled = time.perf_counter() - began

            before = resource.getrusage(resource.RUSAGE_SELF)
            began = time.perf_counter()
            store = Store(url, SecretBox(new_key()), "sip-edge")
            await store.start()
            loaded = time.perf_counter() - began
            after = resource.getrusage(resource.RUSAGE_SELF)

            swapped = asyncio.Event()
            store.on_swap(lambda old, new: swapped.set())
            began = time.perf_counter()
            await connection.execute("UPDATE sip_edge.numbers SET channels = 5 WHERE number = '+49401000001'")
            await asyncio.wait_for(swapped.wait(), 30)
            changed = time.perf_counter() - began
            row = store.snapshot.number("+49401000001")
            assert row is not None and row.channels == 5
            await store.stop()
            await connection.close()
        finally:
            await database.stop()
    print(
        json.dumps(
            {
                "numbers": numbers,
                "filled_s": round(filled, 1),
                "loaded_s": round(loaded, 1),
                "loaded_cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
                "peak_mib": after.ru_maxrss // 1024,
                "one_change_s": round(changed, 2),
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
