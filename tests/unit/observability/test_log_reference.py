"""docs/logs.md names every event that the code logs, at its level, and no other."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

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
    return found


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
