"""Commands about bans: who is not heard, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from edge.cli.options import Admin, Config, Json, edge_client
from edge.cli.output import print_json, print_table, text, until

app = typer.Typer(help="Sources and users that the edge does not listen to.", no_args_is_help=True)

_Source = Annotated[str, typer.Argument(help="An IPv4 address, or an IPv6 address or /64.")]


@app.command("list")
def listed(config: Config = None, admin: Admin = None, as_json: Json = False) -> None:
    """Bans that run."""
    rows = edge_client(config, admin).rows("/bans")
    if as_json:
        print_json(rows)
        return
    now = datetime.now(UTC)  # noqa: TID251  a command shows the time of the person who asks
    print_table(
        ("SOURCE", "USER", "ENDS IN", "REASON"),
        [(text(r["source"]), text(r["user"]) or "all", until(r["until"], now), text(r["reason"])) for r in rows],
        "Nobody is banned.",
    )


@app.command()
def add(
    source: _Source,
    how_long: Annotated[str, typer.Option("--for", help="How long: 15m, 2h, 7d (30 days at most).")] = "1h",
    config: Config = None,
    admin: Admin = None,
) -> None:
    """Hear nothing from a source, until the time is over or the edge starts anew."""
    answer = edge_client(config, admin).send("/bans", b"", source=source, **{"for": how_long})
    print(f"{text(answer['source'])} is banned for {how_long}.")


@app.command()
def lift(
    source: _Source,
    user: Annotated[str | None, typer.Option(help="Only for this user from there.")] = None,
    config: Config = None,
    admin: Admin = None,
) -> None:
    """Listen to a source again, and forget its failures."""
    query = {"source": source} if user is None else {"source": source, "user": user}
    edge_client(config, admin).send("/bans/lift", b"", **query)
    print(f"{source} is heard again" + (f" for {user}." if user else "."))
