"""The command that moves the database's schema."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli.options import Config
from edge.cli.provision import with_database

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.connection import Connection

    from config.settings import Settings


class Direction(StrEnum):
    UP = "up"
    DOWN = "down"
    STATUS = "status"


def migrate(
    direction: Annotated[Direction, typer.Argument(help="up: to the newest; down: one step back; status.")] = (
        Direction.UP
    ),
    config: Config = None,
) -> None:
    """Bring the database's schema to the version of this edge, or one step back."""
    from config.migrations.runner import LATEST, MIGRATIONS, current_version, migrate_down, migrate_up

    async def run(connection: Connection[Record], chosen: Settings) -> list[str]:
        if direction is Direction.UP:
            applied = await migrate_up(connection)
            return [f"applied {m}" for m in applied] or [f"nothing to do, the schema is at version {LATEST}"]
        if direction is Direction.DOWN:
            taken = await migrate_down(connection)
            return [f"took back {taken}" if taken is not None else "nothing to take back"]
        version = await current_version(connection)
        lines = [f"{'applied' if m.version <= version else 'missing'}  {m}" for m in MIGRATIONS]
        return [*lines, f"the schema is at version {version}, this edge needs {LATEST}"]

    for line in with_database(config, run):
        print(line)
