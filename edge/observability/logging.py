"""Logs: one JSON object per line and event, in UTC, without secrets and without whole phone numbers.

Rooms log with `get_logger(room)`; a line of a call carries `call`, our id of it. Event names are
`thing.happened` (`call.offered`, `leg.rejected`, `registration.added`, `relay.lost`). A line is handed to a thread, so
that a full pipe or a slow disk never holds up a call; when the thread cannot keep up, lines are dropped and counted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import structlog

from edge.observability.privacy import REDACTED, WITHHELD, mask, mask_secrets

LEVELS = ("debug", "info", "warning", "error")

_SECRETS = frozenset({
    "password", "pdf_password", "secret", "authorization", "proxy_authorization", "ha1", "response", "cnonce",
    "verification_code", "pin", "token", "dsn", "database_url",
})  # fmt: skip
_IDENTIFIERS = frozenset({
    "id", "call", "call_id", "leg", "a_call_id", "b_call_id", "edge", "account", "billed_account", "served_account",
    "carrier", "trunk", "seat", "source_name", "target_name", "outcome", "direction", "reason", "at", "level", "room",
    "limit_level", "source_kind", "target_kind", "released_by",
    "started_at", "answered_at", "ended_at", "version", "remote",
    "local",
})  # fmt: skip
"""Values that are names of things, looked for whole, and never written by a caller."""
_CALLER = frozenset({"caller", "caller_display", "presented", "network_number", "from_user", "display"})
"""What is hidden whole when the caller is withheld."""
_FLUSH_SECONDS = 0.05
_RETRY_SECONDS = 1.0
_MAX_LINES = 20_000
_MAX_TEXT = 4096

_encode_text = json.encoder.encode_basestring_ascii


class LineWriter:
    """Writes lines to a file descriptor or a file from a thread of its own; `put` never blocks.

    A file is opened again when it was moved away (logrotate needs no signal). Lines wait at most 50 ms, errors do not
    wait. Where they cannot be written (the disk is full) they are kept and tried again every second. Holds at most
    `max_lines`; `dropped` counts what did not fit, and a line says so when there is room again.
    """

    def __init__(self, target: int | Path, max_lines: int = _MAX_LINES) -> None:
        self.dropped = 0
        """Lines lost since the start."""
        self._path = target if isinstance(target, Path) else None
        self._fd = target if isinstance(target, int) else self._open()
        self._max = max_lines
        self._lines: deque[bytes] = deque()
        self._told = 0
        self._rest = b""
        """What was taken from the lines and is not written, or only in part."""
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: bytes, urgent: bool = False) -> None:
        """Take a line (with its newline) for writing."""
        if len(self._lines) >= self._max:
            self.dropped += 1
            return
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()
        if urgent:
            self._urgent.set()

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, at most `timeout` seconds long, and end the thread."""
        self._closed = True
        self._wake.set()
        self._urgent.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            self._wake.wait(_RETRY_SECONDS if self._rest else None)
            self._urgent.wait(_FLUSH_SECONDS)
            self._urgent.clear()
            self._wake.clear()
            closed = self._closed
            self._write_all()
            if closed:
                if self._path is not None:
                    os.close(self._fd)
                return

    def _write_all(self) -> None:
        if self._rest and not self._write(self._rest):
            return  # what comes meanwhile stays where it is counted
        batch: list[bytes] = []
        while self._lines:
            batch.append(self._lines.popleft())
        lost = self.dropped - self._told
        if lost:
            self._told += lost
            batch.append(_line("warning", "log.dropped", {"lines": lost}))
        self._write(b"".join(batch))

    def _write(self, lines: bytes) -> bool:
        """Write all; what cannot be written is the rest. Nobody is left to tell of it."""
        data = memoryview(lines)
        try:
            self._reopen_if_moved()
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            pass
        self._rest = bytes(data)
        return not self._rest

    def _open(self) -> int:
        assert self._path is not None
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def _reopen_if_moved(self) -> None:
        if self._path is None:
            return
        try:
            there = os.stat(self._path)
            here = os.fstat(self._fd)
            if (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev):
                return
        except FileNotFoundError:
            pass
        fresh = self._open()
        os.close(self._fd)
        self._fd = fresh


class Lines(Protocol):
    """Where rendered lines go."""

    def put(self, line: bytes, urgent: bool = False) -> None: ...


def configure(lines: Lines, level: str = "info", mask_numbers: bool = True) -> None:
    """Send every log of the process to `lines`, also those of libraries (asyncio, aiohttp, asyncpg: from warning on).

    `mask_numbers` hides the last three digits of every number; False writes whole numbers, a withheld caller's never.
    """
    adjust(level, mask_numbers)
    _Output.lines = lines
    _Output.marks = _JOURNAL_MARKS if to_journal() else {}
    structlog.configure(
        processors=[_hand_over],
        # loggers are cached with their class, and the level may change: `_hand_over` looks at it
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=_Sink,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler()]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)


