"""Descriptions to and from a relay that writes them itself and may end SRTP on each side (SDES, RFC 4568). Pure.

Between us and such a relay the profile says whether a medium is encrypted. Towards peers there is a third form,
RTP/AVP with keys (RFC 8643): take them or leave them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from media.sdp.lines import Media, Sdp
from media.sdp.rewrite import is_unspecified, kept_attribute, personal

_SECURE: Final = {"RTP/AVP": "RTP/SAVP", "RTP/AVPF": "RTP/SAVPF"}
_PLAIN: Final = {secure: plain for plain, secure in _SECURE.items()}


def for_relay(sdp: Sdp, locate: Callable[[Media], str]) -> bytes:
    """The description as the relay is to read it: no ways around it, nothing personal, keys in a secure profile.

    `locate` gives the value of the c= line of a section whose port is not 0.
    """
    out = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-"]
    if not any(line[:2] == "t=" for line in sdp.session):
        out.append("t=0 0")
    for line in sdp.session:
        kind = line[:2]
        if kind == "a=":
            if kept_attribute(line, keys=False) and not line.startswith(("a=rtcp:", "a=crypto:")):
                out.append(line)
        elif kind not in ("v=", "o=", "s=", "c=") and not personal(kind):
            out.append(line)
    for media in sdp.media:
        _section(out, media, locate)
    out.append("")
    return "\r\n".join(out).encode("latin-1")


def _section(out: list[str], media: Media, locate: Callable[[Media], str]) -> None:
    live = bool(media.port) and media.relayable
    keyed = any(line.startswith("a=crypto:") for line in media.lines)
    first, port, proto, rest = media.lines[0].split(" ", 3)
    proto = _SECURE.get(proto.upper(), proto) if keyed else proto
    out.append(f"{first} {port if live else 0} {proto} {rest}")
    out.append(f"c={locate(media) if live else 'IN IP4 0.0.0.0'}")
    for line in media.lines[1:]:
        kind = line[:2]
        if kind == "a=":
            if line.startswith("a=rtcp:"):
                # the port alone: an address of its own would let a peer have RTCP sent wherever it likes
                line = line.partition(" ")[0]
            if kept_attribute(line, keys=False):
                out.append(line)
        elif kind != "c=" and not personal(kind):
            out.append(line)


def profile(sdp: Sdp, keys: bool) -> str:
    """The profile of the RTP sections of a description towards the other side."""
    feedback = any(m.port and m.proto.upper().endswith("AVPF") for m in sdp.media)
    return f"RTP/{'S' if keys else ''}AVP{'F' if feedback else ''}"


def from_relay(written: Sdp, asked: Sdp, *, offer: bool) -> tuple[str, str]:
    """What the relay wrote as all lines after o=, for the other side, and the relay's address.

    An offer of SRTP gets the form that leaves the choice, whatever the side that offers does itself. The hold form of
    RFC 2543 (`asked` has an unspecified address) stays one; a section that was refused keeps the codecs it came with.
    """
    connection = written.connection or next((m.connection for m in written.media if m.connection and m.port), "")
    address = connection.rpartition(" ")[2] or "127.0.0.1"
    family = "IP6" if ":" in address else "IP4"
    nowhere = f"c=IN {family} {'::' if family == 'IP6' else '0.0.0.0'}"
    out = ["s=-", f"c=IN {family} {address}"]
    out += [line for line in written.session if line[:2] not in ("v=", "o=", "s=", "c=")]
    for index, media in enumerate(written.media):
        lines = [line for line in media.lines if line[:2] != "c="]
        before = asked.media[index] if index < len(asked.media) else None
        if before is not None and not media.port:
            # what the relay makes of a section without a port is of no use to anybody
            lines = [before.lines[0].replace(f" {before.port} ", " 0 ", 1), *before.lines[1:]]
            lines = [line for line in lines if line[:2] == "m="]
        elif offer:
            first, port, proto, rest = lines[0].split(" ", 3)
            lines[0] = f"{first} {port} {_PLAIN.get(proto, proto)} {rest}"
        out.append(lines[0])
        if before is not None and media.port and is_unspecified(asked.connection_of(before)):
            out.append(nowhere)
        out += lines[1:]
    out.append("")
    return "\r\n".join(out), address
