"""Every input of the corpus again: what the search began with, what reached new code, what once broke something."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(target: str) -> None:
    """No input breaks its target."""
    found = sorted((CORPUS / target).iterdir())
    assert found, f"there is no corpus for {target}"
    for file in found:
        try:
            TARGETS[target](file.read_bytes())
        except Exception as error:
            raise AssertionError(f"{target} breaks on {file.name}") from error
