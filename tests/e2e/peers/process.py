"""A child process whose output can be waited for: the base of every peer that is a program."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path


class PeerFailed(AssertionError):
    """A peer died or did not do in time what it was waited for; the text holds the end of its log."""


class Output:
    """Lines that arrive from somewhere else, to be waited for by pattern; written to `log` as they come."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.lines: list[str] = []
        self.kept: re.Pattern[str] | None = None
        """Once set, only lines that match are kept: for runs of hours."""
        self.closed = False
        self._arrived = threading.Condition()
        log.parent.mkdir(parents=True, exist_ok=True)
        self._file = log.open("a", encoding="utf-8")

    def add(self, line: str) -> None:
        if self.kept is not None and not self.kept.search(line):
            return
        with self._arrived:
            self._file.write(f"{time.monotonic():.3f} {line}\n")
            self._file.flush()
            self.lines.append(line)
            self._arrived.notify_all()

    def close(self) -> None:
        with self._arrived:
            if not self.closed:
                self.closed = True
                self._file.close()
                self._arrived.notify_all()

    @property
    def mark(self) -> int:
        """A place in the output: what comes after it can be waited for."""
        return len(self.lines)

    def wait_for(self, pattern: str, timeout: float = 10.0, after: int = 0) -> re.Match[str]:
        """The first match of `pattern` in a line after the mark `after`. Raises PeerFailed after `timeout` seconds."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout
        seen = after
        with self._arrived:
            while True:
                while seen < len(self.lines):
                    if match := wanted.search(self.lines[seen]):
                        return match
                    seen += 1
                left = deadline - time.monotonic()
                if left <= 0 or self.closed:
                    why = "ended" if self.closed else f"did not within {timeout:g} s"
                    tail = "\n  ".join(self.lines[-25:])
                    raise PeerFailed(
                        f"{self.name} {why}: no output like {pattern!r}; its last lines ({self.log}):\n  {tail}"
                    )
                self._arrived.wait(left)

    def count(self, pattern: str, after: int = 0) -> int:
        wanted = re.compile(pattern)
        return sum(1 for line in self.lines[after:] if wanted.search(line))


class PeerProcess:
    """A program with its output in an `Output`; stopped with SIGTERM, then SIGKILL."""

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        *,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stop_signal: int = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.output = Output(name, log)
        self._stop_signal = stop_signal
        self.left_children = False
        """Once stopped: did it end and leave processes behind that it had started?"""
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"{name}-output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for raw in lines:
                self.output.add(raw.decode("utf-8", "replace").rstrip("\r\n"))
        self.output.close()

    def wait_for(self, pattern: str, timeout: float = 10.0, after: int = 0) -> re.Match[str]:
        return self.output.wait_for(pattern, timeout, after)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def wait(self, timeout: float) -> int:
        """The exit status. Raises PeerFailed when it goes on for longer than `timeout` seconds."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            tail = "\n  ".join(self.output.lines[-25:])
            raise PeerFailed(f"{self.name} still runs after {timeout:g} s; its last lines:\n  {tail}") from None
        self._reader.join(5)
        return status

    def stop(self, timeout: float = 5.0) -> int:
        """End the process and all it started; its exit status."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(self._stop_signal)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                pass
        if not self.running:
            self.left_children = _group_lives(self.process.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        status = self.process.wait(5)
        self._reader.join(5)
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        self.output.close()
        return status


def connect_beside(pid: int, address: tuple[str, int]) -> socket.socket:
    """A TCP connection to `address` as the process `pid` would open it, in the network namespace that it runs in."""
    made: list[socket.socket | OSError] = []

    def connect() -> None:
        try:
            with open(f"/proc/{pid}/ns/net") as namespace, open("/proc/self/ns/net") as own:
                elsewhere = os.stat(namespace.fileno()).st_ino != os.stat(own.fileno()).st_ino
                if elsewhere and ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0):
                    raise OSError(ctypes.get_errno(), f"cannot enter the network namespace of {pid}")
            made.append(socket.create_connection(address, 5))
        except OSError as error:
            made.append(error)

    # a namespace is entered by one thread alone, which ends with that
    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def poll(ready: Callable[[], bool], what: str, timeout: float = 10.0) -> None:
    """Wait for something that cannot notify. Raises PeerFailed when it is not so after `timeout` (seconds)."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not ready():
        if time.monotonic() > deadline:
            raise PeerFailed(f"not within {timeout:g} s: {what}")
        pause.wait(0.02)
