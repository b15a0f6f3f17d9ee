"""The documents say what the code does: every reason, every rule."""

from __future__ import annotations

import re
from pathlib import Path

from dialplan.model import Reason
from edge.sip.causes import REFUSALS

ROOT = Path(__file__).parents[3]


def rows(name: str) -> list[str]:
    """First cells of the tables in a document."""
    return re.findall(r"^\| `?([\w-]+)`? \|", (ROOT / "docs" / name).read_text(), re.M)


def test_every_reason_is_explained() -> None:
    """docs/refusals.md has each reason once, with what happened and what helps."""
    reasons = [r for r in rows("refusals.md") if r != "reason"]
    assert sorted(reasons) == sorted(r.value for r in Reason)
    for line in (ROOT / "docs" / "refusals.md").read_text().splitlines():
        if line.startswith("| `"):
            assert all(len(cell.strip()) > 5 for cell in line.strip("|").split("|"))


def test_every_reason_has_an_answer() -> None:
    """Each reason has a SIP status and a Q.850 cause."""
    assert set(REFUSALS) == {r.value for r in Reason}


def test_every_rule_is_documented() -> None:
    """Each rule number in the code stands in docs/dialplan.md, and the other way round."""
    used: set[str] = set()
    for file in (ROOT / "dialplan").rglob("*.py"):
        used.update(re.findall(r'"([EDIARCMB]\d{1,2})"', file.read_text()))
    documented = {r for r in rows("dialplan.md") if re.fullmatch(r"[EDIARCMB]\d{1,2}", r)}
    assert used == documented
