"""A fixed jitter buffer for G.711 fax, and RTP's fixed header (RFC 3550 section 5.1). Pure.

A modem signal survives no change of its timing: the delay is set once and changes only where the line is silent. It is
long, 200 ms: T.30 does not mind waiting, and a packet that comes too late is as bad as one that is lost.
"""

from __future__ import annotations

from typing import Final, NamedTuple

TICK: Final = 160
"""Samples taken at a time: 20 ms."""

# Depths in samples: playout begins with the first; outside of the other two the buffer is centred again in silence.
_DELAY: Final = 10 * TICK
_SHALLOW: Final = 2 * TICK
_DEEP: Final = 20 * TICK
_JUMP: Final = 16000
_LATE_IN_A_ROW: Final = 10
# A-law and mu-law of amplitudes next to zero.
_QUIET_ALAW: Final = frozenset(b"\xd5\x55\xd4\x54\xd7\x57\xd6\x56")
_QUIET_ULAW: Final = frozenset(b"\xff\x7f\xfe\x7e\xfd\x7d\xfc\x7c")


class Rtp(NamedTuple):
    """An RTP packet's parts that matter here."""

    payload_type: int
    timestamp: int
    ssrc: int
    payload: bytes


def read_rtp(datagram: bytes) -> Rtp | None:
    """Take a packet apart; None where it is not RTP of version 2 or its parts do not fit."""
    size = len(datagram)
    if size < 12 or datagram[0] >> 6 != 2:
        return None
    start = 12 + 4 * (datagram[0] & 0x0F)
    if datagram[0] & 0x10:
        if start + 4 > size:
            return None
        start += 4 + 4 * int.from_bytes(datagram[start + 2 : start + 4], "big")
    end = size - datagram[-1] if datagram[0] & 0x20 else size
    if start > end or end > size or (datagram[0] & 0x20 and not datagram[-1]):
        return None
    return Rtp(
        datagram[1] & 0x7F,
        int.from_bytes(datagram[4:8], "big"),
        int.from_bytes(datagram[8:12], "big"),
        datagram[start:end],
    )


class JitterBuffer:
    """Octets of G.711 by timestamp. `take` gives a tick in order, or None where a part of it did not arrive."""

    __slots__ = ("_base", "_data", "_have", "_late", "_lead", "_quiet", "_ssrc", "late", "lost", "resets")

    def __init__(self, alaw: bool) -> None:
        self._quiet = _QUIET_ALAW if alaw else _QUIET_ULAW
        self._base: int | None = None
        self._ssrc = 0
        self._data = bytearray()
        self._have = bytearray()
        self._late = 0
        self._lead = 0
        self.late = self.lost = self.resets = 0

    def put(self, packet: Rtp) -> None:
        """Keep a packet; late ones are dropped, a new source or a jump begins anew."""
        if self._base is None or packet.ssrc != self._ssrc:
            self._begin(packet)
        assert self._base is not None
        offset = (packet.timestamp - self._base) & 0xFFFFFFFF
        if offset >= 0x80000000:
            offset -= 0x100000000
        if offset < 0:
            self.late += 1
            self._late += 1
            if self._late < _LATE_IN_A_ROW and offset > -_JUMP:
                return
            self._begin(packet)
            offset = _DELAY
        elif offset > _JUMP:
            self._begin(packet)
            offset = _DELAY
        self._late = 0
        end = offset + len(packet.payload)
        if end > len(self._data):
            missing = end - len(self._data)
            self._data += bytes(missing)
            self._have += bytes(missing)
        self._data[offset:end] = packet.payload
        self._have[offset:end] = b"\1" * len(packet.payload)

    def take(self) -> bytes | None:
        """The next 20 ms."""
        if self._base is None:
            return None
        depth = len(self._data)
        whole = depth >= TICK and self._have.count(1, 0, TICK) == TICK
        tick = bytes(self._data[:TICK]) if whole else None
        if tick is not None and not _SHALLOW <= depth <= _DEEP and self._quiet.issuperset(tick):
            self.resets += 1
            if depth > _DEEP:
                self._drop(depth - _DELAY)
            else:
                # Play this silence again: the buffer gains a tick.
                return tick
        if self._lead:
            self._lead -= TICK
        elif tick is None and depth:
            self.lost += 1
        self._drop(TICK)
        return tick

    def _drop(self, samples: int) -> None:
        assert self._base is not None
        self._base = (self._base + samples) & 0xFFFFFFFF
        del self._data[:samples]
        del self._have[:samples]

    def _begin(self, packet: Rtp) -> None:
        self._ssrc = packet.ssrc
        self._base = (packet.timestamp - _DELAY) & 0xFFFFFFFF
        self._data.clear()
        self._have.clear()
        self._late = 0
        self._lead = _DELAY
