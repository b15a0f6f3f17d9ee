"""Commands that read what was written: refusals, why. They ask the daemon, and the database where it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from edge.admin.text import parse_age
from edge.cdr.record import ANONYMOUS
from edge.cdr.tables import AnyConnection, PostgresRecords
from edge.cli.client import EdgeAway
from edge.cli.options import Admin, Config, Json, edge_client, settings
from edge.cli.output import CommandError, Row, clock, print_json, print_table, text

_T = TypeVar("_T")
_SEVEN_DAYS = timedelta(days=7)


def refusals(
    since: Annotated[str, typer.Option(help="How far back: 90s, 15m, 2h, 7d (they are kept 7 days).")] = "1d",
    number: Annotated[str | None, typer.Option(help="Only of this number, as it is provisioned.")] = None,
    account: Annotated[str | None, typer.Option(help="Only of this account.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest.")] = 200,
    config: Config = None,
    admin: Admin = None,
    as_json: Json = False,
) -> None:
    """Calls that were refused, with the reason: limits, unknown numbers, wrong digests and so on."""
    try:
        age = min(parse_age(since), _SEVEN_DAYS)
    except ValueError as e:
        raise CommandError(f"--since: {e}") from None
    try:
        rows = edge_client(config, admin).rows(
            "/refusals", since=since, number=number, account=account, limit=str(limit)
        )
    except EdgeAway as away:
        start = datetime.now(UTC) - age  # noqa: TID251  a command counts from the time of the person who asks
        rows = list(_from_database(config, away, lambda r: r.refusals(start, number, account, limit)))
    if as_json:
        print_json(rows)
        return
    print_table(
        ("TIME", "REASON", "LIMIT OF", "USED", "DIRECTION", "NUMBER", "CALLER", "STATUS", "ACCOUNT", "FROM", "DETAIL"),
        [
            (
                clock(r["at"]), text(r["reason"]), text(r["level"]), _used(r), text(r["direction"]), text(r["number"]),
                ANONYMOUS if r["caller_withheld"] else text(r["caller"]), text(r["sip_status"]), text(r["account"]),
                text(r["trunk"] or r["carrier"] or r["source_ip"]), text(r["detail"]),
            )
            for r in rows
        ],
        f"No call was refused in the last {since}.",
    )  # fmt: skip


def why(
    call: Annotated[str, typer.Argument(help="Our id of the call, or one of its SIP Call-IDs.")],
    config: Config = None,
    admin: Admin = None,
    as_json: Json = False,
) -> None:
    """Why a call went where it went, step by step, or why it was refused."""
    try:
        found: Row | None = edge_client(config, admin).row("/why/", call)
    except EdgeAway as away:
        found = _from_database(config, away, lambda r: r.find(call))
    if found is None:
        raise CommandError(f"no call {call!r} is on record")
    if as_json:
        print_json(found)
    else:
        print("\n".join(explain(found)))


def explain(found: Mapping[str, object]) -> list[str]:
    """A call on record in sentences: what it was, how it ended, and the decision's steps."""
    lines = []
    if found["table"] == "live":
        lines.append(f"Call {found['id']} is up.")
    elif found["table"] == "refused_calls":
        caller = ANONYMOUS if found["caller_withheld"] else text(found["caller"]) or "unknown"
        lines.append(f"Call {found['id']} was refused on {clock(found['at'])}: {found['reason']}.")
        lines.append(f"  {found['direction']} from {caller} to {text(found['number']) or 'unknown'}")
        if found["limit_value"] is not None:
            lines.append(f"  limit of the {found['level']}: {_used(found)} in use")
        if found["detail"]:
            lines.append(f"  {found['detail']}")
    else:
        caller = ANONYMOUS if found["caller_withheld"] else text(found["caller"]) or "unknown"
        lines.append(f"Call {found['id']}, {found['direction']}, {clock(found['started_at'])}: {found['outcome']}.")
        lines.append(
            f"  from {caller} ({found['source_kind']} {found['source_name']}), dialled {text(found['dialled'])}"
        )
        if found["target_kind"]:
            lines.append(f"  to {text(found['called'])} at {found['target_kind']} {text(found['target_name'])}")
        lines.append(f"  answer to the caller: {text(found['sip_status']) or 'none'} {text(found['reason'])}".rstrip())
        attempts = found["attempts"]
        for tried in attempts if isinstance(attempts, list) else []:
            lines.append(f"  tried {tried['kind']} {tried['name']}: {tried['status'] or 'no answer'}")
    steps = found.get("trace")
    if isinstance(steps, list) and steps:
        width = max(len(str(step["rule"])) for step in steps)
        lines += ["Decision:", *(f"  {step['rule']!s:<{width}}  {step['text']}" for step in steps)]
    return lines


def _used(row: Mapping[str, object]) -> str:
    return "" if row["limit_value"] is None else f"{text(row['used'])}/{row['limit_value']}"


def _from_database(config: Path | None, away: EdgeAway, ask: Callable[[PostgresRecords], Awaitable[_T]]) -> _T:
    url = settings(config).database
    if url is None:
        raise CommandError(f"{away}. Without the daemon only a shared database (DATABASE_URL) can be asked") from None

    # Loaded here only: the daemon mostly answers, and commands start faster without.
    import asyncpg

    from config.store import AWAY

    async def run() -> _T:
        connection: AnyConnection = await asyncpg.connect(url, timeout=10)
        try:
            return await ask(PostgresRecords(lambda: nullcontext(connection)))
        finally:
            await connection.close()

    try:
        return asyncio.run(run())
    except (*AWAY, ValueError) as e:
        raise CommandError(f"{away}; and the database does not answer ({type(e).__name__}: {e})") from None
