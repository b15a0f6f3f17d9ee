"""Random identifiers come from outside, so that the core stays a function of its inputs."""

from __future__ import annotations

from typing import Protocol


class IdSource(Protocol):
    """Gives unguessable tokens; tests pass a counting one."""

    def token(self) -> str:
        """At least 64 bits of randomness in token characters (RFC 3261 section 19.3)."""
        ...


BRANCH_COOKIE = "z9hG4bK"
"""Begins every RFC 3261 branch (section 8.1.1.7)."""
