"""Whether a carrier answers: verdicts on OPTIONS (RFC 3261 section 11) and on calls. Pure.

A carrier counts as up until it has left `STRIKES` requests in a row unanswered, or says 503; any other final response
proves that somebody is there, also 404, 405 or 481: many carriers do not know OPTIONS. Some never answer it at all, so
silence counts only from those that have answered before.

Calls that get no answer at all, not even 100, count too: there are carriers that answer REGISTER and OPTIONS and lose
INVITEs. After `STRIKES` of them in a row the carrier is deaf for a while; then a call may try again, and the next
silence costs twice the time.
"""

from __future__ import annotations

from collections.abc import Callable

STRIKES = 2
INTERVAL = 60.0
INTERVAL_DOWN = 20.0
"""Seconds between requests while the last one failed: a carrier that returns is to be used soon."""
RETRY_AFTER_MAX = 3600.0
DEAF_FIRST = 30.0
DEAF_MAX = 600.0


class Health:
    """What is known of one carrier; `up` is the verdict, `detail` says why it is down."""

    __slots__ = (
        "_answered",
        "_jitter",
        "_silent_calls",
        "_strikes",
        "deadline",
        "deaf_until",
        "detail",
        "since",
        "status",
        "up",
    )

    def __init__(self, jitter: Callable[[], float], now: float) -> None:
        """`jitter` gives numbers from 0 to 1; the first request falls into the first 5 seconds."""
        self.up = True
        self.status: int | None = None
        """The last final response's status, None where there was none."""
        self.detail = ""
        self.since = now
        self.deadline = now + 5 * jitter()
        """When the next OPTIONS is due; infinite while one is in flight."""
        self.deaf_until: float | None = None
        """Until then no calls, as the last ones were not answered."""
        self._answered = False
        self._silent_calls = 0
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

    @property
    def has_answered(self) -> bool:
        """Whether an OPTIONS was ever answered: else silence says nothing."""
        return self._answered

    @property
    def suspect(self) -> bool:
        """Whether the last call got no answer."""
        return self._silent_calls > 0

    def call_unanswered(self, now: float) -> bool:
        """A call got nothing back at all. True where it is deaf from now on."""
        self._silent_calls += 1
        if self._silent_calls < STRIKES or self.deaf_until is not None:
            return False
        seconds = min(DEAF_MAX, DEAF_FIRST * 2 ** min(self._silent_calls - STRIKES, 10))
        self.deaf_until = now + seconds * (0.9 + 0.2 * self._jitter())
        self.since = now
        return True

    def call_answered(self) -> bool:
        """A call got an answer, whatever it says. True where it was deaf."""
        self._silent_calls = 0
        was_deaf, self.deaf_until = self.deaf_until is not None, None
        return was_deaf

    def listen_again(self, now: float) -> bool:
        """Whether its time of deafness is over: calls may try it again."""
        if self.deaf_until is None or self.deaf_until > now:
            return False
        self.deaf_until = None
        return True

    def _next(self, seconds: float, now: float) -> None:
        self.deadline = now + seconds * (0.9 + 0.2 * self._jitter())

    def _verdict(self, up: bool, detail: str, now: float) -> bool:
        self.detail = detail
        if up == self.up:
            return False
        self.up, self.since = up, now
        return True
