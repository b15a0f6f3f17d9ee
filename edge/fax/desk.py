"""Where faxes come together: the engine and the outbox as long as they are wanted, faxes that run, what they taught.

Without libspandsp calls go on; a fax box refuses its calls with the reason in log and record (`Reason.UNAVAILABLE`),
and the engine is tried again every minute.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from config.model import Carrier
from config.secrets import SecretBox
from config.snapshot import Snapshot
from dialplan.model import Refusal, Target
from edge.b2bua.engine import Engine
from edge.b2bua.runner import CallRunner
from edge.fax import receive, send
from edge.fax.t38_memory import T38Memory
from edge.observability.logging import get_logger
from media.fax.engine import FaxEngine, FaxError, FaxJob
from media.fax.outbox import Outbox
from media.fax.record import FaxResult
from media.fax.spool import SpoolError
from media.fax.tables import FaxTables

log = get_logger("fax")

_RETRY_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 10.0
_START_SECONDS: Final = 5.0
CannotSend = send.CannotSend


class FaxDesk:
    """The faxes of one edge."""

    def __init__(
        self,
        calls_engine: Engine,
        engine: FaxEngine,
        outbox: Outbox,
        tables: FaxTables,
        secrets: SecretBox,
        media_address: str,
        address: str,
    ) -> None:
        """`media_address`: where our fax machine is, for our relay; `address`: the same as carriers see it."""
        self.calls_engine = calls_engine
        self.address = address
        self.media_address = media_address
        self._engine = engine
        self._outbox = outbox
        self._tables = tables
        self._secrets = secrets
        self._memory = T38Memory()
        self._up = False
        self._why_not = "the fax engine is being started"
        self._wanted = asyncio.Event()
        self._tried = asyncio.Event()
        self.draining = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[str, tuple[str, datetime]] = {}
        self._keeping: list[asyncio.Task[None]] = []

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Have the engine as soon as a fax box is provisioned or something lies in the spool; returns at once."""
        self.calls_engine.calls.on_fax = self._take
        loop = asyncio.get_running_loop()
        self._keeping.append(loop.create_task(self._keep(), name="fax desk"))

    def apply(self, snapshot: Snapshot) -> None:
        """The provisioning changed."""
        if snapshot.fax_boxes:
            self._wanted.set()

    async def stop(self) -> None:
        """End the faxes that run, bring them into the database, and stop."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        stopping = asyncio.ensure_future(self._engine.stop()) if self._up else None
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=_STOP_SECONDS)
        if stopping is not None:
            await stopping

    async def _keep(self) -> None:
        if not await asyncio.to_thread(_holds_faxes, self._engine.spool.path):
            await self._wanted.wait()
        while not self._up:
            try:
                await self._engine.start()
                self._up = True
            except FaxError as error:
                self._why_not = str(error)
                self._tried.set()
                log.error("fax.unavailable", error=self._why_not, again_in_s=_RETRY_SECONDS)
                # What was received before goes out as far as it has its document.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._outbox.run(), _RETRY_SECONDS)
        self._tried.set()
        await self._outbox.run()

    # -- faxes --------------------------------------------------------------------------------------------------------

    async def _take(self, call: CallRunner, box: Target) -> Refusal | None:
        return await receive.take(self, call, box)

    async def send(self, account: str, number: str, to: str, pdf: bytes, resolution: str = "fine") -> str:
        """Begin to send a PDF; the fax's id. Raises CannotSend with the reason."""
        if self.draining:
            raise CannotSend("this edge takes no new calls")
        self._wanted.set()
        try:
            engine = await self.fax_engine()
            folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="fax-")
            document = Path(folder.name) / "document.tif"
            source = Path(folder.name) / "document.pdf"
            try:
                await asyncio.to_thread(source.write_bytes, pdf)
                await engine.tiff_for_fax(source, document, resolution)
                return await send.send(self, account, number, to, document, folder.cleanup)
            except BaseException:
                await asyncio.to_thread(folder.cleanup)
                raise
        except FaxError as error:
            raise CannotSend(str(error)) from None

    async def fax_engine(self) -> FaxEngine:
        """The engine, as soon as its first start has succeeded. Raises FaxError where there is none."""
        if not self._tried.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._tried.wait(), _START_SECONDS)
        if not self._up:
            raise FaxError(f"no fax can be taken: {self._why_not}")
        return self._engine

    def follow(
        self,
        job: FaxJob,
        direction: str,
        run: Coroutine[None, None, FaxResult],
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        """Follow a fax to its end, then bring it into the database."""
        self._running[job.id] = direction, self.calls_engine.clock.utcnow()
        self._task(self._follow(job, direction, run, forget))

    def discard(self, job: FaxJob) -> None:
        """A fax that never was: nothing of it is kept."""
        self._task(self._discard(job))

    async def _follow(
        self, job: FaxJob, direction: str, run: Coroutine[None, None, FaxResult], forget: Callable[[], None]
    ) -> None:
        try:
            result = await run
        except Exception as error:
            self.calls_engine.internal_error("fax.call", error, call=job.id)
            job.hang_up("internal error")
            result = await job.result()
        log.info(
            "fax.finished",
            fax=job.id,
            direction=direction,
            result=result.outcome.value,
            pages=result.pages,
            transport=result.transport,
            t30_code=result.code,
            t30_text=result.text,
            poor_quality=result.poor_quality,
            sip_reason=result.sip_reason or None,
        )
        self.calls_engine.metrics.fax_finished(
            direction, result.outcome.value, result.transport, result.pages, poor=result.poor_quality
        )
        await self._outbox.take(job.folder, result)
        self._running.pop(job.id, None)
        await asyncio.to_thread(forget)

    async def _discard(self, job: FaxJob) -> None:
        job.hang_up("never answered")
        await job.result()
        with suppress(SpoolError):
            await asyncio.to_thread(job.folder.remove)

    def _task(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.calls_engine.internal_error("fax.desk", error)

    # -- what faxes ask -----------------------------------------------------------------------------------------------

    def seal(self, password: str) -> str:
        """A PDF password as it lies in the spool."""
        return self._secrets.seal(password)

    def t38_usable(self, carrier: Carrier) -> bool:
        """Whether T.38 is worth agreeing to with this carrier. Its media are encrypted, or T.38 is plain."""
        if carrier.t38 == "off" or carrier.srtp == "required":
            return False
        return self._memory.usable(carrier.name, self.calls_engine.driver.now())

    def t38_taught(self, carrier: str, packets: int, now: float) -> None:
        """A fax over T.38 from this carrier is over; `packets`: UDPTL that came."""
        if self._memory.note(carrier, packets, now):
            log.warning("fax.t38_off", carrier=carrier, hours=24, reason="two faxes in a row without any T.38 packet")

    # -- what operators ask (`edge.admin.views.Faxes`) ----------------------------------------------------------------

    @property
    def running(self) -> int:
        """Faxes under way."""
        return len(self._running)

    @property
    def mails(self) -> dict[str, int]:
        """Attempts to mail since the start, by what became of them."""
        out = self._outbox
        return {"delivered": out.delivered, "delayed": out.delayed, "failed": out.failed}

    async def listed(self, account: str | None, since: datetime, limit: int) -> list[dict[str, object]]:
        """Faxes of the database, newest first. Raises what asyncpg raises."""
        return await self._tables.listed(account, since, limit)

    async def shown(self, fax: str) -> dict[str, object] | None:
        """All that is known of a fax; while it runs, that it does. Raises what asyncpg raises."""
        if fax in self._running:
            direction, since = self._running[fax]
            return {"id": fax, "direction": direction, "started_at": since, "result": "running"}
        return await self._tables.shown(fax)

    async def resend(self, fax: str) -> bool:
        """Mail a fax again; False where it has no mail or its document was removed. Raises what asyncpg raises."""
        done = await self._tables.resend(fax, self.calls_engine.clock.utcnow())
        if done:
            self._wanted.set()
            self._outbox.wake()
        return done


def _holds_faxes(spool: Path) -> bool:
    try:
        return any(spool.iterdir())
    except OSError:
        return False
