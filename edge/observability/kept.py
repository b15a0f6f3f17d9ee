"""Ladders and captures of calls that failed or were refused, on disk for some days (domain rules 7.9, 7.10).

The trace in memory reaches back an hour; who asks why a call of yesterday failed finds it here. Numbers lack their last
three digits, secrets are hidden. Two files per call, `ID.txt` and `ID.pcap`; where there is too much the oldest go.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from edge.observability import ladder
from edge.observability.logging import get_logger
from edge.observability.privacy import shorten
from edge.observability.trace import Tap, TracedCall

_EVERY = 5.0
_AFTER = 5.0
"""Seconds after the end of a call at which its last messages (ACK, repeated answers) have come."""
_AT_ONCE = 25
"""Calls written per round: refusals by the thousand teach nothing that the first ones do not."""
_WAITING = 1000
_ID = re.compile(r"[A-Za-z0-9._~-]{1,100}")

log = get_logger("trace")


class KeptTraces:
    """The folder of kept traces, at most `max_bytes` large (0: nothing is kept)."""

    def __init__(self, folder: Path, max_bytes: int, tap: Tap, now: Callable[[], float], wall: Callable[[], float]):
        """`now`: the clock of the messages; `wall`: seconds since 1970."""
        self.kept = 0
        self.dropped = 0
        """Calls that were not kept: too many at once, or the disk is full or broken."""
        self._folder = folder
        self.max_bytes = max_bytes
        self._tap = tap
        self._now = now
        self._wall = wall
        self._due: deque[tuple[float, str]] = deque()
        self._told = False
        self._stopping = asyncio.Event()

    def want(self, call: str) -> None:
        """Keep this call, soon."""
        if not self.max_bytes:
            return
        if len(self._due) >= _WAITING:
            self.dropped += 1
            return
        self._due.append((self._now() + _AFTER, call))

    async def run(self) -> None:
        """Write what is due and delete what is old, until `stop`; then write what is left."""
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(_EVERY):
                    await self._stopping.wait()
            except TimeoutError:
                pass
            await self.once()

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    async def once(self) -> None:
        """Write what is due now."""
        now = self._now() + (_AFTER if self._stopping.is_set() else 0.0)
        found: list[TracedCall] = []
        while self._due and self._due[0][0] <= now:
            _, call = self._due.popleft()
            traced = self._tap.find(call)
            if traced is None or len(found) >= _AT_ONCE:
                self.dropped += 1
            else:
                found.append(traced)
        if not found:
            return
        offset = self._wall() - self._now()
        try:
            await asyncio.to_thread(self._write, found, offset)
            self._told = False
        except OSError as error:
            self.dropped += len(found)
            if not self._told:
                self._told = True
                log.error("traces.not_kept", folder=str(self._folder), detail=str(error))

    def purge(self, age: timedelta) -> int:
        """Delete files that are so old; how many. Does not raise."""
        return self._delete(self._wall() - age.total_seconds())

    def _delete(self, oldest: float) -> int:
        """Delete files from before `oldest`, and the oldest of all while there is too much."""
        try:
            entries = [e for e in os.scandir(self._folder) if e.is_file()] if self._folder.is_dir() else []
            files = sorted((e.stat().st_mtime, e.stat().st_size, e.path) for e in entries)
        except OSError:
            return 0
        total = sum(size for _, size, _ in files)
        gone = 0
        for written_at, size, path in files:
            if written_at > oldest and total <= self.max_bytes:
                break
            Path(path).unlink(missing_ok=True)
            total -= size
            gone += 1
        return gone

    def ladder(self, call: str) -> str | None:
        """What is kept of a call, by our id of it."""
        data = self._read(call, ".txt")
        return data.decode("utf-8", "replace") if data is not None else None

    def pcap(self, call: str) -> bytes | None:
        """The same as a capture file."""
        return self._read(call, ".pcap")

    def forget(self, call: str) -> bool:
        """Delete what is kept of a call; whether there was any."""
        if not _ID.fullmatch(call):
            return False
        there = [path for ending in (".txt", ".pcap") if (path := self._folder / f"{call}{ending}").exists()]
        for path in there:
            path.unlink(missing_ok=True)
        return bool(there)

    def _read(self, call: str, ending: str) -> bytes | None:
        if not _ID.fullmatch(call):
            return None
        try:
            return (self._folder / f"{call}{ending}").read_bytes()
        except OSError:
            return None

    def _write(self, calls: list[TracedCall], offset: float) -> None:
        self._folder.mkdir(mode=0o750, exist_ok=True)
        for call in calls:
            short = _shortened(call)
            at = self._wall()
            for ending, data in (
                (".txt", ladder.render(short, offset).encode("utf-8", "replace")),
                (".pcap", ladder.pcap(short, offset)),
            ):
                path = self._folder / f"{call.call}{ending}"
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
                with open(descriptor, "wb") as file:
                    file.write(data)
                os.utime(path, (at, at))
            self.kept += 1
        self._delete(0.0)


def _shortened(call: TracedCall) -> TracedCall:
    legs = tuple(
        leg._replace(messages=tuple(m._replace(data=shorten(m.data)) for m in leg.messages)) for leg in call.legs
    )
    return call._replace(legs=legs)
