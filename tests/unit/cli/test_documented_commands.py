"""Commands that the documents name exist, with the options that they are given there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from edge.cli import app

ROOT = Path(__file__).parents[3]
PAGES = sorted((*(ROOT / "docs").glob("*.md"), ROOT / "README.md"))
_INLINE = re.compile(r"`(?:\.venv/bin/)?(sip-edge [^`]+)`")
_BLOCK = re.compile(r"^(?: {4,}|\$ )(?:\.venv/bin/)?(sip-edge [^#\n]+)", re.MULTILINE)


def commands(page: Path) -> list[str]:
    """What the page tells to type; examples that are shortened by dots are cut there."""
    text = page.read_text()
    found = {*_INLINE.findall(text), *_BLOCK.findall(text)}
    return sorted(line.partition("...")[0].partition("→")[0].strip() for line in found)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_commands_exist(page: Path) -> None:
    """Each word up to the first argument is a command, each option one of it."""
    for line in commands(page):
        command = typer.main.get_command(app)
        for word in shlex.split(line)[1:]:
            if word.startswith("-"):
                name = word.partition("=")[0]
                options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
                assert name in options, f"{page.name}: {line}: {command.name} has no {name}"
            elif names := getattr(command, "commands", None):
                assert word in names, f"{page.name}: {line}: no command {word} among {', '.join(names)}"
                command = names[word]


def test_something_is_compared() -> None:
    """The patterns find what pages tell."""
    assert len(commands(ROOT / "docs/runbook.md")) > 8
    assert "sip-edge refusals --since 15m" in commands(ROOT / "docs/runbook.md")
