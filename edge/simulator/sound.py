"""RTP at its simplest: an echo, or a tone out and an ear for what comes back (G.711 A-law, 20 ms)."""

from __future__ import annotations

import asyncio
import math
import struct
from typing import cast

FRAME = 160
"""Samples per packet: 20 ms at 8 kHz."""
_HEADER = struct.Struct("!BBHII")


def alaw(sample: int) -> int:
    """A 16-bit sample as A-law (ITU-T G.711)."""
    sign, magnitude = (0x80, sample >> 4) if sample >= 0 else (0, ~sample >> 4)
    magnitude = min(magnitude, 0x7FF)
    exponent = max(magnitude.bit_length() - 4, 0)
    mantissa = (magnitude >> max(exponent - 1, 0)) & 0x0F
    return (sign | exponent << 4 | mantissa) ^ 0x55


def linear(code: int) -> int:
    """An A-law byte as a 16-bit sample."""
    code ^= 0x55
    exponent, mantissa = code >> 4 & 7, code & 0x0F
    value = (mantissa << 4) + 8 if exponent == 0 else ((mantissa << 4) + 0x108) << (exponent - 1)
    return value if code & 0x80 else -value


_LINEAR = [linear(code) for code in range(256)]


def strength(samples: list[int], frequency: float) -> float:
    """How much of the energy lies at `frequency` in Hz: 0 to 1 (Goertzel)."""
    if not samples:
        return 0.0
    k = 2 * math.cos(2 * math.pi * frequency / 8000)
    s1 = s2 = 0.0
    for sample in samples:
        s1, s2 = sample + k * s1 - s2, s1
    power = s1 * s1 + s2 * s2 - k * s1 * s2
    energy = sum(s * s for s in samples) * len(samples) / 2
    return power / energy if energy else 0.0


class Sound(asyncio.DatagramProtocol):
    """A UDP port with RTP on it. With `tone` (Hz) it speaks and listens, without it echoes what it hears."""

    def __init__(self, tone: float | None = None) -> None:
        self.tone = tone
        self.received = 0
        self.heard: list[int] = []
        self.heard_enough = asyncio.Event()
        self._transport: asyncio.DatagramTransport | None = None
        self._remote: tuple[str, int] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sequence = 0
        self._next = 0.0

    @classmethod
    async def open(cls, host: str, tone: float | None = None) -> Sound:
        """Bind a free port on `host`."""
        _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(lambda: cls(tone), local_addr=(host, 0))
        return protocol

    @property
    def port(self) -> int:
        assert self._transport is not None
        return cast("tuple[str, int]", self._transport.get_extra_info("sockname"))[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def talk_to(self, host: str, port: int) -> None:
        """The far side's address; a tone begins now."""
        self._remote = (host, port)
        if self.tone is not None and self._timer is None:
            self._next = asyncio.get_running_loop().time()
            self._speak()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) <= 12 or self._transport is None:
            return
        self.received += 1
        if self.tone is None:
            self._transport.sendto(data, addr)
        elif data[1] & 0x7F == 8 and len(self.heard) < 8000:
            self.heard += [_LINEAR[b] for b in data[12:]]
            if len(self.heard) >= 4000:
                self.heard_enough.set()

    def error_received(self, exc: Exception) -> None:
        """ICMP says that nobody listens there yet: RTP goes on."""

    def _speak(self) -> None:
        if self._transport is None or self._remote is None or self.tone is None:
            return
        start = self._sequence * FRAME
        step = 2 * math.pi * self.tone / 8000
        payload = bytes(alaw(int(8000 * math.sin(step * (start + n)))) for n in range(FRAME))
        header = _HEADER.pack(0x80, 8, self._sequence & 0xFFFF, start & 0xFFFFFFFF, 0x5EED)
        self._transport.sendto(header + payload, self._remote)
        self._sequence += 1
        self._next += 0.02
        self._timer = asyncio.get_running_loop().call_at(self._next, self._speak)

    def close(self) -> None:
        """Free the port."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
            self._transport = None


def describe(host: str, port: int, session: int) -> bytes:
    """An SDP with A-law, mu-law and telephone events at this address."""
    return (
        f"v=0\r\no=- {session} {session} IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
        "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
    ).encode()


def address_of(sdp: bytes) -> tuple[str, int]:
    """Where an SDP wants its audio. Raises ValueError where it has none."""
    host, port = "", 0
    for line in sdp.decode("utf-8", "replace").splitlines():
        if line.startswith("c="):
            host = line.split()[-1]
        elif line.startswith("m=audio "):
            port = int(line.split()[1])
    if not host or not port:
        raise ValueError("the SDP has no audio address")
    return host, port
