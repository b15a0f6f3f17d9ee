"""The INVITE of a B-leg, made new: nothing of the A-leg crosses but what stands in `CROSSING` (docs/calls.md)."""

from __future__ import annotations

from edge.sip.address import NameAddr
from edge.sip.headers import Headers
from edge.sip.message import Request

CROSSING = ("subject", "priority", "accept-language")
"""Header fields that cross as they are; all others are ours or stay behind."""
_OF_A_WITHHELD = ("priority",)
"""What crosses of them where the caller is withheld: the others are his words (RFC 3323 section 4.1)."""


def build_invite(
    a_invite: Request,
    uri: str,
    from_: NameAddr,
    to: NameAddr,
    routes: list[str],
    identity: list[tuple[str, str]],
) -> Request:
    """An INVITE without Via, tags, Call-ID, CSeq, Contact and body, which the leg puts in.

    `identity` are the header fields that the identity profile wrote. Max-Forwards is the A-leg's less one.
    """
    hops = a_invite.integer("max-forwards")
    headers = Headers.of_raw([("route", "Route", r) for r in routes])
    headers.add("Max-Forwards", str((70 if hops is None else min(hops, 70)) - 1))
    headers.add("From", str(from_))
    headers.add("To", str(to))
    for name, value in identity:
        headers.add(name, value)
    crossing = _OF_A_WITHHELD if "privacy" in headers else CROSSING
    for key, name, value in a_invite.headers.raw():
        if key in crossing:
            headers.add(name, value)
    return Request("INVITE", uri, headers)
