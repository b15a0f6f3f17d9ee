"""T.38 in session descriptions (ITU-T T.38 Annex D, domain rules 4.2): our offer, reading theirs, answers. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final

from media.sdp.lines import Media, Sdp
from media.sdp.sdes import SUITE, Crypto, crypto_of

FORMAT: Final = "t38"
_RATE_MANAGEMENT: Final = "transferredTCF"
_PROFILES: Final = ("RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF")


class ErrorCorrection(enum.Enum):
    """How UDPTL survives losses; the value is that of `a=T38FaxUdpEC`."""

    NONE = ""
    REDUNDANCY = "t38UDPRedundancy"
    FEC = "t38UDPFEC"


@dataclass(frozen=True, slots=True)
class T38:
    """What one side says of its T.38. `max_datagram`: octets of a UDPTL packet that this side can take, 0 if unsaid."""

    version: int = 0
    max_bit_rate: int = 14400
    max_buffer: int = 2000
    max_datagram: int = 400
    error_correction: ErrorCorrection = ErrorCorrection.REDUNDANCY


@dataclass(frozen=True, slots=True)
class RemoteT38:
    """Their image section: where to send, and what they can."""

    host: str
    port: int
    t38: T38


@dataclass(frozen=True, slots=True)
class Origin:
    """Where we are: `host` goes into c= and o=; `session` and `version` into o= (RFC 8866 section 5.2)."""

    host: str
    session: int
    version: int

    def head(self) -> list[str]:
        """The session part of a description."""
        kind = "IP6" if ":" in self.host else "IP4"
        return [
            "v=0",
            f"o=- {self.session} {self.version} IN {kind} {self.host}",
            "s=-",
            f"c=IN {kind} {self.host}",
            "t=0 0",
        ]


def offer(origin: Origin, port: int, ours: T38 = T38(), audio_sections: int = 0) -> bytes:
    """A description that switches the call to T.38.

    `audio_sections`: how many m= lines the session has had; the image takes the place of the first, the others stay
    with port 0 (RFC 3264 section 8 forbids to take lines away).
    """
    lines = origin.head() + _image(port, ours)
    lines += ["m=audio 0 RTP/AVP 8"] * (audio_sections - 1)
    return _bytes(lines)


def image_of(sdp: Sdp) -> RemoteT38 | None:
    """Their T.38, from an offer or answer; None where there is none, or it is refused (port 0) or has no address."""
    for media in sdp.media:
        if is_t38(media) and media.port:
            host = _host(sdp.connection_of(media))
            if host:
                return RemoteT38(host, media.port, read(media))
    return None


def is_t38(media: Media) -> bool:
    """Whether a section is T.38 over UDPTL."""
    return media.kind == "image" and media.proto.lower() == "udptl" and any(f.lower() == FORMAT for f in media.formats)


def read(media: Media) -> T38:
    """The attributes of a section, leniently: any case, booleans and unknown ones ignored, nonsense left out."""
    said = {}
    for line in media.lines:
        name, _, value = line[2:].partition(":")
        if line.startswith("a=") and name[:3].upper() == "T38":
            said[name[3:].lower().removeprefix("fax")] = value.strip()
    correction = said.get("udpec", "").lower()
    return T38(
        _number(said.get("version"), 0, 3),
        _number(said.get("maxbitrate"), 14400, 33600) or 14400,
        _number(said.get("maxbuffer"), 0, 1 << 20),
        _number(said.get("maxdatagram"), 0, 0xFFFF),
        next((e for e in ErrorCorrection if e.value and e.value.lower() == correction), ErrorCorrection.NONE),
    )


def agree(theirs: T38, ours: T38 = T38()) -> T38:
    """What we answer to an offer: the lower version and rate, our limits, and the error correction that they listed."""
    return T38(
        min(theirs.version, ours.version),
        min(theirs.max_bit_rate, ours.max_bit_rate),
        ours.max_buffer,
        ours.max_datagram,
        theirs.error_correction,
    )


def answer(theirs: Sdp, origin: Origin, port: int, ours: T38 = T38()) -> bytes | None:
    """The answer that takes their T.38 and refuses all other sections; None where they offer no usable T.38."""
    if image_of(theirs) is None:
        return None
    lines = origin.head()
    taken = False
    for media in theirs.media:
        if not taken and is_t38(media) and media.port:
            lines += _image(port, agree(read(media), ours))
            taken = True
        else:
            lines.append(f"m={media.kind} 0 {media.proto} {' '.join(media.formats)}")
    return _bytes(lines)


@dataclass(frozen=True, slots=True)
class RemoteAudio:
    """Their G.711: where to send, which law, and the payload type that stands for it on the line."""

    host: str
    port: int
    alaw: bool
    payload_type: int
    crypto: Crypto | None = None
    """Their key, where it is SRTP."""


def audio_of(sdp: Sdp) -> RemoteAudio | None:
    """Their first audio section with G.711, A-law before mu-law; None where there is none that we can use."""
    for media in sdp.media:
        if media.kind != "audio" or not media.port or media.proto.upper() not in _PROFILES:
            continue
        crypto = crypto_of(media) if media.secure else None
        if media.secure and crypto is None:
            continue
        host = _host(sdp.connection_of(media))
        if not host:
            continue
        for name, static in (("PCMA", "8"), ("PCMU", "0")):
            number = _payload_type(media, name, static)
            if number is not None:
                return RemoteAudio(host, media.port, name == "PCMA", number, crypto)
    return None


def audio_offer(origin: Origin, port: int, our_key: str = "") -> bytes:
    """G.711 for a fax: both laws, nothing else, no silence suppression. `our_key`: over SRTP, with this key."""
    proto = "RTP/SAVP" if our_key else "RTP/AVP"
    keys = [Crypto(1, SUITE, our_key).line()] if our_key else []
    return _bytes([*origin.head(), *_audio(port, [(8, "PCMA"), (0, "PCMU")], proto), *keys])


def audio_answer(theirs: Sdp, origin: Origin, port: int, our_key: str = "") -> bytes | None:
    """The answer that takes their G.711 and refuses all other sections; None where they offer none.

    `our_key`: for SRTP, where they offer that."""
    theirs_audio = audio_of(theirs)
    if theirs_audio is None or (theirs_audio.crypto is not None and not our_key):
        return None
    lines = origin.head()
    taken = False
    for media in theirs.media:
        if not taken and media.kind == "audio" and media.port == theirs_audio.port:
            name = "PCMA" if theirs_audio.alaw else "PCMU"
            lines += _audio(port, [(theirs_audio.payload_type, name)], media.proto)
            if theirs_audio.crypto is not None:
                lines.append(replace(theirs_audio.crypto, key=our_key).line())
            taken = True
        else:
            lines.append(f"m={media.kind} 0 {media.proto} {' '.join(media.formats)}")
    return _bytes(lines)


def _image(port: int, t38: T38) -> list[str]:
    lines = [
        f"m=image {port} udptl t38",
        f"a=T38FaxVersion:{t38.version}",
        f"a=T38MaxBitRate:{t38.max_bit_rate}",
        f"a=T38FaxRateManagement:{_RATE_MANAGEMENT}",
        f"a=T38FaxMaxBuffer:{t38.max_buffer}",
        f"a=T38FaxMaxDatagram:{t38.max_datagram}",
    ]
    if t38.error_correction is not ErrorCorrection.NONE:
        lines.append(f"a=T38FaxUdpEC:{t38.error_correction.value}")
    return lines


def _audio(port: int, codecs: list[tuple[int, str]], proto: str = "RTP/AVP") -> list[str]:
    return [
        f"m=audio {port} {proto} {' '.join(str(number) for number, _ in codecs)}",
        *(f"a=rtpmap:{number} {name}/8000" for number, name in codecs),
        "a=ptime:20",
        "a=silenceSupp:off - - - -",
        "a=sendrecv",
    ]


def _payload_type(media: Media, name: str, static: str) -> int | None:
    for line in media.lines:
        if line.startswith("a=rtpmap:"):
            number, _, codec = line[9:].partition(" ")
            if codec.strip().upper().startswith(f"{name}/8000") and number in media.formats and number.isdigit():
                return int(number)
    return int(static) if static in media.formats else None


def _number(text: str | None, absent: int, highest: int) -> int:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 9:
        return absent
    return min(int(text), highest)


def _host(connection: str) -> str:
    """The address of a c= value; empty for none, a hold address, and multicast."""
    parts = connection.split()
    host = parts[2] if len(parts) == 3 else ""
    return "" if host in ("0.0.0.0", "::") or "/" in host else host


def _bytes(lines: list[str]) -> bytes:
    return "\r\n".join([*lines, ""]).encode("latin-1", "replace")
