"""Reliable provisional responses (RFC 3262): what is numbered, what waits, what a PRACK acknowledges. Pure."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple
from zlib import crc32

from edge.sip.errors import RemoteProtocolError
from edge.sip.message import Request, Response

EXTENSION = "100rel"
_MOST_WAITING = 8
"""Responses that wait for the PRACK of one before; more are told only by those that follow."""


class RAck(NamedTuple):
    """RFC 3262 section 7.2: the response and the request that a PRACK speaks of."""

    rseq: int
    cseq: int
    method: str

    @classmethod
    def of(cls, prack: Request) -> RAck:
        """From a PRACK; RemoteProtocolError(400) where it cannot be read."""
        parts = prack.need("rack").split()
        if len(parts) != 3 or not all(_is_number(part) for part in parts[:2]):
            raise RemoteProtocolError("bad RAck")
        return cls(int(parts[0]), int(parts[1]), parts[2])


class Provisionals:
    """The UAS side of one INVITE: one response is on its way at a time, the others wait (section 3)."""

    __slots__ = ("_acknowledged", "_cseq", "_last", "_waiting", "on_the_way")

    def __init__(self, cseq: int, seed: str) -> None:
        """`cseq` of the INVITE; the first RSeq, 1 to 2^31-1, is drawn from `seed`."""
        self._cseq = cseq
        self._last = crc32(seed.encode()) >> 2
        self._acknowledged: set[int] = set()
        self._waiting: deque[Response] = deque()
        self.on_the_way: Response | None = None

    @property
    def open(self) -> bool:
        """True while an answer in one of them is not acknowledged: a 2xx has to wait."""
        found = self.on_the_way
        return (found is not None and bool(found.body)) or any(response.body for response in self._waiting)

    def send(self, response: Response) -> Response | None:
        """`response` with its number where it is to be sent now; None where it waits."""
        if self.on_the_way is not None:
            if len(self._waiting) < _MOST_WAITING:
                self._waiting.append(response)
            return None
        self._last += 1
        response.headers.add("Require", EXTENSION)
        response.headers.add("RSeq", str(self._last))
        self.on_the_way = response
        return response

    def acknowledge(self, rack: RAck) -> bool:
        """Whether a PRACK speaks of a response of ours (a 2xx to it is owed, else 481)."""
        if rack.cseq != self._cseq or rack.method != "INVITE":
            return False
        if rack.rseq in self._acknowledged:
            return True
        if self.on_the_way is None or rack.rseq != self._last:
            return False
        self._acknowledged.add(rack.rseq)
        self.on_the_way = None
        return True

    def next(self) -> Response | None:
        """What waited, to be sent now that nothing is on its way."""
        return self.send(self._waiting.popleft()) if self._waiting and self.on_the_way is None else None

    def give_up_waiting(self) -> None:
        """A final response leaves: what waited is told by it."""
        self._waiting.clear()


def number_of(response: Response) -> int | None:
    """RSeq of a reliable provisional response; None for an unreliable one, or one with a number that is none."""
    if not 100 < response.status < 200 or "rseq" not in response.headers:
        return None
    if EXTENSION not in response.headers.tokens("require"):
        return None
    text = (response.headers.get("rseq") or "").strip()
    return int(text) if _is_number(text) and 0 < int(text) < 2**32 else None


def in_order(number: int, last: int | None) -> bool:
    """Whether a response with this RSeq is to be acknowledged: the first, or the next one (section 4)."""
    return last is None or number == last + 1


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10
