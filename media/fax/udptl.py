"""UDPTL: how IFP packets of T.38 travel in UDP (ITU-T T.38 section 9.1, Annex A). Pure.

    seq:16 | length | IFP | 0x00 | count | {length | IFP} * count            redundancy, newest first
    seq:16 | length | IFP | 0x80 | 0x01 | span | count | {length | XOR} * count   forward error correction

Lengths are those of aligned PER: one octet below 128, two (with the top bit) below 16384; fragments are never used.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import reduce
from typing import Final

MAX_SECONDARIES: Final = 16
MAX_FEC_SPAN: Final = 16
_MASK: Final = 0xFFFF
# Beyond this the sequence was restarted rather than delayed.
_FAR: Final = 512
# How many packets, and how long (seconds), wait for one that is missing and that nothing repairs.
_HELD: Final = 4
_PATIENCE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Packet:
    """A decoded datagram. `secondaries`: older packets, newest first. `fec`: XORs over `span` packets each."""

    sequence: int
    primary: bytes
    secondaries: tuple[bytes, ...] = ()
    span: int = 0
    fec: tuple[bytes, ...] = ()


def decode(datagram: bytes) -> Packet | None:
    """Read a datagram; None where it breaks the form in any way (whatever follows its end included)."""
    size = len(datagram)
    if size < 5:
        return None
    primary, at = _field(datagram, 2)
    if at < 0 or at + 2 > size:
        return None
    sequence = (datagram[0] << 8) | datagram[1]
    recovery = datagram[at]
    if recovery & 0x80:
        if at + 4 > size or datagram[at + 1] != 1:
            return None
        span, count = datagram[at + 2], datagram[at + 3]
        at += 4
        if not 1 <= span <= MAX_FEC_SPAN and (span or count):
            return None
    else:
        span, count = 0, datagram[at + 1]
        at += 2
    if count > MAX_SECONDARIES:
        return None
    fields = []
    for _ in range(count):
        field, at = _field(datagram, at)
        if at < 0:
            return None
        fields.append(field)
    if at != size:
        return None
    if recovery & 0x80:
        return Packet(sequence, primary, (), span, tuple(fields))
    return Packet(sequence, primary, tuple(fields))


def _field(data: bytes, at: int) -> tuple[bytes, int]:
    """A length and its octets, and where they end; -1 where they do not fit."""
    if at >= len(data):
        return b"", -1
    length = data[at]
    at += 1
    if length & 0x80:
        if length & 0x40 or at >= len(data):
            return b"", -1
        length = (length & 0x3F) << 8 | data[at]
        at += 1
    end = at + length
    return (data[at:end], end) if end <= len(data) else (b"", -1)


def _encoded(field: bytes) -> bytes:
    length = len(field)
    if length < 0x80:
        return bytes((length,)) + field
    if length < 0x4000:
        return bytes((0x80 | length >> 8, length & 0xFF)) + field
    raise ValueError(f"IFP packet of {length} octets; at most 16383 fit")


class Sender:
    """Numbers packets and repeats earlier ones in each. `max_datagram`: octets that the far end takes, 0 if unsaid."""

    __slots__ = ("_fec", "_limit", "_past", "_redundancy", "_sequence")

    def __init__(self, max_datagram: int = 0, redundancy: int = 3, fec: bool = False) -> None:
        self._limit = max_datagram or _MASK
        self._redundancy = redundancy
        self._fec = fec
        self._sequence = 0
        self._past: deque[bytes] = deque(maxlen=max(redundancy, 1))

    def pack(self, ifp: bytes) -> bytes:
        """The datagram of the next packet. The oldest repetitions are dropped where it would become too long."""
        sequence = self._sequence
        self._sequence = (sequence + 1) & _MASK
        # An empty field would read as none at all: it is sent as one zero octet.
        ifp = ifp or b"\0"
        head = sequence.to_bytes(2, "big") + _encoded(ifp)
        body = self._parity(len(head)) if self._fec else self._repeated(len(head))
        if self._redundancy:
            self._past.appendleft(ifp)
        return head + body

    def _repeated(self, used: int) -> bytes:
        fields = []
        size = used + 2
        for ifp in self._past if self._redundancy else ():
            field = _encoded(ifp)
            size += len(field)
            if size > self._limit:
                break
            fields.append(field)
        return bytes((0, len(fields))) + b"".join(fields)

    def _parity(self, used: int) -> bytes:
        past = self._past if self._redundancy else deque[bytes]()
        if not past:
            return b"\0\0"
        parity = _encoded(_xor(list(past)))
        if used + 4 + len(parity) > self._limit:
            return b"\0\0"
        return bytes((0x80, 1, len(past), 1)) + parity


def _xor(fields: list[bytes]) -> bytes:
    size = max(map(len, fields))
    return reduce(lambda a, b: a ^ b, (int.from_bytes(f.ljust(size, b"\0"), "big") for f in fields)).to_bytes(
        size, "big"
    )


class Receiver:
    """Puts packets in order, each once, with what redundancy or parity repairs. Counters are for the fax's record."""

    __slots__ = (
        "_expected",
        "_heard",
        "_held",
        "_parities",
        "_restart",
        "_since",
        "lost",
        "malformed",
        "received",
        "repaired",
    )

    def __init__(self) -> None:
        self._expected: int | None = None
        self._held: dict[int, bytes] = {}
        self._heard: dict[int, bytes] = {}
        self._parities: deque[tuple[tuple[int, ...], bytes]] = deque(maxlen=32)
        self._since = 0.0
        self._restart: int | None = None
        self.received = self.malformed = self.repaired = self.lost = 0

    def receive(self, datagram: bytes, now: float) -> list[tuple[int, bytes]]:
        """Take a datagram; the packets (sequence, IFP) that are due by it, in order. `now`: seconds."""
        packet = decode(datagram)
        if packet is None:
            self.malformed += 1
            return []
        self.received += 1
        sequence = packet.sequence
        if self._expected is None:
            # The sequence begins with 0; what redundancy still has of a lost beginning is taken.
            self._expected = 0 if sequence <= len(packet.secondaries) else sequence
        ahead = (sequence - self._expected) & _MASK
        if _FAR < ahead < 0x10000 - _FAR:
            # One stray packet does not move the window; two in a row do.
            if self._restart is None or (sequence - self._restart) & _MASK != 1:
                self._restart = sequence
                return []
            ready = self._give_up()
            ahead = 1 if packet.secondaries else 0
            self._expected, self._heard = (sequence - ahead) & _MASK, {}
            self._parities.clear()
        else:
            ready = []
        self._restart = None
        if packet.fec:
            self._keep_parities(packet)
        if ahead < _FAR:
            self._hold(sequence, packet.primary, 0)
        for distance, older in enumerate(packet.secondaries, 1):
            self._hold((sequence - distance) & _MASK, older, 1)
        self._use_parities()
        return ready + self._due(now)

    def flush(self, now: float) -> list[tuple[int, bytes]]:
        """Packets that have waited for a missing one long enough."""
        if self._held and now - self._since >= _PATIENCE:
            return self._give_up()
        return []

    def _hold(self, sequence: int, ifp: bytes, repaired: int) -> None:
        assert self._expected is not None
        if (sequence - self._expected) & _MASK < _FAR and sequence not in self._held:
            self._held[sequence] = ifp
            self.repaired += repaired

    def _due(self, now: float) -> list[tuple[int, bytes]]:
        ready = []
        assert self._expected is not None
        waiting = bool(self._held)
        while (ifp := self._held.pop(self._expected, None)) is not None:
            ready.append((self._expected, ifp))
            self._remember(self._expected, ifp)
            self._expected = (self._expected + 1) & _MASK
        if not self._held:
            self._since = 0.0
        elif ready or not waiting or not self._since:
            self._since = now
        if len(self._held) > _HELD or (self._held and now - self._since >= _PATIENCE):
            ready += self._give_up()
        return ready

    def _give_up(self) -> list[tuple[int, bytes]]:
        """Deliver what is held; the gaps in it are lost (the T.30 engine sees them by the sequence)."""
        ready = []
        expected = self._expected or 0
        for sequence in sorted(self._held, key=lambda s: (s - expected) & _MASK):
            self.lost += (sequence - expected) & _MASK
            ready.append((sequence, self._held[sequence]))
            self._remember(sequence, self._held[sequence])
            expected = (sequence + 1) & _MASK
        self._held.clear()
        self._expected = expected
        self._since = 0.0
        return ready

    def _remember(self, sequence: int, ifp: bytes) -> None:
        self._heard[sequence] = ifp
        self._heard.pop((sequence - MAX_SECONDARIES * MAX_FEC_SPAN) & _MASK, None)

    def _keep_parities(self, packet: Packet) -> None:
        # Parity m of n covers every n-th packet before this one, `span` of them (T.38 section 9.1.4.2).
        count = len(packet.fec)
        for index, parity in enumerate(packet.fec):
            first = packet.sequence - packet.span * count + index
            covered = tuple((first + step * count) & _MASK for step in range(packet.span))
            if (covered, parity) not in self._parities:
                self._parities.append((covered, parity))

    def _use_parities(self) -> None:
        progress = bool(self._parities)
        while progress:
            progress = False
            for covered, parity in self._parities:
                known = [self._held.get(s) or self._heard.get(s) for s in covered]
                if known.count(None) != 1:
                    continue
                missing = covered[known.index(None)]
                assert self._expected is not None
                if (missing - self._expected) & _MASK >= _FAR:
                    continue
                # Its length is not told; trailing zeros are ignored by the T.38 decoder.
                self._hold(missing, _xor([parity, *(k for k in known if k is not None)]), 1)
                progress = True
