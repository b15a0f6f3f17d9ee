"""A session description as its lines, grouped into sections (RFC 8866 section 5).

Text is kept as it came: bytes map one to one to characters (latin-1), so what is not rewritten leaves as it arrived.
Lines may end with CR LF or LF and leave with CR LF. A blank line is allowed at the end only.
"""

from __future__ import annotations

from typing import Final

from media.sdp.errors import UnusableSdp

MAX_BYTES: Final = 32_768
MAX_MEDIA: Final = 32

_DIRECTIONS: Final = {
    "a=sendrecv": "sendrecv",
    "a=sendonly": "sendonly",
    "a=recvonly": "recvonly",
    "a=inactive": "inactive",
}


class Media:
    """One m= section. `lines[0]` is the m= line itself; the other fields repeat what it and its a= and c= lines say.

    `connection` is the value of the section's own c= line ("IN IP4 192.0.2.1"), empty where it has none; `direction` is
    the section's own direction attribute, empty where it has none (RFC 8866 section 6.7).
    """

    __slots__ = ("connection", "direction", "formats", "kind", "lines", "port", "proto")

    def __init__(self, kind: str, port: int, proto: str, formats: list[str], line: str) -> None:
        self.kind = kind
        self.port = port
        self.proto = proto
        self.formats = formats
        self.lines = [line]
        self.connection = ""
        self.direction = ""

    @property
    def secure(self) -> bool:
        """Whether the profile is one of SRTP or DTLS (RFC 4568, RFC 5764, RFC 7345)."""
        proto = self.proto.upper()
        return "SAVP" in proto or "TLS" in proto

    @property
    def relayable(self) -> bool:
        """Whether a relay of datagrams can carry it: RTP in any profile, UDPTL and what else runs over UDP."""
        proto = self.proto.upper()
        return proto.startswith(("RTP/", "UDP")) and not proto.endswith("/TCP")


class Sdp:
    """A parsed description: the lines before the first m= line, then the media sections in order."""

    __slots__ = ("connection", "direction", "media", "session")

    def __init__(self) -> None:
        self.session: list[str] = []
        self.media: list[Media] = []
        self.connection = ""
        self.direction = ""

    def to_bytes(self) -> bytes:
        """The description with CR LF line ends."""
        lines = list(self.session)
        for media in self.media:
            lines += media.lines
        lines.append("")
        return "\r\n".join(lines).encode("latin-1")

    def connection_of(self, media: Media) -> str:
        """The c= value that holds for a section (RFC 8866 section 5.7); empty where there is none."""
        return media.connection or self.connection

    def direction_of(self, media: Media) -> str:
        """The direction that holds for a section; `sendrecv` where none is given (RFC 3264 section 5.1)."""
        return media.direction or self.direction or "sendrecv"


def parse(body: bytes) -> Sdp:
    """Read a description. Raises UnusableSdp: 400 where it breaks the grammar, 488 where it is beyond the limits."""
    if len(body) > MAX_BYTES:
        raise UnusableSdp(f"session description of {len(body)} bytes; at most {MAX_BYTES} are taken", 488)
    lines = body.decode("latin-1").split("\n")
    while lines and lines[-1] in ("", "\r"):
        lines.pop()
    if not lines:
        raise UnusableSdp("empty session description", 400)
    if lines[0] not in ("v=0\r", "v=0"):
        raise UnusableSdp("session description does not begin with v=0", 400)
    sdp = Sdp()
    section = sdp.session
    current: Sdp | Media = sdp
    for number, line in enumerate(lines, 1):
        if line.endswith("\r"):
            line = line[:-1]
        kind = line[:2]
        if kind == "a=":
            direction = _DIRECTIONS.get(line)
            if direction is not None:
                current.direction = direction
        elif kind == "m=":
            if len(sdp.media) == MAX_MEDIA:
                raise UnusableSdp(f"more than {MAX_MEDIA} m= lines", 488)
            current = _media(line, number)
            sdp.media.append(current)
            section = current.lines
            continue
        elif kind == "c=":
            # More than one c= line means multicast layers (RFC 8866 section 5.7).
            if current.connection:
                raise UnusableSdp(f"line {number}: a second c= line in one section; multicast is not relayed", 488)
            current.connection = line[2:]
        elif kind[1:] != "=" or not kind[0].isalpha():
            raise UnusableSdp(f"line {number} of the session description is not TYPE=VALUE", 400)
        if "\r" in line or "\0" in line:
            raise UnusableSdp(f"line {number} of the session description holds a control character", 400)
        section.append(line)
    return sdp


def _media(line: str, number: int) -> Media:
    parts = line[2:].split(" ")
    if len(parts) < 4 or not all(parts[:4]) or "\r" in line or "\0" in line:
        raise UnusableSdp(f"line {number}: m= needs media, port, protocol and a format", 400)
    kind, port, proto, *formats = parts
    if "/" in port:
        raise UnusableSdp(f"line {number}: m={kind} with a range of ports is not relayed", 488)
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UnusableSdp(f"line {number}: m={kind} has no valid port", 400)
    return Media(kind, int(port), proto, [f for f in formats if f], line)
