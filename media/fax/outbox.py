"""From the spool to the customer's mailbox.

    folder ──`take`──▶ PDF, tables faxes and fax_mails, folder removed ──`send_due`──▶ mail server

`take` may be repeated at any point: the PDF is made anew, the rows are stored once. Until the database has the fax, the
folder stays, and `take_unfinished` finds it again, after a restart or a database outage.

A mail is claimed in the database before it is sent, so of several edges one sends it, and marked when the server took
it. Between the server's word and our mark there is no certainty in SMTP: if the power fails there, the mail goes again,
with the same Message-ID, rather than be lost. What this process knows to be delivered it never sends again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Final, Literal, Protocol

import aiosmtplib
import structlog

from config.away import AWAY
from config.secrets import SecretBox, SecretError
from media.fax.engine import FaxError
from media.fax.mail import compose
from media.fax.record import FaxMeta, FaxResult, Outcome
from media.fax.spool import Folder, Spool, SpoolError
from media.fax.tables import DueMail, FaxTables

GIVE_UP_AFTER: Final = timedelta(days=3)
_DELAYS: Final = tuple(timedelta(minutes=m) for m in (1, 2, 5, 10, 20, 30, 60, 120))
_CLAIM: Final = timedelta(minutes=10)
_SWEEP: Final = 60.0
_AT_ONCE: Final = 8
NO_CONNECTION: Final = "no connection"
"""How the error of a mail begins that the server was never told of."""


class MailRefused(Exception):
    """The mail server refused the mail for good: trying again is useless."""


class MailDelayed(Exception):
    """The mail was not taken now: the server is away, busy, hangs up, or does not let us in."""


class Transport(Protocol):
    """Gives a mail to the next server."""

    async def send(self, message: EmailMessage) -> None:
        """Return when the server has taken it. Raises MailRefused and MailDelayed."""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mails go. `tls`: starttls (port 587 or 25), tls from the start (465), or none. `timeout`: seconds."""

    host: str
    port: int = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None
    timeout: float = 60.0

    def __repr__(self) -> str:
        return f"SmtpServer({self.host!r}, {self.port})"


