"""The relay process that belongs to an edge: started, or taken over from the edge before it; watched, started again
when it dies, ended with a clean stop.

It is a process in a session of its own, so a signalling process that is killed leaves the media of its calls going. The
next one finds it by its socket. Where none comes the relay ends by itself (`RelayOptions.alone`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path

import structlog

from media.relay.connection import EventConnection
from media.relay.port import RelayError
from media.relay.process import EVENTS_SUFFIX, RelayOptions

LOG_SUFFIX = ".log"
_START_TIMEOUT = 15.0
_STOP_TIMEOUT = 5.0
_LOOK_EVERY = 0.02
_GREETING_TIMEOUT = 2.0
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0
# A relay that lived this long was well: the next restart is prompt again.
_WELL_AFTER = 30.0
_READ_LOG_EVERY = 0.5
_LARGEST_LOG = 1_000_000
_LOG_PREFIXES = {"DBUG": "debug", "INFO": "info", "WARN": "warning", "ERR": "error", "CRIT": "critical"}


class RelayChild:
    """A supervised relay process. What it writes goes to PATH.log, and from there into our log."""

    def __init__(self, options: RelayOptions) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._log = structlog.get_logger("media.relay")
        self._log_path = Path(options.socket + LOG_SUFFIX)
        self._log_read = 0
        self._last_lines: deque[str] = deque(maxlen=5)
        self.starts = 0
        self.adopted = False
        """Whether the process that runs was left behind by an earlier edge, with its sessions."""

    @property
    def socket(self) -> str:
        """The path of the relay's command socket."""
        return self._options.socket

    @property
    def pid(self) -> int | None:
        """The relay's process id; None while there is none."""
        return self._pid

    async def start(self) -> None:
        """Take over the relay that is there, or start one and wait until it is ready. Raises RelayError with what it
        said."""
        self._options.check()
        self._stop.clear()
        found = await self._find()
        first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._supervise(first, found), name="media relay child")
        try:
            await asyncio.shield(first)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the relay: politely, after 5 seconds by force."""
        self._stop.set()
        task, self._task = self._task, None
        if task is not None:
            await task
            with suppress(FileNotFoundError):
                self._log_path.unlink()

    async def leave(self) -> None:
        """Let go of the relay, which goes on for whoever takes it over."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _find(self) -> int | None:
        """The relay that an earlier edge left behind, by its process id; one with other options is ended first."""
        said = await self._greeting()
        if said is None:
            return None
        pid = int(said["pid"]) if said.get("pid", "").isdigit() else None
        if pid is None:
            return None
        if said.get("options") == self._options.fingerprint:
            return pid
        self._log.warning("relay.replaced", pid=pid, reason="its ports, addresses or times are not those of now")
        await _end(pid)
        return None

    async def _greeting(self) -> dict[str, str] | None:
        loop = asyncio.get_running_loop()
        path = self._options.socket + EVENTS_SUFFIX
        try:
            _, events = await asyncio.wait_for(
                loop.create_unix_connection(lambda: EventConnection(lambda tag: None, lambda which: None), path),
                _GREETING_TIMEOUT,
            )
        except (OSError, TimeoutError):
            return None
        try:
            return await asyncio.wait_for(events.greeting, _GREETING_TIMEOUT)
        except (RelayError, TimeoutError):
            return None
        finally:
            events.close()

    async def _supervise(self, first: asyncio.Future[None], found: int | None) -> None:
        loop = asyncio.get_running_loop()
        delay = _FIRST_DELAY
        reading = asyncio.create_task(self._follow_log(at_end=found is not None), name="media relay log")
        try:
            while not self._stop.is_set():
                began = loop.time()
                status = await self._run_once(first, found)
                found = None
                if self._stop.is_set():
                    return
                self._read_log()
                said = "; ".join(self._last_lines) or "it said nothing"
                if not first.done():
                    first.set_exception(RelayError(f"the media relay did not start ({status}): {said}"))
                    return
                if loop.time() - began > _WELL_AFTER:
                    delay = _FIRST_DELAY
                self._log.error("relay.died", status=status, restart_in_s=delay, said=said)
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._stop.wait()
                delay = min(delay * 2, _LONGEST_DELAY)
        finally:
            reading.cancel()
            self._read_log()

    async def _run_once(self, first: asyncio.Future[None], found: int | None) -> str:
        """One life of the relay, from its start (or from where it is found) to its end; how it ended, in words."""
        self._last_lines.clear()
        ended = asyncio.Event()
        try:
            pid = found if found is not None else self._spawn()
            watch = os.pidfd_open(pid)
        except OSError as error:
            return str(error)
        self._pid, self.adopted = pid, found is not None
        loop = asyncio.get_running_loop()
        loop.add_reader(watch, ended.set)
        try:
            if found is not None or await self._ready(ended):
                if not first.done():
                    first.set_result(None)
                self._log.info("relay.adopted" if found else "relay.started", pid=pid, socket=self._options.socket)
                waits = [asyncio.create_task(self._stop.wait()), asyncio.create_task(ended.wait())]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()
            if not ended.is_set():
                await self._end(pid, ended)
        finally:
            loop.remove_reader(watch)
            os.close(watch)
            self._pid = None
        if self._process is None:
            _reap(pid)
            return "it was started by an earlier program"
        code = self._process.wait()
        self._process = None
        return f"signal {-code}" if code < 0 else f"exit status {code}"

    def _spawn(self) -> int:
        self._log_read = 0
        environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        with open(self._log_path, "ab") as out:
            os.truncate(self._log_path, 0)  # appended to, so that it can be cut while the relay writes
            self._process = subprocess.Popen(
                [sys.executable, "-m", "media.relay.process", *self._options.command_line()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=out,
                env=environment,
                # Ctrl-C at a terminal goes to the whole group; the order of ending is ours.
                start_new_session=True,
            )
        self.starts += 1
        return self._process.pid

    async def _ready(self, ended: asyncio.Event) -> bool:
        loop = asyncio.get_running_loop()
        until = loop.time() + _START_TIMEOUT
        while not ended.is_set() and not self._stop.is_set():
            said = await self._greeting()
            if said is not None and said.get("pid") == str(self._pid):
                return True
            if loop.time() > until:
                self._last_lines.append(f"not ready within {_START_TIMEOUT:g} s")
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await ended.wait()
        return False

    async def _end(self, pid: int, ended: asyncio.Event) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await ended.wait()
        except TimeoutError:
            self._log.warning("relay.killed", pid=pid, after_s=_STOP_TIMEOUT)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            await ended.wait()

    async def _follow_log(self, *, at_end: bool) -> None:
        """Nothing tells of a file that grows, and what the relay says is seldom and for people."""
        if at_end:
            with suppress(OSError):
                self._log_read = self._log_path.stat().st_size
        while not self._stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_READ_LOG_EVERY):
                    await self._stop.wait()
            self._read_log()

    def _read_log(self) -> None:
        try:
            with open(self._log_path, "rb") as said:
                said.seek(self._log_read)
                lines = said.read(_LARGEST_LOG).split(b"\n")
                self._log_read = said.tell() - len(lines[-1])
            if self._log_read > _LARGEST_LOG:
                os.truncate(self._log_path, 0)
                self._log_read = 0
        except OSError:
            return
        for raw in lines[:-1]:
            line = raw.decode("utf-8", "replace").strip()
            self._last_lines.append(line)
            level = _LOG_PREFIXES.get(line.partition(":")[0], "warning")
            getattr(self._log, level)("relay.log", line=line[:500])


def _reap(pid: int) -> None:
    """It is our child where another program was in this process before."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


async def _end(pid: int) -> None:
    """End a process that is not ours to wait for."""
    try:
        watch = os.pidfd_open(pid)
    except OSError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(watch, ended.set)
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_TIMEOUT):
                    await ended.wait()
                return
    finally:
        loop.remove_reader(watch)
        os.close(watch)
