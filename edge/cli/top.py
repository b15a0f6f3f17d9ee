"""The command `top`: live calls, rates, limits and carriers, redrawn every two seconds until `q` is pressed."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import typer

from edge.cli.client import EdgeAway, EdgeClient
from edge.cli.options import Admin, Config, edge_client
from edge.cli.output import CommandError, Row, since, text

_ALTERNATE, _NORMAL = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"
_BOLD, _RED, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[0m"


class Seen(NamedTuple):
    """What the edge said at one moment."""

    at: datetime
    calls: Sequence[Row]
    carriers: Sequence[Row]
    limits: Sequence[Row]
    metrics: Mapping[str, float]
    missing: Sequence[str]


def top(
    every: Annotated[float, typer.Option(min=0.5, max=60, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look and end.")] = False,
    config: Config = None,
    admin: Admin = None,
) -> None:
    """Live calls, rates, limits and carriers of the running daemon; `q` ends it."""
    client = edge_client(config, admin)
    if once or not sys.stdout.isatty() or not sys.stdin.isatty():
        size = shutil.get_terminal_size()
        print("\n".join(frame(look(client), None, size.columns, 10_000, colour=False)))
        return
    before: Seen | None = None
    with _screen():
        while True:
            size = shutil.get_terminal_size()
            try:
                now = look(client)
                lines = frame(now, before, size.columns, size.lines)
                before = now
            except EdgeAway as away:
                lines, before = [_cut(f"{_RED}{away}{_PLAIN}", size.columns + len(_RED + _PLAIN))], None
            body = "".join(f"{line}{_CLEAR_LINE}\r\n" for line in lines[: size.lines - 1])
            sys.stdout.write(f"{_HOME}{body}{_CLEAR_REST}")
            sys.stdout.flush()
            if _key(every) in ("q", "\x03", "\x04"):
                return


def look(client: EdgeClient) -> Seen:
    """Ask the daemon. Raises EdgeAway, CommandError."""
    return Seen(
        datetime.now(UTC),  # noqa: TID251  a command shows the time of the person who asks
        client.rows("/calls"),
        client.rows("/carriers"),
        client.rows("/limits"),
        _metrics(client.get("/metrics").decode()),
        _missing(client),
    )


def frame(now: Seen, before: Seen | None, columns: int, lines: int, *, colour: bool = True) -> list[str]:
    """The screen: a line of state, a line of rates, then carriers, limits and as many calls as there is room for."""
    bold, red, plain = (_BOLD, _RED, _PLAIN) if colour else ("", "", "")
    state = f"{red}not ready: {', '.join(now.missing)}{plain}" if now.missing else "ready"
    up = sum(1 for call in now.calls if call["answered_at"] is not None)
    out = [
        f"{bold}{now.at:%H:%M:%S}Z{plain}  {state}  calls {len(now.calls)} ({up} up)"
        f"  registrations {_total(now, 'registrations'):.0f}  relay sessions {_total(now, 'relay_sessions'):.0f}"
        f"  records waiting {_total(now, 'spool_records'):.0f}",
        _rates(now, before),
    ]
    uneven = sorted(
        name.partition('"')[2].partition('"')[0]
        for name, value in now.metrics.items()
        if name.startswith("sip_edge_books_difference") and value
    )
    if uneven:
        out.append(f"{red}the books do not balance: {', '.join(uneven)} (docs/metrics.md){plain}")
    out += ["", f"{bold}{'CARRIER':<20} {'STATE':<13} {'CALLS':>9}  LAST ANSWER{plain}"]
    for row in now.carriers:
        calls = f"{row['calls']}/{row['max_calls']}" if row["max_calls"] is not None else text(row["calls"])
        line = f"{text(row['name']):<20} {text(row['state']):<13} {calls:>9}  {text(row['last_answer'])}"
        out.append(line if row["usable"] else f"{red}{_cut(line, columns)}{plain}")
    if now.limits:
        out += ["", f"{bold}{'LIMIT OF':<40} {'DIRECTION':<9} {'USED':>11}{plain}"]
        for row in now.limits[:5]:
            full = int(str(row["used"])) >= int(str(row["limit"]))
            who = f"{text(row['level'])} {text(row['key'])}"
            line = f"{who:<40} {text(row['direction']):<9} {text(row['used'])} of {text(row['limit']):>4}"
            out.append(f"{red}{_cut(line, columns)}{plain}" if full else line)
    out += ["", f"{bold}{'AGE':>7} {'TALKING':>7} {'STATE':<9} {'FROM':<24} {'CALLER':<16} {'CALLED':<16} TO{plain}"]
    room = max(0, lines - len(out) - 2)
    for row in now.calls[-room:] if room else ():
        out.append(
            f"{since(row['started_at'], now.at):>7} {since(row['answered_at'], now.at):>7} {text(row['state']):<9}"
            f" {text(row['source']):<24} {text(row['caller']):<16} {text(row['called']):<16} {text(row['target'])}"
        )
    if len(now.calls) > room:
        out.append(f"... and {len(now.calls) - room} older")
    return [line if "\x1b" in line else _cut(line, columns) for line in out]


def _rates(now: Seen, before: Seen | None) -> str:
    if before is None:
        return "rates come with the second look"
    seconds = max(0.001, (now.at - before.at).total_seconds())

    def rate(name: str, label: str = "") -> str:
        return f"{max(0.0, _total(now, name, label) - _total(before, name, label)) / seconds:.1f}"

    busy = 100 * float(rate("process_cpu_seconds_total"))
    return (
        f"per second: attempts {rate('attempts_total')}, answered {rate('attempts_ended_total', 'answered')},"
        f" refused {rate('attempts_ended_total', 'refused')}, failed {rate('attempts_ended_total', 'failed')},"
        f" messages in {rate('requests_total', 'in')} + {rate('responses_total', 'in')},"
        f" sent again {rate('retransmissions_total')}, dropped {rate('guard_drops_total')};  CPU {busy:.0f} %"
    )


def _total(seen: Seen, name: str, label: str = "") -> float:
    """The sum over the labels of a metric, of those series that have `label` as a value."""
    return sum(
        value
        for series, value in seen.metrics.items()
        if series.partition("{")[0] == f"sip_edge_{name}" and (not label or f'"{label}"' in series)
    )


def _metrics(exposition: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in exposition.splitlines():
        if line.startswith("sip_edge_"):
            series, _, value = line.rpartition(" ")
            found[series] = float(value)
    return found


def _missing(client: EdgeClient) -> list[str]:
    missing = client.row("/state").get("missing")
    return [text(reason) for reason in missing] if isinstance(missing, list) else []


def _cut(line: str, columns: int) -> str:
    return line if len(line) <= columns else line[: columns - 1] + "…"


def _key(seconds: float) -> str:
    """A key that is pressed within so many seconds, else nothing."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return os.read(sys.stdin.fileno(), 1).decode("latin-1") if ready else ""


@contextmanager
def _screen() -> Iterator[None]:
    """The terminal's other screen, keys without Enter; as it was afterwards."""
    descriptor = sys.stdin.fileno()
    try:
        settings = termios.tcgetattr(descriptor)
    except termios.error as error:
        raise CommandError(f"this terminal cannot be used ({error}); try --once") from None
    sys.stdout.write(_ALTERNATE)
    try:
        tty.setcbreak(descriptor)
        yield
    except KeyboardInterrupt:
        return
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, settings)
        sys.stdout.write(_NORMAL)
        sys.stdout.flush()
