"""Records on disk until the database has them: append-only segment files, synced before they count as kept.

Plain blocking file operations; `edge.cdr.writer` runs them in a thread of their own. A segment holds one record a line.
The oldest segment is read first; it is removed (or emptied, while it is the one written to) when the database has all
of it. Nothing here needs to survive a crash but the files: what was stored but not yet removed is stored again, which
the tables' keys make harmless.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SEGMENT_BYTES = 4 * 1024 * 1024
BATCH_BYTES = 512 * 1024


class SpoolInUse(Exception):
    """Another process has this spool folder; the text names it and the remedy."""


class Batch(NamedTuple):
    """Lines read from the oldest segment, and where in it they end."""

    lines: list[bytes]
    segment: int
    end: int


class Spool:
    """The records in `folder` that are not yet in the database, oldest first.

    Raises SpoolInUse where another process has the folder, OSError where it cannot be written.
    """

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._rejected_lock = threading.Lock()
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            os.close(self._lock)
            raise SpoolInUse(
                f"{folder} is in use by another process: stop it, or give this edge a data_dir of its own"
            ) from e
        found = sorted(int(p.stem) for p in folder.glob("*.records") if p.stem.isdigit())
        self._segments = deque(found)
        self._recovered = frozenset(found)
        self._offset = 0
        self._fd = -1
        self._size = 0
        self._next = found[-1] + 1 if found else 1
        self.waiting = sum(self._path(n).read_bytes().count(b"\n") for n in found)
        """Records that are here and not yet in the database."""
        self.recovered = self.waiting
        """Those that an earlier run left."""
        self.unreadable = 0
        """Lines of an earlier run that a crash left broken; they are kept in `rejected.records`."""

    def append(self, lines: list[bytes]) -> None:
        """Keep these records: when this returns they survive a crash. Raises OSError and keeps none of them."""
        if self._fd < 0 or self._size >= self._segment_bytes:
            self._open_segment()
        data = b"".join(b"%b\n" % line for line in lines)
        try:
            _write(self._fd, data)
            os.fdatasync(self._fd)
        except OSError:
            self._abandon_write()
            raise
        self._size += len(data)
        self.waiting += len(lines)

    def advance(self, done: Batch | None) -> Batch | None:
        """The next records; `done` are those of the last call, which are in the database now. None: nothing waits."""
        if done is not None:
            self._offset = done.end
            self.waiting -= len(done.lines)
        while self._segments:
            segment = self._segments[0]
            current = segment == self._next - 1 and self._fd >= 0
            batch = self._read(segment, current)
            if batch.lines:
                return batch
            self._offset = batch.end
            if current:
                if self._size:
                    os.ftruncate(self._fd, 0)
                    self._size = self._offset = 0
                return None
            self._path(segment).unlink()
            self._segments.popleft()
            self._offset = 0
        return None

    def set_aside(self, line: bytes, why: str) -> None:
        """Keep a record that the database will never take in `rejected.records`, for a person to look at."""
        with self._rejected_lock:
            self._append_rejected(
                self._rejected, b"# %b\n%b\n" % (why.replace("\n", " ").encode("utf-8", "replace"), line)
            )

    def thin_rejected(self, wanted: Callable[[bytes], bool]) -> int:
        """Delete records that were set aside and are not `wanted`; how many. Raises OSError, and then deletes none."""
        with self._rejected_lock:
            if not self._rejected.exists():
                return 0
            kept, gone, why = b"", 0, b""
            for line in self._rejected.read_bytes().splitlines(keepends=True):
                if line.startswith(b"# "):
                    why = line
                elif wanted(line[1:]):
                    kept += why + line
                    why = b""
                else:
                    gone += 1
                    why = b""
            if gone:
                aside = self._rejected.with_suffix(".new")
                aside.unlink(missing_ok=True)
                if kept:
                    self._append_rejected(aside, kept)
                    aside.replace(self._rejected)
                else:
                    self._rejected.unlink()
            return gone

    @property
    def _rejected(self) -> Path:
        return self.folder / "rejected.records"

    @staticmethod
    def _append_rejected(path: Path, data: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            _write(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go of the folder; what waits stays there."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if self._size == 0:
                self._path(self._next - 1).unlink(missing_ok=True)
        os.close(self._lock)

    def _path(self, segment: int) -> Path:
        return self.folder / f"{segment:010d}.records"

    def _open_segment(self) -> None:
        fd = os.open(self._path(self._next), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_EXCL, 0o640)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = fd, 0
        self._segments.append(self._next)
        self._next += 1
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _abandon_write(self) -> None:
        # After a failed write or sync nobody knows what is on disk: cut it off and go on in a new segment.
        fd, self._fd = self._fd, -1
        try:
            os.ftruncate(fd, self._size)
        except OSError:
            pass
        os.close(fd)

    def _read(self, segment: int, current: bool) -> Batch:
        with self._path(segment).open("rb") as file:
            file.seek(self._offset)
            data = file.read(BATCH_BYTES)
            if len(data) == BATCH_BYTES and b"\n" not in data:
                data += file.readline()
        end = data.rfind(b"\n") + 1
        lines = data[:end].split(b"\n")[:-1]
        offset = self._offset + end
        if segment in self._recovered:
            good = [line for line in lines if _readable(line)]
            for line in lines:
                if not _readable(line):
                    self._broken(line)
            self.waiting -= len(lines) - len(good)
            self.recovered -= len(lines) - len(good)
            lines = good
        if end < len(data) and not current and len(data) < BATCH_BYTES:
            self._broken(data[end:])
            offset += len(data) - end
        if not lines and offset > self._offset:
            self._offset = offset
            return self._read(segment, current)
        return Batch(lines, segment, offset)

    def _broken(self, line: bytes) -> None:
        self.unreadable += 1
        self.set_aside(line, "a crash left this line incomplete")


def _readable(line: bytes) -> bool:
    try:
        json.loads(line[1:])
    except ValueError:
        return False
    return True


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
