"""Faxes: those received and sent, their mails, and sending one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cdr.record import ANONYMOUS
from edge.cli.options import Admin, Config, Json, edge_client
from edge.cli.output import CommandError, clock, print_json, print_table, text

app = typer.Typer(name="fax", help="Faxes received and sent, and their mails.", no_args_is_help=True)


@app.command("list")
def list_(
    account: Annotated[str | None, typer.Option(help="Only of this account.")] = None,
    since: Annotated[str, typer.Option(help="How far back: 15m, 2h, 7d.")] = "7d",
    config: Config = None,
    admin: Admin = None,
    as_json: Json = False,
) -> None:
    """Faxes and what became of their mails, the newest first."""
    rows = edge_client(config, admin).rows("/faxes", account=account, since=since)
    if as_json:
        print_json(rows)
        return
    print_table(
        ("FAX", "TIME", "", "NUMBER", "OTHER SIDE", "RESULT", "PAGES", "OVER", "ACCOUNT", "MAIL", "TRIES", "NEXT TRY",
         "WHY"),
        [
            (
                text(r["id"]), clock(r["started_at"]), text(r["direction"]), text(r["number"]),
                text(r["called"]) or (ANONYMOUS if r["caller_withheld"] else text(r["caller"])),
                text(r["result"]) + (", poor" if r["poor_quality"] else ""), text(r["pages"]), text(r["transport"]),
                text(r["account"]), text(r["mail"]), text(r["tries"]), clock(r["next_try_at"]),
                text(r["last_error"]) or (text(r["t30_text"]) if r["result"] != "complete" else ""),
            )
            for r in rows
        ],
        f"No fax in the last {since}.",
    )  # fmt: skip


@app.command()
def show(
    fax: Annotated[str, typer.Argument(help="The fax's id, which is that of its call.")],
    config: Config = None,
    admin: Admin = None,
    as_json: Json = False,
) -> None:
    """All that is known of a fax but its pages."""
    row = edge_client(config, admin).row("/faxes/", fax)
    if as_json:
        print_json(row)
        return
    for name, value in row.items():
        if name == "caller" and row.get("caller_withheld"):
            value = ANONYMOUS
        if name == "page_quality" and isinstance(value, list):
            for number, page in enumerate(value, 1):
                said = ", ".join(f"{k} {text(v)}" for k, v in page.items())
                print(f"{f'page {number}':<16} {said}")
        elif value is not None:
            print(f"{name:<16} {clock(value) if name.endswith('_at') else text(value)}")


@app.command()
def resend(
    fax: Annotated[str, typer.Argument(help="The fax's id.")], config: Config = None, admin: Admin = None
) -> None:
    """Mail a received fax again: after the mail server refused it, or to an address that was corrected."""
    edge_client(config, admin).row("/faxes/", fax, post=True, then="/resend")
    print(f"Fax {fax} is mailed again; `sip-edge fax show {fax}` says what became of it.")


@app.command()
def send(
    file: Annotated[Path, typer.Argument(help="A PDF.", dir_okay=False)],
    account: Annotated[str, typer.Option(help="The account that sends and pays.")],
    number: Annotated[str, typer.Option("--from", help="Its number to show, E.164 with +.")],
    to: Annotated[str, typer.Option("--to", help="Who gets it, as the account would dial it.")],
    resolution: Annotated[str, typer.Option(help="standard, fine or superfine.")] = "fine",
    config: Config = None,
    admin: Admin = None,
) -> None:
    """Send a PDF as a fax: a call of the account, with its channels and its record."""
    try:
        pdf = file.read_bytes()
    except OSError as e:
        raise CommandError(f"{file} cannot be read: {e.strerror}") from None
    query = {"account": account, "from": number, "to": to, "resolution": resolution}
    fax = text(edge_client(config, admin).send("/faxes", pdf, **query)["fax"])
    print(f"Fax {fax} is on its way; `sip-edge fax show {fax}` says how it goes.")
