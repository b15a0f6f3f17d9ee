"""The relay process as a child: started, watched, started again when it dies, ended with its parent."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from contextlib import suppress

import structlog

from media.relay.port import RelayError
from media.relay.process import RelayOptions

_START_TIMEOUT = 15.0
_STOP_TIMEOUT = 5.0
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0
# A relay that lived this long was well: the next restart is prompt again.
_WELL_AFTER = 30.0
_LOG_PREFIXES = {"DBUG": "debug", "INFO": "info", "WARN": "warning", "ERR": "error", "CRIT": "critical"}


class RelayChild:
    """A supervised relay process. The child ends when its standard input does, so it never outlives this process."""

    def __init__(self, options: RelayOptions) -> None:
        self._options = options
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._log = structlog.get_logger("media.relay")
        self._last_lines: deque[str] = deque(maxlen=5)
        self.starts = 0

    @property
    def socket(self) -> str:
        """The path of the child's command socket."""
        return self._options.socket

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the child and wait until it is ready. Raises RelayError with what the child said."""
        options = self._options
        options.check()
        self._stop.clear()
        first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._supervise(first), name="media relay child")
        try:
            await asyncio.shield(first)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the child: politely, after 5 seconds by force."""
        self._stop.set()
        task, self._task = self._task, None
        if task is not None:
            await task

    async def _supervise(self, first: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        delay = _FIRST_DELAY
        while not self._stop.is_set():
            began = loop.time()
            status = await self._run_once(first)
            if self._stop.is_set():
                return
            said = "; ".join(self._last_lines) or "it said nothing"
            if not first.done():
                first.set_exception(RelayError(f"the media relay did not start ({status}): {said}"))
                return
            if loop.time() - began > _WELL_AFTER:
                delay = _FIRST_DELAY
            self._log.error("relay.died", status=status, restart_in_s=delay, said=said)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), delay)
            delay = min(delay * 2, _LONGEST_DELAY)

    async def _run_once(self, first: asyncio.Future[None]) -> str:
        """One life of the child, from start to end; how it ended, in words."""
        self._last_lines.clear()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "media.relay.process",
                *self._options.command_line(),
                "--parented",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                # Ctrl-C at a terminal goes to the whole group; the order of ending is ours.
                start_new_session=True,
            )
        except OSError as error:
            return str(error)
        self._process = process
        self.starts += 1
        reading = asyncio.create_task(self._read_log(process), name="media relay log")
        stopping = asyncio.create_task(self._stop.wait())
        ending = asyncio.create_task(process.wait())
        try:
            if await self._ready(process):
                if not first.done():
                    first.set_result(None)
                self._log.info("relay.started", pid=process.pid, socket=self._options.socket)
                await asyncio.wait({stopping, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            await self._end(process)
            ending.cancel()
            await reading
            self._process = None
        code = process.returncode
        return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"

    async def _ready(self, process: asyncio.subprocess.Process) -> bool:
        assert process.stdout is not None
        try:
            return await asyncio.wait_for(process.stdout.readline(), _START_TIMEOUT) == b"ready\n"
        except TimeoutError:
            self._last_lines.append(f"not ready within {_START_TIMEOUT:g} s")
            return False

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _STOP_TIMEOUT)
            except TimeoutError:
                self._log.warning("relay.killed", pid=process.pid, after_s=_STOP_TIMEOUT)
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while True:
            try:
                raw = await process.stderr.readline()
            except ValueError:
                # A line beyond the reader's limit: it was dropped, the rest is read on.
                continue
            if not raw:
                return
            line = raw.decode("utf-8", "replace").strip()
            self._last_lines.append(line)
            level = _LOG_PREFIXES.get(line.partition(":")[0], "warning")
            getattr(self._log, level)("relay.log", line=line[:500])