class SmtpTransport:
    """Mails over SMTP, one connection each."""

    def __init__(self, server: SmtpServer) -> None:
        self._server = server

    async def send(self, message: EmailMessage) -> None:
        """See Transport. A server that does not let us in delays: that is our setting, not the mail's fault."""
        server = self._server
        try:
            await asyncio.wait_for(
                aiosmtplib.send(
                    message,
                    hostname=server.host,
                    port=server.port,
                    use_tls=server.tls == "tls",
                    start_tls=server.tls == "starttls",
                    username=server.username,
                    password=server.password,
                    cert_bundle=server.ca_file,
                    timeout=server.timeout,
                ),
                # Each step has its own limit; a server that answers one octet a minute has this.
                server.timeout * 5,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            first = error.recipients[0]
            raise _verdict(first.code, first.message) from None
        except (aiosmtplib.SMTPAuthenticationError, aiosmtplib.SMTPSenderRefused) as error:
            raise MailDelayed(f"{error.code} {error.message}; check smtp settings") from None
        except aiosmtplib.SMTPResponseException as error:
            raise _verdict(error.code, error.message) from None
        except aiosmtplib.SMTPConnectError as error:
            raise MailDelayed(f"{NO_CONNECTION}: {error}") from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise MailDelayed(str(error) or type(error).__name__) from None


def _verdict(code: int, said: str) -> MailRefused | MailDelayed:
    return (MailRefused if 500 <= code < 600 else MailDelayed)(f"{code} {said}")


class Documents(Protocol):
    """Makes PDFs; the fax engine does."""

    async def make_pdf(self, folder: Folder, password: str | None) -> int:
        """Make the fax.pdf of a folder. Raises FaxError."""


class Outbox:
    """See the module. `sender`: address that mails come from. `now`: the time of day, with time zone."""

    def __init__(
        self,
        spool: Spool,
        tables: FaxTables,
        documents: Documents,
        transport: Transport,
        secrets: SecretBox,
        sender: str,
        now: Callable[[], datetime],
    ) -> None:
        self._spool = spool
        self._tables = tables
        self._documents = documents
        self.transport = transport
        """May be replaced at any time; so may `sender`."""
        self._secrets = secrets
        self.sender = sender
        self._now = now
        self._wake = asyncio.Event()
        self._ended: dict[str, FaxResult] = {}
        self._sending: set[asyncio.Task[bool]] = set()
        # Taken by the server, not yet marked: the database was away.
        self._unmarked: dict[str, datetime] = {}
        # Whether mails may wait for a server that was away; also those of a process before this one.
        self._away = True
        self._log = structlog.get_logger("media.fax")
        self.delivered = 0
        self.delayed = 0
        self.failed = 0

    async def take(self, folder: Folder, known: FaxResult | None = None) -> FaxResult | None:
        """Bring a fax that is over into the database, with its mail, and remove its folder.

        `known`: how it ended; it need not be in the folder, whose disk may be full. Later attempts remember it.

        None where that must be tried again (the folder stays): the database or the disk is in trouble, which is logged.
        The folder must be locked by us, and no process may work on it any more.
        """
        if known is not None:
            self._ended[folder.id] = known
        try:
            meta = await asyncio.to_thread(folder.meta)
            result = self._ended.get(folder.id)
            if result is None:
                result = await asyncio.to_thread(folder.end, self._now().timestamp())
            pdf = await self._pdf(folder, meta, result)
            await self._tables.store(meta, result, pdf, self._now())
        except (SpoolError, FaxError, SecretError, *AWAY) as error:
            self._log.error("fax.not_taken", fax=folder.id, error=str(error) or type(error).__name__)
            folder.unlock()
            return None
        self._ended.pop(folder.id, None)
        await asyncio.to_thread(folder.remove)
        self._wake.set()
        return result

    async def take_unfinished(self) -> int:
        """Take all faxes on which nobody works any more: those of a process before this one. How many were taken."""
        taken = 0
        for folder in await asyncio.to_thread(self._spool.unfinished):
            taken += await self.take(folder) is not None
        return taken

    async def _pdf(self, folder: Folder, meta: FaxMeta, result: FaxResult) -> bytes | None:
        if result.outcome is Outcome.FAILED or meta.called is not None:
            return None
        pdf = await asyncio.to_thread(folder.pdf)
        if pdf is None:
            password = None if meta.sealed_password is None else self._secrets.open(meta.sealed_password)
            await self._documents.make_pdf(folder, password)
            pdf = await asyncio.to_thread(folder.pdf)
        return pdf

    async def send_due(self) -> int:
        """Send all mails that are due; how many were delivered. Raises what asyncpg raises."""
        before = self.delivered
        while begun := await self._begin_due():
            await asyncio.wait(begun)
            for task in begun:
                task.result()
        return self.delivered - before

    async def _begin_due(self) -> list[asyncio.Task[bool]]:
        """Begin to send what is due, each mail by itself: a server that says nothing to one holds up no other."""
        for fax_id, at in list(self._unmarked.items()):
            await self._tables.delivered(fax_id, at)
            self._unmarked.pop(fax_id, None)
        begun: list[asyncio.Task[bool]] = []
        while len(self._sending) < _AT_ONCE:
            now = self._now()
            due = await self._tables.claim(now, now + _CLAIM, list(self._unmarked))
            if due is None:
                break
            task = asyncio.get_running_loop().create_task(self._send(due), name=f"mail of fax {due.meta.id}")
            self._sending.add(task)
            task.add_done_callback(self._sent)
            begun.append(task)
        return begun

    def _sent(self, task: asyncio.Task[bool]) -> None:
        self._sending.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("fax.outbox_stalled", error=str(error) or type(error).__name__)

    async def _send(self, due: DueMail) -> bool:
        fax_id = due.meta.id
        try:
            message = compose(due.meta, due.result, due.pdf, self.sender, due.encrypted)
        except ValueError as error:
            # Its document is gone, or the address is none.
            await self._fail(due, str(error))
            return False
        try:
            await self.transport.send(message)
        except MailRefused as error:
            await self._fail(due, str(error))
            return False
        except MailDelayed as error:
            await self._delay(due, str(error))
            return False
        at = self._now()
        self._unmarked[fax_id] = at
        self.delivered += 1
        self._log.info("fax.mailed", fax=fax_id, account=due.meta.account, tries=due.tries)
        await self._tables.delivered(fax_id, at)
        self._unmarked.pop(fax_id, None)
        if self._away:
            self._away = False
            await self._tables.hurry(at, NO_CONNECTION)
        return True

    async def _delay(self, due: DueMail, error: str) -> None:
        now = self._now()
        if now - due.queued_at >= GIVE_UP_AFTER:
            await self._fail(due, f"given up after {GIVE_UP_AFTER.days} days: {error}")
            return
        self.delayed += 1
        self._away = self._away or error.startswith(NO_CONNECTION)
        wait = _DELAYS[min(due.tries, len(_DELAYS)) - 1]
        self._log.warning("fax.mail_delayed", fax=due.meta.id, tries=due.tries, error=error, again_in_s=wait.seconds)
        await self._tables.later(due.meta.id, now + wait, error)

    async def _fail(self, due: DueMail, error: str) -> None:
        self.failed += 1
        self._log.error("fax.mail_failed", fax=due.meta.id, account=due.meta.account, tries=due.tries, error=error)
        await self._tables.failed(due.meta.id, error)

    def wake(self) -> None:
        """There is something to do now: a fax was taken or is to be sent again."""
        self._wake.set()

    async def run(self) -> None:
        """Take what a process before us left, send what is due, again and again, until cancelled."""
        try:
            while True:
                await self._run_once()
        finally:
            for task in self._sending:
                task.cancel()

    async def _run_once(self) -> None:
        self._wake.clear()
        wait = _SWEEP
        try:
            await self.take_unfinished()
            await self._begin_due()
            due = await self._tables.next_due()
            if due is not None:
                wait = min(wait, max(1.0, (due - self._now()).total_seconds()))
        except AWAY as error:
            self._log.error("fax.outbox_stalled", error=str(error) or type(error).__name__)
        # Not wait_for: woken and cancelled at once, it would forget that it was cancelled.
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._wake.wait()
