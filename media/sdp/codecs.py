"""Codecs of a description: what is offered, and offers cut and ordered to a carrier's list (RFC 3264, RFC 3551).

Names are compared without case. DTMF (telephone-event, RFC 4733) and comfort noise (CN, RFC 3389) accompany a codec and
are no codecs of their own: they stay behind the codecs kept, where their clock fits one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from media.sdp.errors import UnusableSdp
from media.sdp.lines import Media, Sdp

_COMPANIONS: Final = frozenset({"telephone-event", "CN"})
_SPELLING: Final = {name.lower(): name for name in ("telephone-event", "CN")}
# RFC 3551 table 4: the audio payload types that need no a=rtpmap.
_STATIC: Final = {
    "0": ("PCMU", 8000), "3": ("GSM", 8000), "4": ("G723", 8000), "5": ("DVI4", 8000), "6": ("DVI4", 16000),
    "7": ("LPC", 8000), "8": ("PCMA", 8000), "9": ("G722", 8000), "10": ("L16", 44100), "11": ("L16", 44100),
    "12": ("QCELP", 8000), "13": ("CN", 8000), "14": ("MPA", 90000), "15": ("G728", 8000), "16": ("DVI4", 11025),
    "17": ("DVI4", 22050), "18": ("G729", 8000), "19": ("CN", 8000),
}  # fmt: skip
_EVERYBODY: Final = ("PCMA", "PCMU")
_WRITTEN: Final = {"OPUS": "opus"}
"""Where the usual spelling is not in capitals."""
_FORMAT_ATTRIBUTES: Final = ("a=rtpmap:", "a=fmtp:", "a=rtcp-fb:")


@dataclass(frozen=True, slots=True)
class Codec:
    """One payload type of an m= line: its number as text, encoding name, RTP clock in Hz."""

    payload: str
    name: str
    clock: int

    @property
    def companion(self) -> bool:
        """DTMF or comfort noise."""
        return self.name in _COMPANIONS


def codecs(media: Media) -> tuple[Codec, ...]:
    """The payload types of an RTP section in its order of preference; one without a name is left out.

    Raises UnusableSdp (400) on an a=rtpmap that cannot be read.
    """
    named = dict(_STATIC) if media.kind == "audio" else {}
    for line in media.lines:
        if line.startswith("a=rtpmap:"):
            payload, _, encoding = line[9:].partition(" ")
            name, _, rest = encoding.strip().partition("/")
            clock = rest.partition("/")[0]
            if not payload or not name or not (clock.isascii() and clock.isdigit() and len(clock) < 10):
                raise UnusableSdp(f"a=rtpmap of m={media.kind} cannot be read", 400)
            named[payload] = (_SPELLING.get(name.lower(), name), int(clock))
    return tuple(Codec(fmt, *named[fmt]) for fmt in media.formats if fmt in named)


def voices(sdp: Sdp) -> tuple[str, ...]:
    """The names of the codecs of the first live RTP audio section, in capitals, without DTMF and comfort noise."""
    for media in sdp.media:
        if media.kind == "audio" and media.port and "RTP/" in media.proto.upper():
            return tuple(dict.fromkeys(c.name.upper() for c in codecs(media) if not c.companion))
    return ()


def first_voice(sdp: bytes) -> str:
    """The name, in capitals, of the first codec of the first audio section of a description that was written: what its
    reader may send first. Empty where there is none. Cheap: nothing but the names is looked at."""
    at = sdp.find(b"m=audio ")
    if at < 0:
        return ""
    for fmt in sdp[at : sdp.find(b"\r\n", at)].decode("latin-1").split()[3:]:
        mapped = sdp.find(f"a=rtpmap:{fmt} ".encode("latin-1"), at)
        if mapped >= 0:
            name = sdp[mapped : mapped + 60].split(b" ", 1)[1].partition(b"/")[0].decode("latin-1")
        else:
            name = _STATIC.get(fmt, ("",))[0]
        if name.lower() not in ("", "cn", "telephone-event"):
            return name.upper()[:20]
    return ""


def to_add(own: Sequence[str], lists: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Codecs to offer beside a peer's `own` (as `voices` gives them), between which a relay then transcodes.

    Only where there is nothing in common: with each of `lists` that shares none, and G.711, which everybody has, where
    the peer has none of it.
    """
    if not own:
        return ()
    has = set(own)
    more: dict[str, None] = {}
    for names in lists:
        wanted = [name.upper() for name in names]
        if wanted and has.isdisjoint(wanted):
            more |= dict.fromkeys(wanted)
    if has.isdisjoint(_EVERYBODY):
        more |= dict.fromkeys(_EVERYBODY)
    return tuple(_WRITTEN.get(name, name) for name in more)


def cut(sdp: Sdp, own: Sequence[str], listed: Sequence[str]) -> None:
    """Leave in an offer what its receiver is to see of it, in place: the peer's `own` codecs, and those that were added
    for a relay to transcode only where there is nothing in common.

    `listed`: what the receiver takes, in its order; empty: not known. Raises UnusableSdp (488) where nothing is left.
    """
    has = set(own)
    if listed:
        shared = [name for name in listed if name.upper() in has]
        limit_codecs(sdp, shared or listed)
    elif has and not has.isdisjoint(_EVERYBODY):
        limit_codecs(sdp, own)


def limit_codecs(sdp: Sdp, names: Sequence[str], *, only: bool = True) -> None:
    """Order the codecs of every live RTP audio section as `names` say, in place.

    With `only`, codecs that are not named go, and their a=rtpmap, a=fmtp and a=rtcp-fb lines with them; otherwise they
    follow those named. DTMF and comfort noise stay, last, where a kept codec has their clock. Raises UnusableSdp (488)
    where a section keeps no codec. Sections that are no RTP audio (image for T.38, video) are left alone.
    """
    rank = {name.lower(): n for n, name in enumerate(names)}
    for media in sdp.media:
        if media.kind == "audio" and media.port and "RTP/" in media.proto.upper():
            _limit(media, rank, only)


def _limit(media: Media, rank: dict[str, int], only: bool) -> None:
    found = codecs(media)
    voice = [c for c in found if not c.companion]
    kept = [c for c in voice if not only or c.name.lower() in rank]
    if not kept:
        have = ", ".join(c.name for c in voice) or "none"
        raise UnusableSdp(f"no codec in common: offered {have[:200]}", 488)
    kept.sort(key=lambda c: rank.get(c.name.lower(), len(rank)))
    clocks = {c.clock for c in kept}
    order = [c.payload for c in kept] + [c.payload for c in found if c.companion and c.clock in clocks]
    if not only:
        known = {c.payload for c in found}
        order += [fmt for fmt in media.formats if fmt not in known]
    order = list(dict.fromkeys(order))
    if order == media.formats:
        return
    gone = set(media.formats) - set(order)
    media.formats = order
    first, port, proto = media.lines[0].split(" ", 3)[:3]
    media.lines[0] = f"{first} {port} {proto} {' '.join(order)}"
    if gone:
        media.lines[:] = [line for line in media.lines if _format_of(line) not in gone]


def _format_of(line: str) -> str:
    for prefix in _FORMAT_ATTRIBUTES:
        if line.startswith(prefix):
            return line[len(prefix) :].partition(" ")[0]
    return ""
