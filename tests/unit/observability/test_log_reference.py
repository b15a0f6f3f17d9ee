"""docs/logs.md names every event that the code logs, at its level, and no other."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from edge.cdr.record import Attempt, CallRecord, MediaFigures, finished_fields

ROOT = Path(__file__).parents[3]
LEVELS = frozenset({"debug", "info", "warning", "error"})
DYNAMIC = {"tell": {"info", "warning"}, "log": {"info", "warning", "error"}}
"""Functions that are one of the levels, chosen at run time."""
_EVENT = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+|internal_error")
_ROW = re.compile(r"^\|([^|\n]*`[^|\n]+`[^|\n]*)\|([^|\n]+)\|([^|\n]*)\|([^|\n]*)\|$", re.MULTILINE)


def logged() -> dict[str, set[str]]:
    """Events of the code, with the levels at which each is logged."""
    found: dict[str, set[str]] = defaultdict(set)
    for package in ("edge", "media", "config"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    for name in constants(node.args[0]) if node.args else ():
                        if isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                            found[name].add(node.func.attr)
                        elif isinstance(node.func, ast.Name) and node.func.id in DYNAMIC:
                            found[name] |= DYNAMIC[node.func.id]
    found["log.dropped"] = {"warning"}  # written by the writer of lines itself
    found["library.said"] = {"warning", "error"}
    return found


def fields() -> set[str]:
    """Names of all fields that the code logs."""
    found = {"at", "level", "event", "room", "exception", "lines", "text", "left_out"}  # of logging.py and seldom.py
    for package in ("edge", "media", "config"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and node.args and constants(node.args[0]) and is_logging(node.func):
                    found |= {keyword.arg for keyword in node.keywords if keyword.arg not in (None, "exc_info")}
    return found


def is_logging(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return function.attr in LEVELS
    return isinstance(function, ast.Name) and function.id in DYNAMIC


def constants(argument: ast.expr) -> list[str]:
    """Event names that an argument may be."""
    return [
        node.value
        for node in ast.walk(argument)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _EVENT.fullmatch(node.value)
    ]


def documented() -> dict[str, tuple[set[str], str]]:
    """Events of the page: levels of their row, and its meaning."""
    found = {}
    for names, levels, meaning, _remedy in _ROW.findall((ROOT / "docs" / "logs.md").read_text()):
        for name in re.findall(r"`([^`]+)`", names):
            found[name] = set(levels.strip().split(", ")), meaning
    return found


def test_every_event_is_explained_at_its_level() -> None:
    """Whoever adds an event adds its row; whoever removes one removes it."""
    code, page = logged(), documented()
    assert len(code) > 50
    missing = {name: sorted(levels) for name, levels in code.items() if name not in page}
    assert not missing, f"docs/logs.md lacks these events; add a row for each: {missing}"
    assert not set(page) - set(code), "docs/logs.md explains events that nothing logs"
    wrong = {name: (sorted(levels), sorted(page[name][0])) for name, levels in code.items() if levels - page[name][0]}
    assert not wrong, f"levels in the code, levels on the page: {wrong}"


def test_what_wants_a_person_says_what_to_do() -> None:
    """An error without a remedy wakes somebody up for nothing."""
    for names, levels, _meaning, remedy in _ROW.findall((ROOT / "docs" / "logs.md").read_text()):
        if "error" in levels:
            assert remedy.strip() or "relay.lost" in names, names


def test_every_field_is_explained() -> None:
    """What a line may carry has its meaning on the page, and nothing else has. No field is named as one that every line
    has: a JSON object with a name twice is read as with the last one alone."""
    page = (ROOT / "docs" / "logs.md").read_text().partition("## Fields")[2]
    first, _, table = page.partition("| field |")
    names = set(re.findall(r"`(at|level|event|room)`", first))
    for row in re.findall(r"^\|([^|]*)\|", table, re.MULTILINE):
        names |= set(re.findall(r"`([a-z_0-9]+)`", row))
    assert names == fields()
    reserved = {"at", "level", "event", "room"}
    for package in ("edge", "media", "config"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and node.args and constants(node.args[0]) and is_logging(node.func):
                    assert not reserved & {keyword.arg for keyword in node.keywords}, f"{path}:{node.lineno}"


def test_the_fields_of_a_finished_call_are_explained() -> None:
    """docs/operations.md lists what `call.finished` carries, and nothing else."""
    page = (ROOT / "docs" / "operations.md").read_text().partition("sums up each call:")[2].partition("Every number")[0]
    rows = re.findall(r"^\|([^|]*)\|", page, re.MULTILINE)
    absent = {field.name: 1 for field in dataclasses.fields(ONE) if getattr(ONE, field.name) is None}
    tried = Attempt("seat", "a", AT, 200)
    record = dataclasses.replace(
        dataclasses.replace(ONE, **absent), ringing_at=AT, answered_at=AT, emergency=True, caller_withheld=True,
        media=MediaFigures(mos_a=4.0), attempts=(tried, tried),
    )  # type: ignore[arg-type]  # fmt: skip
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(finished_fields(record)) - {"call"}


AT = datetime(2026, 11, 22, tzinfo=UTC)
ONE = CallRecord(
    id="x", edge="e", started_at=AT, ended_at=AT,
    direction="inbound", source_kind="seat", source_name="a", outcome="answered",
)  # fmt: skip
