"""Session timers (RFC 4028): agreeing on an interval and on who refreshes."""

from __future__ import annotations

from dataclasses import dataclass

from edge.sip.errors import RemoteProtocolError
from edge.sip.message import Request, Response

MIN_SE = 90
"""Smallest interval that we take, seconds (section 4)."""


@dataclass(frozen=True, slots=True)
class SessionTimer:
    """What a dialog agreed on: `interval` in seconds; `refresh_by_us` says who refreshes."""

    interval: int
    refresh_by_us: bool

    @property
    def refresh_after(self) -> float:
        """Seconds after which we refresh: half the interval (section 7.2)."""
        return self.interval / 2

    @property
    def expire_after(self) -> float:
        """Seconds after which a session that the peer did not refresh has ended (section 10)."""
        return self.interval - min(32.0, self.interval / 3)


def too_brief(request: Request) -> bool:
    """True where 422 with Min-SE is owed: the asked interval is below ours and the peer knows timers (section 9)."""
    asked = _interval(request)
    return asked is not None and asked < MIN_SE and "timer" in request.headers.tokens("supported")


def agree_as_uas(request: Request) -> tuple[SessionTimer | None, list[tuple[str, str]]]:
    """The timer for a request that we answer with 2xx, and the header fields that say it (section 9)."""
    asked = _interval(request)
    if asked is None:
        return None, []
    interval = max(asked, MIN_SE)
    knows = "timer" in request.headers.tokens("supported")
    refresher = _refresher(request.headers.get("session-expires") or "") if knows else "uas"
    refresher = refresher or "uac"
    headers = [("Session-Expires", f"{interval};refresher={refresher}")] if knows else []
    if knows and refresher == "uac":
        headers.append(("Require", "timer"))
    return SessionTimer(interval, refresher == "uas"), headers


def agree_as_uac(response: Response) -> SessionTimer | None:
    """The timer that a 2xx to our request agrees to (section 7.2); None where the peer wants none."""
    interval = _interval(response)
    if interval is None:
        return None
    refresher = _refresher(response.headers.get("session-expires") or "")
    return SessionTimer(max(interval, MIN_SE), refresher != "uas")


def _interval(message: Request | Response) -> int | None:
    """Session-Expires in seconds; one that cannot be read is as good as none, since calls go on without a timer."""
    try:
        return message.integer("session-expires")
    except RemoteProtocolError:
        return None


def _refresher(value: str) -> str | None:
    for part in value.lower().split(";")[1:]:
        name, _, who = part.partition("=")
        if name.strip() == "refresher" and who.strip() in ("uac", "uas"):
            return who.strip()
    return None
