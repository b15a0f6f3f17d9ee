"""Hunting: which failure of several branches speaks for a target, and what it means for the next route. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """How a branch or a target failed."""

    status: int
    q850: int | None = None
    no_response: bool = False
    limited: bool = False
    no_answer: bool = False


def worse(a: Failure, b: Failure) -> bool:
    """True where `a` says more to the caller than `b` (RFC 3261 section 16.7 step 6, with the called person first).

    A decline (6xx) wins, then busy, then a refusal of the called side, then not available, then timeouts and 5xx.
    """
    return _rank(a) < _rank(b)


def _rank(failure: Failure) -> int:
    status = failure.status
    if status >= 600:
        return 0
    if status == 486:
        return 1
    if failure.no_response:
        return 9
    if status == 480:
        return 3
    if status in (408, 487):
        return 5
    if 400 <= status < 500:
        return 2
    return 6


def outcome(failure: Failure) -> str:
    """The name of the next route that fits (values of dialplan.model.Outcome)."""
    if failure.limited:
        return "limit"
    if failure.no_answer:
        return "no-answer"
    if failure.status in (486, 600, 603):
        return "busy"
    return "unreachable"


def result(failure: Failure) -> str:
    """The record's outcome for a call that failed like this."""
    if failure.no_answer:
        return "no-answer"
    if failure.status in (486, 600):
        return "busy"
    if failure.no_response or (failure.status >= 500 and failure.status < 600):
        return "failed"
    return "rejected"
