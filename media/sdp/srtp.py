"""Who gets SRTP keys in a description, and who must have them (SDES, RFC 4568; domain rules 1.3-15, 7-7). Pure.

A peer's setting says what its media are: `off` plain RTP, `required` RTP/SAVP, `optional` either. A description has one
of three forms, which have the same names: no keys; RTP/SAVP; or RTP/AVP with keys, to take or to leave (RFC 8643).

Keys belong into signalling over TLS only; the caller turns `optional` into `off` where there is none.
"""

from __future__ import annotations

from typing import Final, Literal

from media.sdp.errors import UnusableSdp
from media.sdp.lines import Media, Sdp, parse

Srtp = Literal["off", "optional", "required"]

SUITES: Final = frozenset({"AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"})
REQUIRED: Final = "srtp-required"
"""`UnusableSdp.reason`: a side has to have SRTP, and the other does not offer or take it."""
NOT_POSSIBLE: Final = "srtp-not-possible"
"""`UnusableSdp.reason`: SRTP that this edge cannot carry, or has to refuse."""

_KEY_CHARACTERS: Final = 40
"""Master key and salt of both suites in base64 (RFC 4568 section 6.2)."""
_BASE64: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_SECURE: Final = {"RTP/AVP": "RTP/SAVP", "RTP/AVPF": "RTP/SAVPF"}
_PLAIN: Final = {secure: plain for plain, secure in _SECURE.items()}


def accept(sdp: bytes, mode: Srtp) -> tuple[bytes, Srtp]:
    """A description as a peer of this mode may send it, without keys that are of no use, and its form.

    Raises UnusableSdp (488) where the peer has to have what it does not bring, or brings what it may not.
    """
    if mode != "required" and not _mentions_keys(sdp):
        return sdp, "off"
    description = parse(sdp)
    forms = {_accept(media, mode) for media in description.media if media.port}
    _lay_aside_unencrypted(description, mode)
    description.session = [line for line in description.session if not _is_key(line)]
    form: Srtp = "required" if "required" in forms else "optional" if "optional" in forms else "off"
    return description.to_bytes(), form


def dress(sdp: bytes, wanted: Srtp, *, answer: bool = False) -> tuple[bytes, Srtp]:
    """A description that is ready to leave, in the form that the receiver is to have, and the form it got.

    As an offer, keys of an RTP/SAVP description cannot be cut out: somebody at the far end needs them. An `answer` gets
    the form of the offer. Raises UnusableSdp (488) where the form cannot be had without a relay that bridges.
    """
    if wanted == "off" and not _mentions_keys(sdp):
        return sdp, "off"
    description = parse(sdp)
    forms: set[Srtp] = set()
    for media in description.media:
        if media.port and _is_rtp(media):
            forms.add(_dress(media, wanted, answer))
    _lay_aside_unencrypted(description, wanted)
    form: Srtp = "required" if "required" in forms else "optional" if "optional" in forms else "off"
    return description.to_bytes(), form


def _accept(media: Media, mode: Srtp) -> Srtp:
    if not _is_rtp(media):
        return "off"
    if "TLS" in media.proto.upper():
        raise UnusableSdp(f"m={media.kind} wants DTLS-SRTP; keys are exchanged by SDES only", reason=NOT_POSSIBLE)
    media.lines = [line for line in media.lines if not _is_key(line) or (mode != "off" and _usable(line))]
    keyed = any(_is_key(line) for line in media.lines)
    if mode == "off":
        if media.secure:
            raise UnusableSdp("SRTP, which is off for this peer, or it does not signal over TLS", reason=NOT_POSSIBLE)
        return "off"
    if media.secure and not keyed:
        raise UnusableSdp(f"m={media.kind} is RTP/SAVP without a key of a suite that we know", reason=NOT_POSSIBLE)
    if mode == "required" and not media.secure:
        raise UnusableSdp(f"SRTP is required, and m={media.kind} is {media.proto[:20]}", reason=REQUIRED)
    return "required" if media.secure else "optional" if keyed else "off"


def _dress(media: Media, wanted: Srtp, answer: bool) -> Srtp:
    keyed = any(_is_key(line) for line in media.lines)
    if wanted == "off":
        if media.secure:
            raise UnusableSdp("SRTP on one side only, and no relay here that bridges it", reason=NOT_POSSIBLE)
        media.lines = [line for line in media.lines if not _is_key(line)]
        return "off"
    if wanted == "required":
        if not keyed:
            raise UnusableSdp("SRTP is required, and the other side has none", reason=REQUIRED)
        _set_profile(media, _SECURE)
        return "required"
    if media.secure and answer:
        _set_profile(media, _PLAIN)
    return "required" if media.secure else "optional" if keyed else "off"


def _set_profile(media: Media, table: dict[str, str]) -> None:
    media.proto = table.get(media.proto.upper(), media.proto)
    first, port, _, rest = media.lines[0].split(" ", 3)
    media.lines[0] = f"{first} {port} {media.proto} {rest}"


def _lay_aside_unencrypted(description: Sdp, mode: Srtp) -> None:
    """T.38 cannot be encrypted (domain rule 1.3-15): beside sound it is refused, alone the description is."""
    if mode != "required":
        return
    live = [media for media in description.media if media.port]
    if live and not any(_is_rtp(media) for media in live):
        raise UnusableSdp(f"SRTP is required, and m={live[0].kind} cannot be encrypted", reason=REQUIRED)
    for media in live:
        if not _is_rtp(media):
            media.port = 0
            first, _, rest = media.lines[0].split(" ", 2)
            media.lines = [f"{first} 0 {rest}"]


def _is_rtp(media: Media) -> bool:
    return "RTP/" in media.proto.upper()


def _is_key(line: str) -> bool:
    return line[:9].lower() == "a=crypto:"


def _usable(line: str) -> bool:
    """a=crypto:TAG SUITE inline:KEY|... [PARAMETERS], with nothing that turns encryption or authentication off."""
    parts = line[9:].split()
    if len(parts) < 3 or parts[1] not in SUITES or not (parts[0].isascii() and parts[0].isdigit()):
        return False
    key = parts[2].removeprefix("inline:").partition("|")[0]
    return (
        parts[2].startswith("inline:")
        and len(key) == _KEY_CHARACTERS
        and _BASE64.issuperset(key)
        and not any(word.upper().startswith("UNENCRYPTED") or "UNAUTH" in word.upper() for word in parts[3:])
    )


def _mentions_keys(sdp: bytes) -> bool:
    upper = sdp.upper()
    return b"A=CRYPTO" in upper or b"SAVP" in upper or b"/TLS" in upper
