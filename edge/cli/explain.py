"""`sip-edge explain`: what would become of a call, asked of the daemon, or of the database where it is away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli.client import EdgeAway
from edge.cli.options import Admin, Config, edge_client
from edge.cli.output import CommandError
from edge.observability.printable import printable_lines

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.connection import Connection

    from config.settings import Settings


def explain(
    to: Annotated[str, typer.Option(help="What is dialled, or the number as the carrier would name it.")],
    seat: Annotated[str | None, typer.Option("--from", help="The seat that dials (its username).")] = None,
    trunk: Annotated[str | None, typer.Option(help="The customer's PBX that dials: ACCOUNT/NAME.")] = None,
    carrier: Annotated[str | None, typer.Option(help="The carrier that the call comes in over.")] = None,
    caller: Annotated[str, typer.Option(help="The number in From (carrier or PBX).")] = "",
    anonymous: Annotated[bool, typer.Option("--anonymous", help="The caller withholds the number.")] = False,
    config: Config = None,
    admin: Admin = None,
) -> None:
    """What would become of a call, step by step, with the header fields as they would leave. Nothing is called."""
    sources = {name: value for name, value in (("seat", seat), ("trunk", trunk), ("carrier", carrier)) if value}
    if len(sources) != 1:
        raise CommandError("say who calls with one of --from SEAT, --trunk ACCOUNT/NAME and --carrier NAME")
    ((kind, source),) = sources.items()
    client = edge_client(config, admin)
    try:
        text = client.get(
            "/explain", to=to, caller=caller or None, anonymous="1" if anonymous else None, **sources
        ).decode()
    except EdgeAway as away:
        from edge.cli.records import from_database

        async def ask(connection: Connection[Record], chosen: Settings) -> str:
            from config.loader import load_rows
            from config.migrations.runner import check_schema
            from config.secrets import secret_box
            from config.snapshot import Snapshot
            from dialplan.explain import Question
            from dialplan.model import SourceKind
            from edge.explain import answer

            await check_schema(connection)
            snapshot = Snapshot(await load_rows(connection, secret_box(chosen)))
            now = datetime.now(UTC)  # noqa: TID251  a command shows the time of the person who asks
            question = Question(SourceKind(kind), source, to, caller, anonymous)
            return answer(question, snapshot, now, chosen.realm)

        try:
            text = from_database(config, away, ask)
        except ValueError as error:
            raise CommandError(str(error)) from None
    print(printable_lines(text), end="")
