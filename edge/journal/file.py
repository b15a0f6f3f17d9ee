"""An append-only journal in a folder: frames with a checksum, in segments of which the old ones are deleted.

A frame is written by one `write`, so a process that is killed leaves whole frames (they are in the kernel's page cache)
and at most one torn one at the end. What a machine that loses its power has not on disk is lost.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

_HEAD = struct.Struct("<IIcB")
"""Length of key and content, their checksum, kind, length of the key."""
_PREFIX = "segment-"
MAGIC = b"sip-edge journal 1\n"


class Frame(NamedTuple):
    """`kind` is one byte; `key` names what the content is about, at most 255 bytes."""

    kind: bytes
    key: bytes
    content: bytes | memoryview = b""


class JournalFile:
    """Writes frames into `folder`. Methods raise OSError."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self._number = max((_number(path) for path in _segments(folder)), default=0)
        self._fd = -1
        self.size = 0
        """Bytes in the current segment."""

    @property
    def segment(self) -> int:
        """Number of the current segment."""
        return self._number

    def begin_segment(self) -> None:
        """From now on frames go to a new segment."""
        number = self._number + 1
        path = self.folder / f"{_PREFIX}{number:08d}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, MAGIC)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)  # a full disk must not collect one a second
            raise
        self.close()
        self._fd, self._number, self.size = fd, number, len(MAGIC)

    def append(self, frames: Iterable[Frame]) -> None:
        """Write frames, all or a first part of them."""
        data = b"".join(_bytes(frame) for frame in frames)
        view = memoryview(data)
        while view:
            done = os.write(self._fd, view)
            self.size += done
            view = view[done:]

    def drop_before(self, segment: int) -> None:
        """Delete all segments before one: whatever they say of live calls has been written again."""
        for path in _segments(self.folder):
            if _number(path) < segment:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the current segment."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read(folder: Path) -> Iterator[Frame]:
    """All frames of a folder, oldest first; of each segment up to the first that is broken.

    Contents are views of the files, which need no memory of the process: copied, those of ten thousand calls would
    leave holes that it never gives back. A file stays as it was for them, also when it is deleted."""
    for path in _segments(folder):
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size <= len(MAGIC):
                continue
            data = memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))
        if data[: len(MAGIC)] == MAGIC:
            yield from _frames(data[len(MAGIC) :])


def _frames(data: memoryview) -> Iterator[Frame]:
    at = 0
    while at + _HEAD.size <= len(data):
        length, checksum, kind, key = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        body = data[at : at + length]
        if len(body) < length or key > length or crc32(body) != checksum:
            return
        at += length
        yield Frame(kind, bytes(body[:key]), body[key:])


def _bytes(frame: Frame) -> bytes:
    body = b"".join((frame.key, frame.content))
    return _HEAD.pack(len(body), crc32(body), frame.kind, len(frame.key)) + body


def _segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if path.name[len(_PREFIX) :].isdigit())


def _number(path: Path) -> int:
    return int(path.name[len(_PREFIX) :])
