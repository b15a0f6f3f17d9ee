"""Session descriptions in requests and responses (RFC 3264), as far as a leg has to know of them."""

from __future__ import annotations

from edge.sip.message import Request, Response

SDP = "application/sdp"


def sdp_of(message: Request | Response) -> bytes | None:
    """The SDP body, None where there is none (another body type is not SDP)."""
    if not message.body:
        return None
    kind = message.content_type
    return message.body if kind is None or kind == SDP else None


def same_description(sdp: bytes, before: bytes | None) -> bool:
    """True where the o= line says that nothing changed (RFC 3264 section 8, RFC 4028 section 7.4)."""
    return before is not None and (sdp == before or (_origin(sdp) == _origin(before) != b""))


def _origin(sdp: bytes) -> bytes:
    start = sdp.find(b"o=")
    return sdp[start : sdp.find(b"\n", start)].strip() if start >= 0 else b""
