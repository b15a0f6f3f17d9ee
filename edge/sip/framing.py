"""Messages out of a stream (RFC 3261 sections 7.5 and 18.3) and keep-alives between them (RFC 5626 section 3.5.1)."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from edge.sip.errors import RemoteProtocolError
from edge.sip.parse import MAX_MESSAGE


class KeepAlive(Enum):
    """What stands between messages; the value is its bytes."""

    PING = b"\r\n\r\n"
    """The peer that opened the connection asks for a PONG."""
    PONG = b"\r\n"
    """The answer to our PING."""


_LENGTH: Final = re.compile(rb"\r\n(?:content-length|l)[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)", re.IGNORECASE)
_START: Final = re.compile(rb"SIP/|[A-Za-z0-9\-.!%*_+`'~]+ [^\r\n]*SIP/", re.IGNORECASE)


class StreamFramer:
    """Cuts what a TCP or TLS connection delivers into messages, in pieces of any size.

    `initiator`: we opened the connection, so a lone CRLF is the PONG to our PING; else two CRLF are a PING, and a
    single one before a message means nothing (section 7.5).
    """

    __slots__ = ("_buffer", "_count", "_crlf", "_need", "_scanned", "_started", "fault", "initiator")

    def __init__(self, initiator: bool = False) -> None:
        self.initiator = initiator
        self.fault: RemoteProtocolError | None = None
        """Set once the stream has lost its framing: the connection is to be closed after what `feed` returned."""
        self._buffer = bytearray()
        self._scanned = 0  # no end of headers before here
        self._need = 0  # bytes of the message at the front, once its headers are complete
        self._started = False  # the first line was found to be SIP
        self._crlf = False  # half a ping has been seen
        self._count = 0

    @property
    def unfinished(self) -> int:
        """The ordinal of the message that has begun and is not complete, 0 where none has."""
        return self._count + 1 if self._buffer else 0

    @property
    def rest(self) -> bytes:
        """What was fed and has not come out: a new framer that is fed this goes on where this one is."""
        return (KeepAlive.PONG.value if self._crlf else b"") + bytes(self._buffer)

    def feed(self, data: bytes) -> list[bytes | KeepAlive]:
        """The messages and keep-alives completed by `data`.

        Raises RemoteProtocolError (status None; nothing can be answered any more) where the stream holds no SIP, a
        message without one valid Content-Length, or one of more than 64 KiB. Messages before the fault are returned
        first; then `fault` is set and the next call raises it.
        """
        if self.fault is not None:
            raise self.fault
        self._buffer += data
        out: list[bytes | KeepAlive] = []
        try:
            while self._step(out):
                pass
        except RemoteProtocolError as error:
            self.fault = error
            self._buffer.clear()
            if not out:
                raise
        return out

    def _step(self, out: list[bytes | KeepAlive]) -> bool:
        buffer = self._buffer
        if self._need:
            if len(buffer) < self._need:
                return False
            out.append(bytes(buffer[: self._need]))
            del buffer[: self._need]
            self._count += 1
            self._need = self._scanned = 0
            self._started = self._crlf = False
            return True
        if buffer.startswith(b"\r\n"):
            del buffer[:2]
            self._between(out)
            return True
        if not buffer or buffer == b"\r":
            return False
        since = max(0, self._scanned - 3)
        if not self._started:
            self._check_start(buffer.find(b"\r\n", since) >= 0)
        end = buffer.find(b"\r\n\r\n", since)
        if end < 0:
            self._scanned = len(buffer)
            if len(buffer) > MAX_MESSAGE:
                raise RemoteProtocolError("header block of more than 64 KiB", None)
            return False
        self._need = end + 4 + _content_length(bytes(buffer[: end + 2]))
        if self._need > MAX_MESSAGE:
            raise RemoteProtocolError(f"message of {self._need} bytes", None)
        return True

    def _between(self, out: list[bytes | KeepAlive]) -> None:
        if self.initiator:
            out.append(KeepAlive.PONG)
        elif self._crlf:
            out.append(KeepAlive.PING)
            self._crlf = False
        else:
            self._crlf = True

    def _check_start(self, complete: bool) -> None:
        """Refuse at the first line what cannot become SIP, rather than wait for the end of its headers."""
        if complete:
            if not _START.match(self._buffer):
                raise RemoteProtocolError("not SIP", None)
            self._started = True
        elif not 0x20 < self._buffer[0] < 0x7F:
            raise RemoteProtocolError("not SIP", None)


def _content_length(head: bytes) -> int:
    found = _LENGTH.findall(head)
    if len(found) != 1:
        raise RemoteProtocolError("no Content-Length" if not found else "Content-Length more than once", None)
    text = found[0].strip()
    if not text.isdigit() or len(text) > 10:
        raise RemoteProtocolError("Content-Length is not a number", None)
    return int(text)
