"""Commands that read what was written: refusals, why. They ask the daemon, and the database where it is away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from edge.admin.text import parse_age
from edge.cdr.record import ANONYMOUS
from edge.cdr.tables import AnyConnection, PostgresRecords
from edge.cli.client import EdgeAway
from edge.cli.options import Admin, Config, Json, edge_client, settings
from edge.cli.output import CommandError, Row, clock, print_json, print_table, text
from edge.cli.provision import with_database
from edge.observability.printable import printable

if TYPE_CHECKING:
    from config.settings import Settings
    from edge.cli.provision import Work

_T = TypeVar("_T")
_SEVEN_DAYS = timedelta(days=7)


def refusals(
    since: Annotated[str, typer.Option(help="How far back: 90s, 15m, 2h, 7d (they are kept 7 days).")] = "1d",
    number: Annotated[str | None, typer.Option(help="Only of this number (E.164 with +).")] = None,
    account: Annotated[str | None, typer.Option(help="Only of this account.")] = None,
    limits: Annotated[bool, typer.Option("--limits", help="Only those for which channels were missing.")] = False,
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
            "/refusals",
            since=since,
            number=number,
            account=account,
            limit=str(limit),
            limits="1" if limits else None,
        )
    except EdgeAway as away:
        start = datetime.now(UTC) - age  # noqa: TID251  a command counts from the time of the person who asks
        rows = list(
            _read(config, away, lambda r: r.refusals(start, number, account, limit, limits_only=limits)),
        )
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
    if limits and rows:
        counts = Counter(text(r["level"]) for r in rows)
        print("\n" + ", ".join(f"{counts[level]} for want of a channel of the {level}" for level in sorted(counts)))


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
        found = _read(config, away, lambda r: r.find(call))
    if found is None:
        raise CommandError(f"no call {call!r} is on record")
    if as_json:
        print_json(found)
    else:
        print("\n".join(map(printable, explain(found))))


def explain(found: Mapping[str, object]) -> list[str]:
    """A call on record, or one that is up, in sentences: what it was, how it ended, what left, and the decision's
    steps."""
    caller = ANONYMOUS if found["caller_withheld"] else text(found.get("caller")) or "unknown"
    lines = _refused(found, caller) if found["table"] == "refused_calls" else _call(found, caller)
    steps = found.get("trace")
    if isinstance(steps, list) and steps:
        lines += ["How it was decided:", *(f"  {step['rule']!s:<4} {step['text']}" for step in steps)]
    return lines


def _refused(found: Mapping[str, object], caller: str) -> list[str]:
    lines = [
        f"Call {found['id']} was refused on {clock(found['at'])}: {found['reason']}.",
        f"  {found['direction']} from {caller} to {text(found['number']) or 'unknown'}",
    ]
    if found["limit_value"] is not None:
        lines.append(f"  limit of the {found['level']}: {_used(found)} in use")
    if found["detail"]:
        lines.append(f"  {found['detail']}")
    return lines


def _call(found: Mapping[str, object], caller: str) -> list[str]:
    began = clock(found["started_at"])
    if found["table"] == "live":
        lines = [f"Call {found['id']}, {found['direction']}, is {found['outcome']} since {began}."]
    else:
        lines = [f"Call {found['id']}, {found['direction']}, {began}: {found['outcome']}."]
    lines.append(
        f"  from {caller} ({found['source_kind']} {found['source_name']}), dialled {text(found.get('dialled'))}"
    )
    account, billed = text(found.get("account")), text(found.get("billed_account"))
    if account:
        lines.append(f"  for account {account}" + (f", billed to account {billed}" if billed != account else ""))
    if found.get("target_kind"):
        lines.append(f"  to {text(found.get('called'))} at {found['target_kind']} {text(found.get('target_name'))}")
    if found["table"] != "live":
        said = f"  answer to the caller: {text(found.get('sip_status')) or 'none'} {text(found.get('reason'))}"
        lines.append(said.rstrip())
    attempts = found.get("attempts")
    for tried in attempts if isinstance(attempts, list) else []:
        came = tried.get("status") or ("not yet answered" if found["table"] == "live" else "no answer")
        lines.append(f"  tried {tried['kind']} {tried['name']}: {came}")
        lines += [f"      at {host}" for host in tried.get("hosts", ())]
        lines += [f"      {line}" for line in tried.get("sent", ())]
    return lines


def _used(row: Mapping[str, object]) -> str:
    return "" if row["limit_value"] is None else f"{text(row['used'])}/{row['limit_value']}"


def from_database(config: Path | None, away: EdgeAway, work: Work[_T]) -> _T:
    """Run `work` on a connection to the database, since no daemon answers; an embedded one is started for it. Raises
    CommandError."""
    chosen = settings(config)
    if chosen.database is None and not (chosen.database_folder / "PG_VERSION").exists():
        raise CommandError(
            f"{away}. Without it only a database can be asked, and {chosen.data_dir} holds none"
        ) from None
    try:
        return with_database(config, work)
    except CommandError as e:
        raise CommandError(f"{away}\n{e}") from None


def _read(config: Path | None, away: EdgeAway, ask: Callable[[PostgresRecords], Awaitable[_T]]) -> _T:
    async def run(connection: AnyConnection, _chosen: Settings) -> _T:
        return await ask(PostgresRecords(lambda: nullcontext(connection)))

    return from_database(config, away, run)
