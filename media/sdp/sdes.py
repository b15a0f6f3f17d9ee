"""SRTP keys as a=crypto lines (SDES, RFC 4568), for those who use them themselves. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from media.sdp.lines import Media
from media.sdp.srtp import SUITES

SUITE: Final = "AES_CM_128_HMAC_SHA1_80"
"""What we offer."""


@dataclass(frozen=True, slots=True)
class Crypto:
    """`key`: master key and salt in base64."""

    tag: int
    suite: str
    key: str = field(repr=False)

    def line(self) -> str:
        """As in a description."""
        return f"a=crypto:{self.tag} {self.suite} inline:{self.key}"


def crypto_of(media: Media) -> Crypto | None:
    """The first key that we can use, of a section that `media.sdp.srtp.accept` has let through; None: no such."""
    for line in media.lines:
        parts = line[9:].split() if line[:9].lower() == "a=crypto:" else []
        # Lifetime and MKI: a packet would have more octets than we look for.
        if len(parts) >= 3 and parts[0].isdigit() and parts[1] in SUITES and parts[2].count("|") < 2:
            return Crypto(int(parts[0]), parts[1], parts[2].removeprefix("inline:").partition("|")[0])
    return None
