"""What a transfer asks of descriptions: an offer to somebody else of what one party last said, and whether two
descriptions of the same party agree (RFC 3264). Pure."""

from __future__ import annotations

from typing import Final

from media.sdp.codecs import codecs
from media.sdp.lines import Media, Sdp, parse

_DIRECTIONS: Final = ("a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive")
_G711: Final = (("PCMA", "8", "a=rtpmap:8 PCMA/8000"), ("PCMU", "0", "a=rtpmap:0 PCMU/8000"))


def reoffer(sdp: bytes) -> bytes:
    """The last description of a party as an offer to somebody else: nothing is held, and where it agreed to other
    codecs only, G.711 is offered behind them, which everybody has. Raises UnusableSdp."""
    description = parse(sdp)
    description.session = [line for line in description.session if line not in _DIRECTIONS]
    for media in description.media:
        media.lines = [line for line in media.lines if line not in _DIRECTIONS]
        if media.kind == "audio" and media.port and "RTP/" in media.proto.upper():
            _with_g711(media)
    return description.to_bytes()


def _with_g711(media: Media) -> None:
    names = {codec.name.upper() for codec in codecs(media)}
    if "PCMA" in names or "PCMU" in names:
        return
    for _, payload, line in _G711:
        if payload not in media.formats:
            media.formats.append(payload)
            media.lines.append(line)
    first, port, proto = media.lines[0].split(" ", 3)[:3]
    media.lines[0] = f"{first} {port} {proto} {' '.join(media.formats)}"


def agrees(sdp: bytes, before: bytes) -> bool:
    """Whether a party that was told `before` need not hear `sdp`: the same media at the same addresses in the same
    directions, with no format and no key that was not there. Raises UnusableSdp."""
    new, old = parse(sdp), parse(before)
    return len(new.media) == len(old.media) and all(
        _same(new, a, old, b) for a, b in zip(new.media, old.media, strict=True)
    )


def _same(new: Sdp, a: Media, old: Sdp, b: Media) -> bool:
    if not a.port and not b.port:
        return True
    return (
        (a.kind, a.port, a.proto) == (b.kind, b.port, b.proto)
        and new.connection_of(a) == old.connection_of(b)
        and new.direction_of(a) == old.direction_of(b)
        and set(a.formats) <= set(b.formats)
        and _keys(a) <= _keys(b)
    )


def _keys(media: Media) -> set[str]:
    return {line for line in media.lines if line.startswith("a=crypto:")}
