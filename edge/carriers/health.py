"""Whether a carrier known by address answers: verdicts on OPTIONS (RFC 3261 section 11). Pure.

A carrier counts as up until it has left `STRIKES` requests in a row unanswered, or says 503; any other final response
proves that somebody is there, also 404, 405 or 481: many carriers do not know OPTIONS. Some never answer it at all, so
silence counts only from those that have answered before.
"""

from __future__ import annotations

from collections.abc import Callable

STRIKES = 2
INTERVAL = 60.0
INTERVAL_DOWN = 20.0
"""Seconds between requests while the last one failed: a carrier that returns is to be used soon."""
RETRY_AFTER_MAX = 3600.0


class Health:
    """What is known of one carrier; `up` is the verdict, `detail` says why it is down."""

    __slots__ = ("_answered", "_jitter", "_strikes", "deadline", "detail", "since", "status", "up")

    def __init__(self, jitter: Callable[[], float], now: float) -> None:
        """`jitter` gives numbers from 0 to 1; the first request falls into the first 5 seconds."""
        self.up = True
        self.status: int | None = None
        """The last final response's status, None where there was none."""
        self.detail = ""
        self.since = now
        self.deadline = now + 5 * jitter()
        """When the next OPTIONS is due; infinite while one is in flight."""
        self._answered = False
        self._jitter = jitter
        self._strikes = 0

    def sent(self) -> None:
        """An OPTIONS is in flight."""
        self.deadline = float("inf")

    def answered(self, status: int, retry_after: float | None, now: float) -> bool:
        """A final response came. True where the verdict changed."""
        self.status = status
        self._answered = True
        if status == 503:
            self._next(INTERVAL_DOWN, now)
            if retry_after is not None:
                self.deadline = max(self.deadline, now + min(retry_after, RETRY_AFTER_MAX) * (1 + 0.1 * self._jitter()))
            return self._verdict(False, "503 Service Unavailable", now)
        self._strikes = 0
        self._next(INTERVAL, now)
        return self._verdict(True, "", now)

    def unanswered(self, detail: str, now: float) -> bool:
        """Timed out, or could not be sent. True where the verdict changed."""
        self.status = None
        self._strikes += 1
        self._next(INTERVAL_DOWN if self._answered else INTERVAL, now)
        if self._answered and self._strikes >= STRIKES:
            return self._verdict(False, detail, now)
        self.detail = detail
        return False

    def _next(self, seconds: float, now: float) -> None:
        self.deadline = now + seconds * (0.9 + 0.2 * self._jitter())

    def _verdict(self, up: bool, detail: str, now: float) -> bool:
        self.detail = detail
        if up == self.up:
            return False
        self.up, self.since = up, now
        return True
