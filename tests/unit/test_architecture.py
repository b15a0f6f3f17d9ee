"""The house rules that a machine can check: import contracts (docs/architecture.md), style, types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _run(*command: str) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_point_inwards() -> None:
    """Principle 1: three rings, and pure code stays pure."""
    _run("lint-imports", "--no-cache")


def test_style() -> None:
    """ruff finds nothing, and formatting is settled."""
    _run("ruff", "check", ".")
    _run("ruff", "format", "--check", ".")


@pytest.mark.timeout(300)
def test_types() -> None:
    """mypy, strict."""
    _run("mypy")


def test_names_of_test_files() -> None:
    """Two test files whose modules have the same name cannot be collected together."""
    modules: dict[str, Path] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        package = path.parent
        name = path.stem
        while (package / "__init__.py").exists():
            name = f"{package.name}.{name}"
            package = package.parent
        assert name not in modules, f"{path} and {modules[name]} are both the module {name}: rename one"
        modules[name] = path
