"""Session timers (RFC 4028): agreeing on an interval and on who refreshes."""

from __future__ import annotations

from dataclasses import dataclass

from edge.sip.errors import RemoteProtocolError
from edge.sip.message import Request, Response
from edge.sip.value import quick

MIN_SE = 90
"""Smallest interval that we take, seconds (section 4)."""


PROPOSED = 1800
"""The interval that we propose to peers that ask for none, seconds (section 4)."""


@quick
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


def agree_as_uas(
    request: Request, before: SessionTimer | None = None
) -> tuple[SessionTimer | None, list[tuple[str, str]]]:
    """The timer for a request that we answer with 2xx, and the header fields that say it (section 9).

    `before`: what the dialog had agreed on. A peer that knows timers and asks for none gets one all the same, so that
    one who vanishes is found; one that no longer speaks of the timer is refreshed by us, who would else end its call.
    """
    asked = _interval(request)
    knows = "timer" in request.headers.tokens("supported")
    if asked is None:
        if before is None and not knows:
            return None, []
        interval = max(before.interval if before is not None else PROPOSED, _least(request))
        refresher = "uas" if not knows or (before is not None and before.refresh_by_us) else "uac"
    else:
        interval = max(asked, MIN_SE)
        refresher = (_refresher(request.headers.get("session-expires") or "") or "uac") if knows else "uas"
    headers = [("Session-Expires", f"{interval};refresher={refresher}")] if knows else []
    if knows and refresher == "uac":
        headers.append(("Require", "timer"))
    return SessionTimer(interval, refresher == "uas"), headers


def agree_as_uac(response: Response, before: SessionTimer | None = None) -> SessionTimer | None:
    """The timer that a 2xx to our request agrees to (section 7.2); None where the peer wants none.

    `before`: what the dialog had agreed on; where the peer no longer speaks of it, we go on refreshing.
    """
    interval = _interval(response)
    if interval is None:
        return None if before is None else SessionTimer(before.interval, True)
    refresher = _refresher(response.headers.get("session-expires") or "")
    return SessionTimer(max(interval, MIN_SE), refresher != "uas")


def asked_again(timer: SessionTimer) -> list[tuple[str, str]]:
    """The header fields of a request of ours inside a dialog that has a timer: as it is (section 7.4)."""
    refresher = "uac" if timer.refresh_by_us else "uas"
    return [("Session-Expires", f"{timer.interval};refresher={refresher}"), ("Min-SE", str(MIN_SE))]


def longer(timer: SessionTimer, response: Response) -> SessionTimer | None:
    """What a 422 wants instead of `timer`; None where it wants nothing that could be tried (section 7.3)."""
    least = _least(response)
    return SessionTimer(least, timer.refresh_by_us) if least > timer.interval else None


def _least(message: Request | Response) -> int:
    try:
        return message.integer("min-se") or 0
    except RemoteProtocolError:
        return 0


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