def adjust(level: str, mask_numbers: bool) -> None:
    """Change the level, and whether numbers are shortened, while the process runs."""
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is not one of {', '.join(LEVELS)}")
    _Output.levels = frozenset(LEVELS[LEVELS.index(level) :])
    _Output.mask_numbers = mask_numbers


_JOURNAL_MARKS = {"debug": b"<7>", "info": b"<6>", "warning": b"<4>", "error": b"<3>"}
"""What journald takes off the start of a line and files it under (sd-daemon(3)), so that `journalctl -p` finds it."""


def to_journal(fd: int = 2, environment: Mapping[str, str] | None = None) -> bool:
    """Whether this descriptor leads to systemd's journal (`JOURNAL_STREAM`, systemd.exec(5))."""
    named = (os.environ if environment is None else environment).get("JOURNAL_STREAM", "")
    try:
        there = os.fstat(fd)
    except OSError:
        return False
    return named == f"{there.st_dev}:{there.st_ino}"


class RoomLogger:
    """Writes lines that name the room they come from. For the rooms of a call's path: structlog's way from a call of
    `info` to the line costs half of what the line costs."""

    __slots__ = ("_room",)

    def __init__(self, room: str) -> None:
        self._room = room

    def debug(self, event: str, **fields: object) -> None:
        self._write("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._write("error", event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """`error` with the exception that is being handled."""
        self._write("error", event, {"exc_info": True, **fields})

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        if level in _Output.levels:
            _put(level, _line(level, event, {"room": self._room, **fields}))


def get_logger(room: str) -> RoomLogger:
    """A logger whose lines name the room they come from."""
    return RoomLogger(room)


class _Output:
    """Where this process logs to; standard error in the caller's thread until `configure` ran."""

    lines: Lines | None = None
    mask_numbers = True
    levels: frozenset[str] = frozenset(LEVELS)
    marks: Mapping[str, bytes] = MappingProxyType({})


class _Sink:
    """What structlog ends in: the line has been handed over by the processor."""

    __slots__ = ()

    def __init__(self, *_: object) -> None: ...

    def debug(self, _line: str) -> None: ...

    info = warning = error = critical = exception = fatal = debug


def _hand_over(_logger: object, level: str, event: structlog.typing.EventDict) -> str:
    if level not in _Output.levels:
        raise structlog.DropEvent
    name = event.pop("event")
    _put(level, _line(level, str(name), event))
    return ""


def _put(level: str, line: bytes) -> None:
    lines = _Output.lines
    if lines is None:
        sys.stderr.buffer.write(line)
    else:
        if _Output.marks:
            line = _Output.marks[level] + line
        lines.put(line, level not in ("debug", "info"))


_second = -1
_prefix = ""


def _timestamp(now: float) -> str:
    global _second, _prefix
    whole = int(now)
    if whole != _second:
        _second, _prefix = whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{_prefix}.{int((now - whole) * 1000):03d}Z"


def _line(level: str, event: str, fields: Mapping[str, object]) -> bytes:
    """One line of JSON. Written by hand: json.dumps with a default for every oddity costs twice as much."""
    parts = [f'{{"at":"{_timestamp(time.time())}","level":"{level}","event":{_encode_text(event)}']
    withheld = fields.get("caller_withheld") is True
    for key, value in fields.items():
        if value is None:
            continue
        if key == "exc_info":
            text = _encode_text(_exception(value))
            key = "exception"
        elif key in _SECRETS:
            text = f'"{REDACTED}"'
        elif type(value) is int:
            text = str(value)
        elif value is True or value is False:
            text = "true" if value else "false"
        elif withheld and key in _CALLER:
            text = f'"{WITHHELD}"'
        elif key in _IDENTIFIERS:
            text = _encode_text(str(value))
        else:
            text = _value(value)
        parts.append(f',"{key}":{text}')
    parts.append("}\n")
    return "".join(parts).encode("ascii")


def _value(value: object) -> str:
    if isinstance(value, str):
        text = str(value) if len(value) <= _MAX_TEXT else value[:_MAX_TEXT] + "..."
        return _encode_text(mask(text) if _Output.mask_numbers else mask_secrets(text))
    if isinstance(value, float):
        return f"{value:.6g}" if value == value and abs(value) != float("inf") else "null"
    if isinstance(value, bool | int):
        return "true" if value is True else "false" if value is False else str(int(value))
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_encode_text(str(k))}:{_member(str(k), v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ",".join(_value(v) if v is not None else "null" for v in value) + "]"
    return _value(str(value))


def _member(key: str, value: object) -> str:
    if value is None:
        return "null"
    return f'"{REDACTED}"' if key in _SECRETS else _value(value)


def _exception(info: object) -> str:
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    if not isinstance(error, BaseException):
        return ""
    text = "".join(traceback.format_exception(error))
    return mask(text) if _Output.mask_numbers else mask_secrets(text)


class _LibraryHandler(logging.Handler):
    """Lines of libraries that use the standard logging."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = {"room": record.name, "text": record.getMessage()}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        line = _line(record.levelname.lower(), "library.said", fields)
        if _Output.lines is None:
            sys.stderr.buffer.write(line)
        else:
            _Output.lines.put(line, True)
