"""Commands around settings and provisioning: check-config, provision apply, provision export, provision new-key.

What they work with is loaded in the functions, so that other commands start fast.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

import typer

from edge.cli.options import Config, settings
from edge.cli.output import CommandError

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.connection import Connection

    from config.apply import Change
    from config.settings import Settings

    Work: TypeAlias = Callable[[Connection[Record], Settings], Awaitable["_T"]]

_T = TypeVar("_T")

app = typer.Typer(no_args_is_help=True, help="Customers, numbers and carriers: apply a document, export one.")


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="The provisioning document (YAML).", dir_okay=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and show the difference only.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Also remove what the document does not name.")] = False,
    config: Config = None,
) -> None:
    """Check a provisioning document, show what it changes, and apply it in one transaction."""
    from config.apply import apply_document, summary
    from config.document import read_document
    from config.migrations.runner import check_schema
    from config.secrets import secret_box

    document = read_document(file)

    async def run(connection: Connection[Record], chosen: Settings) -> list[Change]:
        await check_schema(connection)
        return await apply_document(connection, document, secret_box(chosen), prune=prune, dry_run=dry_run)

    changes = with_database(config, run)
    for change in changes:
        print(change)
    if changes:
        print(f"{'Would be' if dry_run else 'Done'}: {summary(changes)}.")
    else:
        print("Nothing to change.")


@app.command()
def export(
    file: Annotated[Path | None, typer.Argument(help="Where to write it; default: standard output.")] = None,
    config: Config = None,
) -> None:
    """Write what is provisioned as a document; secrets are not in it, and applying it changes nothing."""
    from config.export import export_document
    from config.migrations.runner import check_schema

    async def run(connection: Connection[Record], chosen: Settings) -> str:
        await check_schema(connection)
        return await export_document(connection)

    text = with_database(config, run)
    if file is None:
        print(text, end="")
        return
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from None


@app.command("new-key")
def make_key() -> None:
    """Print a fresh key that seals secrets: for SIP_EDGE_SECRET_KEY, or as the content of secret_key_file."""
    from config.secrets import new_key

    print(new_key())


def check_config(config: Config = None) -> None:
    """Check the settings and what they name, and print the ones that hold."""
    from config.settings import check_settings

    chosen = settings(config)
    faults = check_settings(chosen)
    if faults:
        raise CommandError("\n".join(faults))
    for name, value in chosen:
        shown = ", ".join(map(str, chosen.effective_listeners)) if name == "listeners" else value
        print(f"{name} = {shown}")


def with_database(config: Path | None, work: Work[_T]) -> _T:
    """Run `work` on a connection to the database of the settings. Raises CommandError where there is none."""
    import asyncpg

    from config.away import AWAY
    from config.embedded import database

    chosen = settings(config)

    async def run() -> _T:
        async with database(chosen) as url:
            try:
                connection: Connection[Record] = await asyncpg.connect(url, timeout=10)
            except (*AWAY, ValueError) as error:
                raise CommandError(
                    f"the database does not answer ({type(error).__name__}: {error}); start it, or correct DATABASE_URL"
                ) from None
            try:
                return await work(connection, chosen)
            except asyncpg.PostgresError as error:
                raise CommandError(f"the database refused it: {error.message}") from None
            finally:
                await connection.close()

    return asyncio.run(run())
