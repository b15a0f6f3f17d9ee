"""A carrier and a phone that place a few calls per second beside the load and time each message themselves.

The set-up delay that an edge adds is the way of the INVITE from the carrier to the phone and that of the phone's 180
back; what the phone itself takes is not in it. Arrivals are stamped by the kernel, so that neither SIPp's ticks of 4 ms
nor a late turn of this thread on a busy machine count as the edge's.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from typing import NamedTuple

_SO_TIMESTAMPNS = 35
_STAMP = struct.Struct("@qq")
_SDP = (
    "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio 20000 RTP/AVP 8 0 101\r\n"
    "a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
)
_LONGEST = 5.0
"""Seconds after which a call that came no further has failed."""


class _Call:
    __slots__ = ("answered", "at_phone", "began", "rang", "rang_at")

    def __init__(self) -> None:
        self.began = 0.0
        self.at_phone = 0.0
        self.rang_at = 0.0
        self.rang = 0.0
        self.answered = False


class Figures(NamedTuple):
    """What the probe saw: seconds of delay of each call that rang, calls that were placed, those that failed."""

    delays: list[float]
    placed: int
    failed: int


class Probe:
    """Calls `number` at `edge` from `carrier`, `rate` times a second, and answers at `phone`; a thread of its own."""

    def __init__(
        self, edge: tuple[str, int], carrier: tuple[str, int], phone: tuple[str, int], number: str, rate: float
    ) -> None:
        self._edge, self._number, self._every = edge, number, 1 / rate
        self._carrier, self._phone = _bound(carrier), _bound(phone)
        self._calls: dict[str, _Call] = {}
        self._by_caller: dict[str, _Call] = {}
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe")
        self._thread.start()

    def finish(self) -> Figures:
        """Place no more calls, wait for those that are up, and say what was seen."""
        self._ends.set()
        self._thread.join()
        self._carrier.close()
        self._phone.close()
        calls = list(self._calls.values())
        delays = [(c.at_phone - c.began) + (c.rang - c.rang_at) for c in calls if c.rang and c.at_phone]
        return Figures(delays, len(calls), sum(not c.answered for c in calls))

    def _run(self) -> None:
        following = time.monotonic()
        until: float | None = None
        while True:
            now = time.monotonic()
            if self._ends.is_set():
                until = until or now + _LONGEST
                if now > until or all(c.answered for c in self._calls.values()):
                    return
            elif now >= following:
                following += self._every
                self._place()
            wait = 0.05 if until else max(0.0, following - time.monotonic())
            for sock in select.select((self._carrier, self._phone), (), (), wait)[0]:
                data, at = _receive(sock)
                (self._at_carrier if sock is self._carrier else self._at_phone)(data.decode(), at)

    def _place(self) -> None:
        host, port = self._carrier.getsockname()
        n = len(self._calls)
        name, caller = f"probe-{n}-{port}@{host}", f"+4930{n:07}"
        body = _SDP.format(host)
        message = (
            f"INVITE sip:{self._number}@{self._edge[0]}:{self._edge[1]};user=phone SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK-probe-{n};rport\r\nMax-Forwards: 68\r\n"
            f"From: <sip:{caller}@static.example;user=phone>;tag=c{n}\r\n"
            f"To: <sip:{self._number}@{self._edge[0]};user=phone>\r\nCall-ID: {name}\r\nCSeq: 1 INVITE\r\n"
            f"Contact: <sip:{caller}@{host}:{port}>\r\nSupported: timer\r\n"
            f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        self._calls[name] = self._by_caller[caller[-7:]] = call = _Call()
        call.began = time.time()
        self._carrier.sendto(message.encode(), self._edge)

    def _at_carrier(self, text: str, at: float) -> None:
        fields = _fields(text)
        call = self._calls.get(fields.get("Call-ID", ""))
        if call is None or "INVITE" not in fields.get("CSeq", ""):
            return
        if text.startswith("SIP/2.0 180"):
            call.rang = call.rang or at
        elif text.startswith("SIP/2.0 2") and not call.answered:
            call.answered = True
            host, port = self._carrier.getsockname()
            uri, name = _uri(fields["Contact"]), fields["Call-ID"].partition("@")[0]
            routes = "".join(f"Route: {route}\r\n" for route in reversed(_all(text, "Record-Route")))
            for method, cseq in (("ACK", 1), ("BYE", 2)):
                self._carrier.sendto(
                    f"{method} {uri} SIP/2.0\r\n"
                    f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK-{method}-{name};rport\r\n{routes}"
                    f"From: {fields['From']}\r\nTo: {fields['To']}\r\nCall-ID: {fields['Call-ID']}\r\n"
                    f"Max-Forwards: 70\r\nCSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n".encode(),
                    self._edge,
                )

    def _at_phone(self, text: str, at: float) -> None:
        fields = _fields(text)
        method = text.partition(" ")[0]
        if method not in ("INVITE", "BYE", "OPTIONS", "CANCEL"):
            return
        to = fields["To"] if ";tag=" in fields["To"] else f"{fields['To']};tag=p"
        host, port = self._phone.getsockname()
        way = "".join(f"{name}: {value}\r\n" for name in ("Via", "Record-Route") for value in _all(text, name))
        same = (
            f"{way}From: {fields['From']}\r\nTo: {to}\r\nCall-ID: {fields['Call-ID']}\r\n"
            f"CSeq: {fields['CSeq']}\r\nContact: <sip:{host}:{port}>\r\n"
        )
        if method != "INVITE":
            self._phone.sendto(f"SIP/2.0 200 OK\r\n{same}Content-Length: 0\r\n\r\n".encode(), self._edge)
            return
        # the phone sees another Call-ID: a call is known by who calls
        call = self._by_caller.get(fields["From"].partition("@")[0][-7:])
        if call is None or call.at_phone:
            return
        call.at_phone, call.rang_at = at, time.time()
        self._phone.sendto(f"SIP/2.0 180 Ringing\r\n{same}Content-Length: 0\r\n\r\n".encode(), self._edge)
        body = _SDP.format(host)
        described = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        self._phone.sendto(f"SIP/2.0 200 OK\r\n{same}{described}".encode(), self._edge)


def _bound(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.bind(address)
    return sock


def _receive(sock: socket.socket) -> tuple[bytes, float]:
    data, ancillary, _, _ = sock.recvmsg(65535, 64)
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _STAMP.unpack(value[:16])
            return data, seconds + nanoseconds / 1e9
    return data, time.time()


def _fields(text: str) -> dict[str, str]:
    return dict(line.partition(": ")[::2] for line in text.partition("\r\n\r\n")[0].split("\r\n")[1:])


def _all(text: str, name: str) -> list[str]:
    head = text.partition("\r\n\r\n")[0]
    return [line.partition(": ")[2] for line in head.split("\r\n") if line.startswith(f"{name}: ")]


def _uri(contact: str) -> str:
    """Of a Contact with a display name or without."""
    return contact.partition("<")[2].partition(">")[0] or contact.partition(";")[0].strip()
