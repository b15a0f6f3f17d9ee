"""Errors of the SIP core: whose fault it is, and what the peer is owed."""

from __future__ import annotations


class RemoteProtocolError(Exception):
    """The peer sent something that RFC 3261 does not allow.

    `status` is the final response the peer is owed (400, 416, 420, 483, 505 ...), or None where nothing can be
    answered (no usable Via) and the message is to be dropped. `detail` names the fault for the log, never the body.
    """

    def __init__(self, detail: str, status: int | None = 400) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status


class LocalProtocolError(Exception):
    """We asked the core for something that RFC 3261 does not allow: a fault of ours."""
