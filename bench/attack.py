"""The senders of bench/flood.py: datagrams and connections of strangers at a steady rate, in a process of its own."""

from __future__ import annotations

import multiprocessing
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from multiprocessing.sharedctypes import Synchronized

PLACES = 800
"""Addresses that send where none is forged."""
_TURN = 0.002
"""Seconds between the bursts of a sender."""
_BURST = 1000
"""Most datagrams of a burst: a sender that was kept waiting does not make up for more."""
_IP_UDP = struct.Struct("!BBHHHBBH4s4sHHHH")


def datagrams(kind: str, server: str) -> Iterator[bytes]:
    """Messages without end, no two alike, every time the same ones."""
    draw = random.Random(7)
    if kind == "junk":
        yield from _junk(draw)
    method = kind.upper()
    text = (
        f"{method} sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK%(n)d;rport\r\n"
        f"From: <sip:%(user)d@{server}>;tag=%(n)d\r\nTo: <sip:%(user)d@{server}>\r\nCall-ID: %(n)d@x\r\n"
        f"CSeq: 1 {method}\r\nContact: <sip:%(user)d@192.0.2.1>\r\nMax-Forwards: 70\r\nUser-Agent: Phone\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    n = 0
    while True:
        n += 1
        yield (text % {"n": n, "user": draw.randrange(100, 100_000)}).encode()


def _junk(draw: random.Random) -> Iterator[bytes]:
    n = 0
    while True:
        n += 1
        yield draw.randbytes(200)
        yield b"INVITE sip:x SIP/2.0\r\nVia: " + draw.randbytes(60) + b"\r\n\r\n"
        yield b"REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK%d\r\nFrom: x\r\n\r\n" % n
        yield b"A" * 1200


class Attacker:
    """Sends `rate` a second of `kind` to a host and port until it is stopped.

    `forged`: each datagram has another source address; this wants root. Else `PLACES` addresses take turns.
    """

    def __init__(self, kind: str, rate: int, host: str, port: int, *, forged: bool = False) -> None:
        self._stop = multiprocessing.Event()
        self._sent: Synchronized[int] = multiprocessing.Value("q", 0)
        send = _connects(host, port) if kind == "connects" else (_forged if forged else _plain)(kind, host, port)
        self._process = multiprocessing.Process(target=self._run, args=(send, rate), daemon=True)
        self._process.start()

    @property
    def sent(self) -> int:
        """Datagrams that have left, or connections that were opened."""
        return self._sent.value

    def stop(self) -> None:
        self._stop.set()
        self._process.join(10)

    def _run(self, send: Callable[[int], bool], rate: int) -> None:
        begun, tried, done = time.monotonic(), 0, 0
        while not self._stop.is_set():
            due = int((time.monotonic() - begun) * rate)
            for _ in range(min(due - tried, _BURST)):
                done += send(tried)
                tried += 1
            self._sent.value = done
            time.sleep(_TURN)


def _plain(kind: str, host: str, port: int) -> Callable[[int], bool]:
    sockets = []
    for n in range(PLACES):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind((f"127.7.{n >> 8}.{n & 255 or 1}", 0))
        sockets.append(sock)
    messages, to = datagrams(kind, host), (host, port)

    def send(n: int) -> bool:
        try:
            sockets[n % PLACES].sendto(next(messages), to)
        except OSError:
            return False
        return True

    return send


def _forged(kind: str, host: str, port: int) -> Callable[[int], bool]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sock.setblocking(False)
    messages, target, draw = datagrams(kind, host), socket.inet_aton(host), random.Random(8)

    def send(n: int) -> bool:
        data = next(messages)
        source = (0x7F100000 | draw.randrange(1, 0xEFFFFF)).to_bytes(4, "big")
        head = _IP_UDP.pack(0x45, 0, 0, 0, 0, 64, 17, 0, source, target, 5060, port, 8 + len(data), 0)
        try:
            sock.sendto(head + data, (host, 0))
        except OSError:
            return False
        return True

    return send


def _connects(host: str, port: int) -> Callable[[int], bool]:
    def send(n: int) -> bool:
        with socket.socket() as sock:
            sock.settimeout(1)
            try:
                sock.bind((f"127.8.{n >> 8 & 3}.{n & 255 or 1}", 0))
                sock.connect((host, port))
            except OSError:
                return False
        return True

    return send
