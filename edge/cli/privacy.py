"""Commands for a person's data: privacy export, privacy erase (docs/operations.md, "A person asks")."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli.options import Admin, Config, edge_client
from edge.cli.output import CommandError
from edge.cli.provision import with_database
from edge.observability.printable import printable_json

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.connection import Connection

    from config.settings import Settings

app = typer.Typer(no_args_is_help=True, help="A person's data: export what there is of a seat, erase it.")

_Seat = Annotated[str, typer.Argument(help="The seat's username.")]


@app.command()
def export(
    seat: _Seat,
    file: Annotated[Path | None, typer.Argument(help="Where to write it; default: standard output.")] = None,
    config: Config = None,
) -> None:
    """All that the database holds of a seat, as JSON; passwords and contents of faxes are not in it."""

    async def run(connection: Connection[Record], _chosen: Settings) -> str:
        return str(await connection.fetchval("SELECT sip_edge.privacy_export($1)", seat))

    found = json.loads(with_database(config, run))
    if found["seat"] is None and not found["calls"] and not found["registrations"]:
        raise CommandError(f"there is no seat {seat!r}, and nothing is on record of one")
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if file is None:
        print(printable_json(text), end="")
        return
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from None


@app.command()
def erase(
    seat: _Seat,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: Config = None,
    admin: Admin = None,
) -> None:
    """Erase what is on record of a seat; what billing needs of answered calls stays, without the person."""
    if not yes:
        typer.confirm(f"Erase what is on record of seat {seat}? It cannot be undone.", abort=True)

    async def run(connection: Connection[Record], _chosen: Settings) -> tuple[list[Record], bool]:
        gone = await connection.fetch("SELECT what, gone FROM sip_edge.privacy_erase($1)", seat)
        there = await connection.fetchval("SELECT count(*) FROM sip_edge.seats WHERE username = $1", seat)
        return gone, bool(there)

    gone, there = with_database(config, run)
    for row in gone:
        print(f"{row['what']}: {row['gone']}")
    try:
        answer = edge_client(config, admin).send("/erase", b"")
        print(f"messages and files of this edge: {answer.get('gone', 0)}")
        print("Other edges erase theirs within a minute, and all of them what comes late.")
    except CommandError as error:
        print(f"This edge does not say that it erased its messages and files ({error}); it does once it runs.")
    if there:
        print(f"Seat {seat} is still provisioned: remove it from the document, or in the portal.")
