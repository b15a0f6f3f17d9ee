"""Errors of the SIP core: whose fault it is, and what the peer is owed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.sip.message import Request


class RemoteProtocolError(Exception):
    """The peer sent something that RFC 3261 does not allow.

    `status` is the final response the peer is owed (400, 416, 420, 483, 505 ...), or None where nothing can be
    answered (a response, an ACK, no usable Via) and the message is to be dropped. `detail` names the fault for the
    log, never the body.

    `request` is set by `parse_message` where a response is owed: as much of the request as could be read, and always
    enough for `build.response_to`. `headers` are fields that the response must carry (Unsupported for 420).
    """

    def __init__(self, detail: str, status: int | None = 400, *, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.headers = headers
        self.request: Request | None = None


class LocalProtocolError(Exception):
    """We asked the core for something that RFC 3261 does not allow: a fault of ours."""
