"""Domain rule 7.4a: users cannot be told apart by time. Work is counted: clocks of busy machines tell nothing."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType

import pytest

from edge.sip.auth import digest
from tests.unit.inbound.test_authenticate import Challenge, Door, register, signed


def _work(door: Door, username: str, algorithm: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], list[int]]:
    """Calls of our functions while a wrong password of this user is refused, and the bytes that were hashed."""
    calls: Counter[str] = Counter()
    hashed: list[int] = []
    real = digest._hash_bytes

    def counted(name: str, data: bytes) -> str:
        hashed.append(len(data))
        return real(name, data)

    def seen(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and "/edge/" in frame.f_code.co_filename and "/tests/" not in frame.f_code.co_filename:
            calls[f"{frame.f_code.co_filename}:{frame.f_code.co_name}"] += 1

    challenge = door.ask(register())
    assert isinstance(challenge, Challenge)
    request = signed(challenge, username, "wrong", algorithm=algorithm)
    with monkeypatch.context() as patched:
        patched.setattr(digest, "_hash_bytes", counted)
        sys.setprofile(seen)
        try:
            result = door.ask(request)
        finally:
            sys.setprofile(None)
    assert isinstance(result, Challenge)
    return calls, hashed


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
def test_unknown_users_take_the_work_of_known_ones(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seat, a trunk that registers, one that is known by address alone, and nobody (names of one length): the same
    functions as often, the same bytes hashed; but for the steps of a generator over the secrets that there are."""
    seen = {name: _work(Door(), name, algorithm, monkeypatch) for name in ("201", "999", "hq0", "fix")}
    assert len({tuple(hashed) for _, hashed in seen.values()}) == 1, seen
    assert seen["201"][1], "nothing was hashed"
    first = seen["201"][0]
    for name, (calls, _) in seen.items():
        other = {where: (first[where], calls[where]) for where in first | calls if first[where] != calls[where]}
        assert all("genexpr" in where for where in other), (name, other)
