"""SRTP of one fax over G.711 (RFC 3711), keys from SDES (RFC 4568): AES-CM, HMAC-SHA1 with 80 or 32 bits. Pure."""

from __future__ import annotations

import hmac
from base64 import b64decode
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

_TAGS: Final = {"AES_CM_128_HMAC_SHA1_80": 10, "AES_CM_128_HMAC_SHA1_32": 4}
_ENCRYPTION, _AUTHENTICATION, _SALT = 0, 1, 2
_REPLAY_WINDOW: Final = 128


class _Keys:
    """Session keys of one direction (RFC 3711 section 4.3)."""

    def __init__(self, key: str) -> None:
        """`key`: master key and salt in base64, as in a=crypto. Raises ValueError."""
        master = b64decode(key, validate=True)
        if len(master) != 30:
            raise ValueError("an SRTP key and salt have 30 octets")
        self._master, self._master_salt = master[:16], int.from_bytes(master[16:], "big")
        self._aes = AES(self._derive(_ENCRYPTION, 16))
        self._authentication = self._derive(_AUTHENTICATION, 20)
        self._salt = int.from_bytes(self._derive(_SALT, 14), "big") << 16

    def _derive(self, label: int, size: int) -> bytes:
        start = (self._master_salt ^ (label << 48)) << 16
        return _stream(AES(self._master), start, bytes(size))

    def crypt(self, ssrc: int, index: int, payload: bytes) -> bytes:
        """Encrypt or decrypt (section 4.1.1)."""
        return _stream(self._aes, self._salt ^ (ssrc << 64) ^ (index << 16), payload)

    def tag(self, packet: bytes, rollover: int, size: int) -> bytes:
        """The authentication tag (section 4.2)."""
        return hmac.digest(self._authentication, packet + rollover.to_bytes(4, "big"), "sha1")[:size]


class Sealer:
    """Our direction: packets in the order of their sequence numbers."""

    def __init__(self, suite: str, key: str) -> None:
        self._keys, self._size = _Keys(key), _TAGS[suite]
        self._rollover = 0
        self._last = -1

    def seal(self, packet: bytes) -> bytes:
        """An RTP packet without extensions or CSRCs, encrypted and signed."""
        sequence = int.from_bytes(packet[2:4], "big")
        if sequence < self._last:
            self._rollover += 1
        self._last = sequence
        ssrc = int.from_bytes(packet[8:12], "big")
        sealed = packet[:12] + self._keys.crypt(ssrc, self._rollover << 16 | sequence, packet[12:])
        return sealed + self._keys.tag(sealed, self._rollover, self._size)


class Opener:
    """Their direction, in any order, with losses; a new SSRC begins anew."""

    def __init__(self, suite: str, key: str) -> None:
        self._keys, self._size = _Keys(key), _TAGS[suite]
        self._ssrc = -1
        self._highest = -1
        self._seen = 0

    def open(self, datagram: bytes) -> bytes | None:
        """The RTP packet; None where it is forged, damaged, repeated or none at all."""
        start = _header(datagram)
        end = len(datagram) - self._size
        if start is None or start > end:
            return None
        sequence, ssrc = int.from_bytes(datagram[2:4], "big"), int.from_bytes(datagram[8:12], "big")
        known = ssrc == self._ssrc
        index = _index(self._highest, sequence) if known else sequence
        body = datagram[:end]
        if index < 0 or not hmac.compare_digest(self._keys.tag(body, index >> 16, self._size), datagram[end:]):
            return None
        if not known:
            self._ssrc, self._highest, self._seen = ssrc, index, 1
        elif not self._first_time(index):
            return None
        return body[:start] + self._keys.crypt(ssrc, index, body[start:])

    def _first_time(self, index: int) -> bool:
        ahead = index - self._highest
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & ((1 << _REPLAY_WINDOW) - 1)
            self._highest = index
            return True
        if -ahead >= _REPLAY_WINDOW or self._seen >> -ahead & 1:
            return False
        self._seen |= 1 << -ahead
        return True


def _index(highest: int, sequence: int) -> int:
    """The index that a sequence number means, next to the highest one so far (RFC 3711 section 3.3.1)."""
    rollover, last = highest >> 16, highest & 0xFFFF
    if last < 0x8000 and sequence - last > 0x8000:
        rollover -= 1
    elif last >= 0x8000 and last - 0x8000 > sequence:
        rollover += 1
    return rollover << 16 | sequence if rollover >= 0 else -1


def _header(packet: bytes) -> int | None:
    """Octets of an RTP header; None where it is none."""
    if len(packet) < 12 or packet[0] >> 6 != 2:
        return None
    size = 12 + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:
        if size + 4 > len(packet):
            return None
        size += 4 + 4 * int.from_bytes(packet[size + 2 : size + 4], "big")
    return size


def _stream(aes: AES, start: int, data: bytes) -> bytes:
    return Cipher(aes, CTR(start.to_bytes(16, "big"))).encryptor().update(data)
