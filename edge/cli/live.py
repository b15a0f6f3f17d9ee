"""Commands that look into the running daemon: calls, registrations, carriers, trace, drain."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edge.cli.options import Admin, Config, Json, edge_client
from edge.cli.output import CommandError, Row, print_json, print_table, since, text, until
from edge.observability.printable import printable_lines


def calls(config: Config = None, admin: Admin = None, as_json: Json = False) -> None:
    """Calls that are up now."""
    rows = edge_client(config, admin).rows("/calls")
    if as_json:
        print_json(rows)
        return
    now = _now()
    print_table(
        ("CALL", "STATE", "DIRECTION", "FROM", "CALLER", "CALLED", "TO", "ACCOUNT", "AGE", "TALKING"),
        [
            (
                text(r["id"]), text(r["state"]), text(r["direction"]), text(r["source"]), text(r["caller"]),
                text(r["called"]), text(r["target"]), text(r["account"]), since(r["started_at"], now),
                since(r["answered_at"], now),
            )
            for r in rows
        ],
        "No calls are up.",
    )  # fmt: skip


def registrations(config: Config = None, admin: Admin = None, as_json: Json = False) -> None:
    """Phones and PBXs that are registered now."""
    rows = edge_client(config, admin).rows("/registrations")
    if as_json:
        print_json(rows)
        return
    now = _now()
    print_table(
        ("KIND", "NAME", "ACCOUNT", "EXPIRES IN", "OVER", "CONTACT", "USER AGENT"),
        [
            (
                text(r["kind"]), text(r["name"]), text(r["account"]), until(r["expires_at"], now), text(r["flow"]),
                text(r["contact"]), text(r["user_agent"]),
            )
            for r in rows
        ],
        "Nobody is registered.",
    )  # fmt: skip


def carriers(config: Config = None, admin: Admin = None, as_json: Json = False) -> None:
    """Carriers and whether calls can be sent to them."""
    rows = edge_client(config, admin).rows("/carriers")
    if as_json:
        print_json(rows)
        return
    now = _now()
    print_table(
        ("CARRIER", "MODE", "STATE", "USABLE", "FOR", "NEXT TRY IN", "CALLS", "LAST ANSWER"),
        [
            (
                text(r["name"]), text(r["mode"]), text(r["state"]), text(r["usable"]), since(r["since"], now),
                until(r["next_attempt_at"], now),
                text(r["calls"]) if r["max_calls"] is None else f"{r['calls']}/{r['max_calls']}",
                text(r["last_answer"]),
            )
            for r in _with_proxies(rows)
        ],
        "No carriers are provisioned.",
    )  # fmt: skip


def trace(
    call: Annotated[str, typer.Argument(help="Our id of the call, one of its SIP Call-IDs, or `last`.")],
    pcap: Annotated[Path | None, typer.Option(help="Write a capture for Wireshark to this file instead.")] = None,
    ladder: Annotated[bool, typer.Option("--ladder", help="Only the ladder, without the messages.")] = False,
    config: Config = None,
    admin: Admin = None,
) -> None:
    """The ladder of a call and its messages, while they are kept (at most 7 days)."""
    client = edge_client(config, admin)
    if pcap is None:
        sys.stdout.write(printable_lines(client.get("/trace/", call, messages="0" if ladder else "1").decode()))
        return
    capture = client.get("/trace/", call, format="pcap")
    try:
        pcap.write_bytes(capture)
    except OSError as e:
        raise CommandError(f"{pcap} cannot be written: {e.strerror}") from None
    print(f"{pcap}: {len(capture)} bytes; open it with Wireshark")


def drain(config: Config = None, admin: Admin = None) -> None:
    """Take no new calls, and end the daemon when the last call is over."""
    answer = edge_client(config, admin).row("/drain", post=True)
    print(f"The edge takes no new calls and ends when the {text(answer.get('calls'))} that are up are over.")


def reload(config: Config = None, admin: Admin = None) -> None:
    """Read settings and certificates again; calls go on. What wants a restart is named."""
    answer = edge_client(config, admin).row("/reload", post=True)
    changed, restart = answer.get("changed"), answer.get("restart")
    names = ", ".join(map(text, changed)) if isinstance(changed, list) else ""
    print(f"Changed: {names or 'no setting'}. Certificates were read again.")
    if isinstance(restart, list) and restart:
        print(f"These hold after a restart only: {', '.join(map(text, restart))}.")


def upgrade(config: Config = None, admin: Admin = None) -> None:
    """Let the program that is installed now take the place of the one that runs; calls go on."""
    answer = edge_client(config, admin).row("/upgrade", post=True)
    print(f"The edge goes over to the program that is installed, with {text(answer.get('calls'))} calls.")


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251  a command shows the time of the person who asks


def _with_proxies(rows: list[Row]) -> Iterator[Row]:
    """A line for each outbound proxy below a carrier that has several, and for each host that is avoided."""
    empty = {
        "mode": "",
        "state": "",
        "usable": "",
        "since": None,
        "next_attempt_at": None,
        "calls": "",
        "max_calls": None,
    }
    for row in rows:
        yield row
        found = row.get("proxies")
        proxies = found if isinstance(found, list) else []
        for proxy in proxies:
            if len(proxies) > 1:
                shown = {"state": proxy["state"], "usable": proxy["usable"], "since": proxy["since"]}
                yield {**empty, **shown, "name": f"  {proxy['proxy']}", "last_answer": proxy["detail"]}
            for host in proxy["avoided"]:
                yield {**empty, "name": "", "last_answer": host}
