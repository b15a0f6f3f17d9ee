"""Commands about budgets: what is used of them, and to begin anew."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.options import Admin, Config, Json, edge_client
from edge.cli.output import Row, print_json, print_table, text

app = typer.Typer(help="Budgets of calls and minutes out to carriers.", no_args_is_help=True)

_WHAT = ("calls_per_hour", "calls_per_day", "minutes_per_hour", "minutes_per_day")


@app.command("list")
def listed(config: Config = None, admin: Admin = None, as_json: Json = False) -> None:
    """What is used of each budget in the last hour and day; limits as they are now (at night, less)."""
    rows = edge_client(config, admin).rows("/budgets")
    if as_json:
        print_json(rows)
        return
    print_table(
        ("LEVEL", "OF", "CALLS/HOUR", "CALLS/DAY", "MINUTES/HOUR", "MINUTES/DAY"),
        [(text(r["level"]), text(r["key"]), *(_used(r, what) for what in _WHAT)) for r in rows],
        "No account, trunk or seat has a budget.",
    )


@app.command()
def reset(
    level: Annotated[str, typer.Argument(help="account, trunk or seat.")],
    key: Annotated[str, typer.Argument(help="The account's id, ACCOUNT/TRUNK, or the seat's username.")],
    config: Config = None,
    admin: Admin = None,
) -> None:
    """Count a budget anew from now on, at all edges."""
    edge_client(config, admin).send("/budgets/reset", b"", level=level, key=key)
    print(f"The budget of {level} {key} is counted anew.")


def _used(row: Row, what: str) -> str:
    used = text(row[f"{what}_used"])
    return used if row[what] is None else f"{used}/{row[what]}"
