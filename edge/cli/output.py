"""What commands print: aligned tables for people, JSON for programs, one sentence for what went wrong."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from edge.admin.text import json_text
from edge.observability.printable import printable

Row = Mapping[str, object]


class CommandError(Exception):
    """Ends a command with this text on standard error and exit code 1."""


def print_json(value: object) -> None:
    """The value as JSON."""
    print(json_text(value), end="")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Rows under their headings, or the sentence `empty`. On a terminal the last column is cut at its edge."""
    if not rows:
        print(empty)
        return
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in (columns, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        print(line if limit is None or len(line) <= limit else line[: limit - 1] + "…")


def text(value: object) -> str:
    """A cell: nothing for None, yes and no for truth. What strangers sent comes out safe for a terminal."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))


def moment(value: object) -> datetime | None:
    """A time out of JSON (ISO 8601) or a database row."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) and value else None


def clock(value: object) -> str:
    """A time for a cell: UTC to the second."""
    at = moment(value)
    return f"{at:%Y-%m-%d %H:%M:%S}Z" if at is not None else ""


def length(seconds: float) -> str:
    """A length of time: `42s`, `3m12s`, `2h05m`, `3d04h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole // 60 % 60:02d}m"
    return f"{whole // 86_400}d{whole // 3600 % 24:02d}h"


def since(value: object, now: datetime) -> str:
    """How long ago, for a cell."""
    at = moment(value)
    return length((now - at).total_seconds()) if at is not None else ""


def until(value: object, now: datetime) -> str:
    """How long from now, for a cell."""
    at = moment(value)
    return length((at - now).total_seconds()) if at is not None else ""
