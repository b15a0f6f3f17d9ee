"""Faxes, seen from the call: `FaxEngine` starts them in processes of their own, `FaxJob` is one of them.

    engine = FaxEngine(Spool(data_dir / "fax"), FaxOptions(host="192.0.2.1", ports=(30000, 39999)))
    await engine.start()
    job = await engine.receive(meta, ident="+49 228 1234")
    ...                                  # answer the INVITE with job.local_audio
    job.use_audio(remote)                # media.sdp.t38.audio_of(their description)
    async for event in job.events():     # CngHeard, PreambleSent: offer T.38 with job.local_t38
        ...                              # and on its 200: job.use_t38(image_of(...)); Finished: BYE

The process of a fax (`media.fax.call`) is forked by the nursery (`media.fax.nursery`). It talks over a socket
pair; when that reads empty without `Finished`, the process died, and the result is made of the pages on the disk.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import structlog

from media.fax.call import MESSAGE, Order
from media.fax.events import (
    CngHeard,
    FaxCommand,
    FaxEvent,
    Finished,
    HangUp,
    PageStored,
    PreambleSent,
    Ready,
    T38Refused,
    UseAudio,
    UseT38,
    decode_event,
    encode,
)
from media.fax.nursery import READY
from media.fax.record import CRASHED, OWN_TEXTS, FaxMeta, FaxResult
from media.fax.spool import Folder, Spool, SpoolError
from media.sdp.t38 import ErrorCorrection, RemoteAudio, RemoteT38

_START_TIMEOUT: Final = 15.0
_READY_TIMEOUT: Final = 5.0
_STOP_TIMEOUT: Final = 5.0
_DOCUMENT_TIMEOUT: Final = 300.0
_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 5.0
_WELL_AFTER: Final = 30.0


class FaxError(Exception):
    """A fax cannot begin: no process, no port, no room on the disk."""


@dataclass(frozen=True, slots=True)
class FaxOptions:
    """`host`: local address of media; `ports`: first and last; `redundancy`: packets repeated in each UDPTL packet.

    `audio_rate`: fastest rate over G.711 in bit/s, 9600 or 14400. Losses hurt less at 9600 (domain rule 4.4.28).
    `most`: faxes at the same time.
    """

    host: str = "0.0.0.0"
    ports: tuple[int, int] = (30000, 39999)
    redundancy: int = 3
    ecm: bool = True
    audio_rate: int = 9600
    most: int = 500


class FaxJob:
    """A running fax."""

    def __init__(
        self, folder: Folder, control: socket.socket, on_end: Callable[[FaxJob], None], redundancy: int
    ) -> None:
        self._folder = folder
        self._control = control
        self._on_end = on_end
        self._redundancy = redundancy
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[FaxEvent] = asyncio.Queue()
        self._ready: asyncio.Future[Ready] = self._loop.create_future()
        self._result: asyncio.Future[FaxResult] = self._loop.create_future()
        self._finished: FaxResult | None = None
        self._reason = ""
        self._ending: asyncio.Task[None] | None = None
        self.local_audio = 0
        """Port where G.711 is awaited; bound for the whole call."""
        self.local_t38 = 0
        """Port where UDPTL is awaited; bound for the whole call, so it can be offered before T.38 is agreed."""
        self.pid = 0
        control.setblocking(False)
        self._loop.add_reader(control.fileno(), self._read)

    @property
    def id(self) -> str:
        """The fax's id, which names its folder."""
        return self._folder.id

    @property
    def folder(self) -> Folder:
        """Its folder in the spool, locked by us until the fax is in the database."""
        return self._folder

    def use_audio(self, remote: RemoteAudio, our_key: str = "") -> None:
        """Go on with G.711; from T.38 T.30 starts anew in the same role, else only the address changes.

        `our_key`: that of our SRTP, where they have one."""
        _literal(remote.host)
        keys = (remote.crypto.suite, our_key, remote.crypto.key) if remote.crypto is not None else ("", "", "")
        self._tell(UseAudio(remote.host, remote.port, remote.alaw, remote.payload_type, *keys))

    def use_t38(self, remote: RemoteT38) -> None:
        """Go on with T.38 as they described it: T.30 starts anew in the same role, received pages stay."""
        _literal(remote.host)
        theirs = remote.t38
        correction = theirs.error_correction
        redundancy = self._redundancy if correction is not ErrorCorrection.NONE else 0
        fec = correction is ErrorCorrection.FEC
        self._tell(
            UseT38(remote.host, remote.port, theirs.max_datagram, redundancy, fec, min(theirs.max_bit_rate, 14400))
        )

    def t38_refused(self) -> None:
        """T.38 was offered and refused: G.711 goes on."""
        self._tell(T38Refused())

    def hang_up(self, reason: str = "") -> None:
        """The call is over; `Finished` follows. `reason`: final response or Reason of the BYE, for the record."""
        self._reason = self._reason or reason
        self._tell(HangUp(reason))

    async def events(self) -> AsyncIterator[FaxEvent]:
        """What happens, to `Finished`, which always comes. For one reader."""
        while True:
            event = await self._queue.get()
            yield event
            if isinstance(event, Finished):
                return

    async def result(self) -> FaxResult:
        """How it ended, when it has."""
        return await asyncio.shield(self._result)

    async def ready(self) -> None:
        """Wait until the sockets are bound. Raises FaxError."""
        try:
            ready = await asyncio.wait_for(asyncio.shield(self._ready), _READY_TIMEOUT)
        except TimeoutError:
            raise FaxError(f"the fax process did not start within {_READY_TIMEOUT:g} s") from None
        self.local_audio, self.local_t38, self.pid = ready.audio_port, ready.t38_port, ready.pid

    def _tell(self, command: FaxCommand) -> None:
        # A dead process is told of by its socket, which reads empty.
        with suppress(OSError):
            self._control.send(encode(command))

    def _read(self) -> None:
        while True:
            try:
                message = self._control.recv(MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._loop.remove_reader(self._control.fileno())
                self._control.close()
                self._ending = self._loop.create_task(self._end(), name=f"fax {self.id} ends")
                return
            event = decode_event(message)
            if isinstance(event, Ready):
                self._ready.set_result(event)
            elif isinstance(event, Finished):
                self._finished = event.result
            elif isinstance(event, CngHeard | PreambleSent | PageStored):
                self._queue.put_nowait(event)

    async def _end(self) -> None:
        """The process has ended: with a result, or without."""
        if not self._ready.done():
            self._ready.set_exception(FaxError("the fax process ended before it was ready; its log tells why"))
            # Also where nobody waits any more.
            self._ready.exception()
        result = self._finished
        if result is None:
            result = await asyncio.to_thread(_result_of_dead, self._folder, time.time(), self._reason)
        self._result.set_result(result)
        self._queue.put_nowait(Finished(result))
        self._on_end(self)


class FaxEngine:
    """Starts faxes. One per edge."""

    def __init__(self, spool: Spool, options: FaxOptions) -> None:
        self.spool = spool
        self._options = options
        self._nursery: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._jobs: set[FaxJob] = set()
        self._logs: set[asyncio.Task[None]] = set()
        self._last_lines: deque[str] = deque(maxlen=5)
        self._log = structlog.get_logger("media.fax")

    @property
    def running(self) -> int:
        """Faxes under way."""
        return len(self._jobs)

    @property
    def nursery_pid(self) -> int | None:
        """Process id of the nursery; None while there is none."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the nursery. Raises FaxError with what it said (libspandsp2 missing, mostly)."""
        self._stop.clear()
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._supervise(first), name="fax nursery")
        try:
            await asyncio.shield(first)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End all faxes with what they have, then the nursery."""
        for job in list(self._jobs):
            job.hang_up("the edge is shutting down")
        if self._jobs:
            await asyncio.wait({asyncio.ensure_future(job.result()) for job in self._jobs}, timeout=_STOP_TIMEOUT)
        self._stop.set()
        task, self._task = self._task, None
        if task is not None:
            await task
        if self._logs:
            await asyncio.wait(self._logs, timeout=_STOP_TIMEOUT)

    async def receive(self, meta: FaxMeta, ident: str = "") -> FaxJob:
        """Begin to receive; the folder is on the disk and the sockets are bound when this returns. Raises FaxError."""
        return await self._begin(meta, ident, None)

    async def send(self, meta: FaxMeta, document: Path, ident: str = "") -> FaxJob:
        """Begin to send a TIFF (`tiff_for_fax` makes one); as `receive`."""
        return await self._begin(meta, ident, document)

    async def make_pdf(self, folder: Folder, password: str | None) -> int:
        """Make the fax.pdf of a folder's pages, in a process of its own; the number of pages. Raises FaxError.

        With a password the PDF is encrypted, and the plain pages are deleted once it is on the disk.
        """
        order = {"do": "document", "make": "pdf", "folder": str(folder.path)}
        if password is not None:
            order["password"] = password
        return await self._work(order)

    async def tiff_for_fax(self, source: Path, target: Path, resolution: str = "fine") -> int:
        """Make a TIFF that can be sent of a PDF; its pages. `resolution`: standard, fine, superfine.

        Raises FaxError.
        """
        paths = {"source": str(source), "target": str(target)}
        return await self._work({"do": "document", "make": "tiff", "resolution": resolution, **paths})

    async def _begin(self, meta: FaxMeta, ident: str, document: Path | None) -> FaxJob:
        if len(self._jobs) >= self._options.most:
            raise FaxError(f"{self._options.most} faxes are under way; no more are taken")
        try:
            folder = await asyncio.to_thread(self.spool.create, meta)
        except SpoolError as error:
            raise FaxError(str(error)) from None
        options = self._options
        order = Order(
            str(folder.path),
            options.host,
            options.ports,
            ident,
            str(document) if document else None,
            options.ecm,
            options.audio_rate,
        )
        try:
            control = self._fork(order.to_json(), [folder.lock_descriptor])
        except FaxError:
            folder.remove()
            raise
        job = FaxJob(folder, control, self._jobs.discard, options.redundancy)
        self._jobs.add(job)
        try:
            await job.ready()
        except FaxError:
            job.hang_up()
            with suppress(TimeoutError):
                await asyncio.wait_for(job.result(), _STOP_TIMEOUT)
            folder.remove()
            raise
        return job

    async def _work(self, order: dict[str, str]) -> int:
        control = self._fork(json.dumps(order).encode(), [])
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bytes] = loop.create_future()

        def read() -> None:
            if not answered.done():
                try:
                    answered.set_result(control.recv(MESSAGE))
                except OSError:
                    answered.set_result(b"")

        control.setblocking(False)
        loop.add_reader(control.fileno(), read)
        try:
            message = await asyncio.wait_for(answered, _DOCUMENT_TIMEOUT)
        except TimeoutError:
            raise FaxError(f"a document was not made within {_DOCUMENT_TIMEOUT:g} s") from None
        finally:
            loop.remove_reader(control.fileno())
            control.close()
        if not message:
            raise FaxError("the process that made a document died; the log tells how")
        answer = json.loads(message)
        if "error" in answer:
            raise FaxError(answer["error"])
        return int(answer["pages"])

    def _fork(self, order: bytes, descriptors: list[int]) -> socket.socket:
        if self._nursery is None:
            raise FaxError("the fax nursery is not running; it is being started again")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            socket.send_fds(self._nursery, [order], [theirs.fileno(), *descriptors])
        except OSError as error:
            ours.close()
            raise FaxError(f"the fax nursery takes no orders ({error})") from None
        finally:
            theirs.close()
        return ours

    # -- the nursery's life

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
                first.set_exception(FaxError(f"the fax nursery did not start ({status}): {said}"))
                return
            if loop.time() - began > _WELL_AFTER:
                delay = _FIRST_DELAY
            self._log.error("fax.nursery_died", status=status, restart_in_s=delay, said=said)
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stop.wait()
            delay = min(delay * 2, _LONGEST_DELAY)

    async def _run_once(self, first: asyncio.Future[None]) -> str:
        """One life of the nursery; how it ended, in words."""
        self._last_lines.clear()
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        # Not a pipe of asyncio's: it would wait for the faxes too, which hold it open when the nursery has died.
        log, its_log = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "media.fax.nursery",
                "--fd",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=its_log,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            os.close(log)
            return str(error)
        finally:
            theirs.close()
            os.close(its_log)
        self._process = process
        ready = loop.create_future()
        loop.add_reader(ours.fileno(), self._heard, ours, ready)
        reading = asyncio.create_task(self._read_log(log), name="fax nursery log")
        self._logs.add(reading)
        reading.add_done_callback(self._logs.discard)
        stopping = asyncio.create_task(self._stop.wait())
        ending = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({ready, ending, stopping}, timeout=_START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                self._nursery = ours
                if not first.done():
                    first.set_result(None)
                self._log.info("fax.nursery_started", pid=process.pid)
                await asyncio.wait({stopping, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            self._nursery = None
            loop.remove_reader(ours.fileno())
            ours.close()
            await self._end(process)
            ending.cancel()
            self._process = None
        code = process.returncode
        return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        # Its socket is closed, which ends it.
        try:
            await asyncio.wait_for(process.wait(), _STOP_TIMEOUT)
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _heard(self, control: socket.socket, ready: asyncio.Future[None]) -> None:
        try:
            message = control.recv(MESSAGE)
        except OSError:
            return
        if message == READY:
            if not ready.done():
                ready.set_result(None)
        elif message:
            died = json.loads(message)
            fax = next((job.id for job in self._jobs if job.pid == died["pid"]), None)
            self._log.error("fax.process_died", fax=fax, pid=died["pid"], status=died["status"])
        else:
            asyncio.get_running_loop().remove_reader(control.fileno())

    async def _read_log(self, descriptor: int) -> None:
        """What a nursery and its faxes write, until the last of them has ended."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(descriptor, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        while True:
            try:
                raw = await reader.readline()
            except ValueError:
                continue
            if not raw:
                transport.close()
                return
            line = raw.decode("utf-8", "replace").rstrip()
            self._last_lines.append(line)
            self._log.warning("fax.log", line=line[:500])


def _result_of_dead(folder: Folder, now: float, reason: str) -> FaxResult:
    try:
        return folder.end(now, reason)
    except SpoolError as error:
        return FaxResult(CRASHED, f"{OWN_TEXTS[CRASHED]}; {error}", 0, now, sip_reason=reason)


def _literal(host: str) -> None:
    """Media go to addresses, not to names: looking one up would stop the fax. Raises ValueError."""
    ip_address(host)
