"""Coverage-guided search for inputs that break a target: `python -m tests.fuzz TARGET [SECONDS]`.

New inputs that reach new code go to tests/_artifacts/fuzz/TARGET; `--keep` merges those that add coverage into the
corpus of the repository. An input that broke the target is written to tests/_artifacts/fuzz as TARGET-crash-*: mend the
fault, and add the input to tests/fuzz/corpus/TARGET, so that every `make test` replays it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent
ARTIFACTS = HERE.parent / "_artifacts" / "fuzz"

with atheris.instrument_imports(include=["edge", "media", "dialplan", "config"]):
    from tests.fuzz.targets import TARGETS

DICTIONARY = HERE / "sip.dict"


def main() -> None:
    """Run until the time is over or an input breaks the target."""
    names = [a for a in sys.argv[1:] if not a.startswith("-")]
    if not names or names[0] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz TARGET [SECONDS] [--keep]; targets: {', '.join(TARGETS)}")
    target = names[0]
    seconds = names[1] if len(names) > 1 else "0"
    corpus, found = HERE / "corpus" / target, ARTIFACTS / target
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    if "--keep" in sys.argv:
        arguments = ["-merge=1", str(corpus), str(found)]
    else:
        arguments = [f"-max_total_time={seconds}", str(found), str(corpus)]
    arguments += [f"-artifact_prefix={ARTIFACTS}/{target}-", f"-dict={DICTIONARY}", "-max_len=4096", "-timeout=5"]
    atheris.Setup([sys.argv[0], *arguments], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
