"""Real UDP sockets as peers of a relay, and the descriptions they would send."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from dataclasses import dataclass

DEADLINE = 5.0


@dataclass(frozen=True)
class Told:
    """What a forwarded description tells a peer: address and ports of the m= lines, in order."""

    address: str
    ports: tuple[int, ...]
    version: int
    text: str

    @classmethod
    def read(cls, body: bytes) -> Told:
        text = body.decode()
        address = re.search(r"^c=IN IP[46] (\S+)\r$", text, re.M)
        origin = re.search(r"^o=- \d+ (\d+) ", text, re.M)
        assert address and origin
        ports = tuple(int(p) for p in re.findall(r"^m=\w+ (\d+) ", text, re.M))
        return cls(address[1], ports, int(origin[1]), text)


def rtp(sequence: int, ssrc: int = 0x1234) -> bytes:
    """20 ms of silence in PCMA."""
    return struct.pack("!BBHII", 0x80, 8, sequence & 0xFFFF, sequence * 160, ssrc) + b"\xd5" * 160


class Peer:
    """A UDP socket that sends and receives media. Made within a running loop."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.host = host
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port

    def sdp(self, *, direction: str = "sendrecv", address: str = "", port: int | None = None, more: str = "") -> bytes:
        family = "IP6" if ":" in (address or self.host) else "IP4"
        port = self.port if port is None else port
        return (
            f"v=0\r\no=phone 1 1 IN IP4 198.51.100.9\r\ns=call of Alice\r\nc=IN {family} {address or self.host}\r\n"
            f"t=0 0\r\nm=audio {port} RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
            f"a={direction}\r\n{more}"
        ).encode()

    def send(self, to: tuple[str, int], data: bytes) -> None:
        self.socket.sendto(data, to)

    async def receive(self, limit: float = DEADLINE) -> tuple[bytes, tuple[str, int]]:
        # `sock_recvfrom` is not there on every loop.
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self.socket, readable.set)
        try:
            await asyncio.wait_for(readable.wait(), limit)
        finally:
            loop.remove_reader(self.socket)
        data, source = self.socket.recvfrom(2048)
        return data, source[:2]

    def nothing_waits(self) -> bool:
        """Whether no packet is waiting now: to be asked after another packet took the same way."""
        try:
            self.socket.recv(2048, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self.socket.close()
