"""The one error of this room."""

from __future__ import annotations


class UnusableSdp(Exception):
    """A session description that cannot be relayed (RFC 8866); the text says why. SIP owes 400 or 488.

    `reason`: why in one word (`dialplan.model.Reason`), where there is a better one than "no media in common"."""

    def __init__(self, detail: str, status: int = 488, reason: str = "media-not-acceptable") -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.reason = reason
