"""The session timer of one leg (RFC 4028 section 10): refreshes the session, or gives it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.sip.dialog.session_timer import SessionTimer

if TYPE_CHECKING:
    from edge.b2bua.leg import Leg

BUSY_RETRY = 2.0
"""Seconds to wait with a refresh while an offer is under way: it will refresh the session itself, or be over."""


class SessionRefresh:
    """What was agreed, and the timer that runs for it."""

    __slots__ = ("_leg", "agreed", "timer")

    def __init__(self, leg: Leg, agreed: SessionTimer, left: float | None = None) -> None:
        """`left`: seconds until the refresh, or until the session is given up; None: as agreed."""
        self._leg = leg
        self.agreed = agreed
        if agreed.refresh_by_us:
            self.timer = leg.port.later(agreed.refresh_after if left is None else left, self._refresh)
        else:
            self.timer = leg.port.later(agreed.expire_after if left is None else left, leg.session_expired)

    def stop(self) -> None:
        """Neither refresh nor give up any more."""
        self.timer.cancel()

    def refresh_later(self, seconds: float) -> None:
        """A refresh failed: try again."""
        self.timer.cancel()
        self.timer = self._leg.port.later(seconds, self._refresh)

    def _refresh(self) -> None:
        if self._leg.settled:
            self._leg.refresh_session()
        else:
            self.refresh_later(BUSY_RETRY)
