"""Commands that suspend an account and lift that: they write to the database, and running edges follow at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli.options import Config
from edge.cli.output import CommandError
from edge.cli.provision import with_database

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.connection import Connection

    from config.settings import Settings

app = typer.Typer(help="Suspend an account, or lift that.", no_args_is_help=True)

_Id = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's id.")]


@app.command()
def suspend(
    account: _Id,
    end_calls: Annotated[bool, typer.Option("--end-calls", help="Also end the calls that are up.")] = False,
    lock: Annotated[
        bool,
        typer.Option("--lock", help="Also take its registrations away (implies --end-calls): passwords are stolen."),
    ] = False,
    config: Config = None,
) -> None:
    """Refuse all calls from and to an account, emergency calls excepted."""
    how = "lock" if lock else "end" if end_calls else "bar"
    _set(config, account, "status = 'suspended', suspension = $2", how)
    more = {"bar": "calls that are up go on", "end": "calls are ended", "lock": "calls and registrations are ended"}
    print(f"Account {account} is suspended; {more[how]}.")


@app.command()
def resume(account: _Id, config: Config = None) -> None:
    """Let an account call and be called again."""
    _set(config, account, "status = 'active', suspension = $2", "bar")
    print(f"Account {account} is active.")


def _set(config: Config, account: str, what: str, how: str) -> None:
    async def run(connection: Connection[Record], chosen: Settings) -> str:
        return await connection.execute(f"UPDATE sip_edge.accounts SET {what} WHERE id = $1", account, how)

    if with_database(config, run).endswith(" 0"):
        raise CommandError(f"there is no account {account}")
