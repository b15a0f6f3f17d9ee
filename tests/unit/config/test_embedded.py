"""The embedded server starts, is shared, survives crashes, and leaves no process."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from pathlib import Path

import asyncpg
import pytest

from config.embedded import EmbeddedPostgres
from config.errors import ConfigError


def _postmaster(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().split()[0])


def _lives(process: int) -> bool:
    # one that has ended and waits for its parent to notice has no command line any more
    line = Path(f"/proc/{process}/cmdline")
    return line.exists() and line.read_bytes() != b""


async def test_the_last_to_leave_stops_it(folder: Path) -> None:
    """Two users of one folder share the server; it ends with the second, and its data stay."""
    first, second = EmbeddedPostgres(folder / "pg"), EmbeddedPostgres(folder / "pg")
    assert await first.start() == await second.start()
    process = _postmaster(folder / "pg")
    await first.stop()
    connection = await asyncpg.connect(second.url)
    await connection.execute("CREATE TABLE kept (n int)")
    await connection.close()
    await second.stop()
    assert not _lives(process)
    async with first:
        connection = await asyncpg.connect(first.url)
        assert await connection.fetchval("SELECT count(*) FROM kept") == 0
        await connection.close()


async def test_after_a_crash_of_both(folder: Path) -> None:
    """Killed edge and killed server: the next start recovers, even if the server's pid is another process's by now."""
    data = folder / "pg"
    code = (
        "import asyncio, os; from pathlib import Path; from config.embedded import EmbeddedPostgres;"
        f"asyncio.run(EmbeddedPostgres(Path({str(data)!r})).start()); os.kill(os.getpid(), 9)"
    )
    edge = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=Path(__file__).parents[3])
    assert await edge.wait() == -signal.SIGKILL
    orphan = _postmaster(data)
    taking_over = EmbeddedPostgres(data)
    await taking_over.start()
    assert _postmaster(data) == orphan
    handle = os.pidfd_open(orphan)
    os.kill(orphan, signal.SIGKILL)
    await asyncio.to_thread(select.select, [handle], [], [])
    os.close(handle)
    text = (data / "postmaster.pid").read_text()
    (data / "postmaster.pid").write_text(text.replace(str(orphan), str(os.getpid()), 1))
    other = EmbeddedPostgres(data)
    await other.start()
    connection = await asyncpg.connect(other.url)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    await taking_over.stop()
    await other.stop()
    assert not (data / "postmaster.pid").exists()


async def test_half_made_data_are_made_again(folder: Path) -> None:
    """What a crash during the first start left does not stop the next one."""
    left = folder / ".pg.new"
    left.mkdir()
    (left / "PG_VERSION").write_text("18\n")
    async with EmbeddedPostgres(folder / "pg") as server:
        await (await asyncpg.connect(server.url)).close()
    assert not left.exists()


async def test_a_folder_with_other_things(folder: Path) -> None:
    """Nothing is put where something else is; data of another version are named."""
    (folder / "pg").mkdir()
    (folder / "pg" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="no database and not empty"):
        await EmbeddedPostgres(folder / "pg").start()
    (folder / "pg" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigError, match="of PostgreSQL 9, this edge brings"):
        await EmbeddedPostgres(folder / "pg").start()


async def test_a_long_path(folder: Path) -> None:
    """A data folder whose socket would have too long a name works too."""
    async with EmbeddedPostgres(folder / ("x" * 60) / ("y" * 60) / "pg") as server:
        await (await asyncpg.connect(server.url)).close()
