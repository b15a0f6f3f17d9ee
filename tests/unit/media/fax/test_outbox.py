"""From the spool through PostgreSQL to a mail server that also refuses, hangs and lies (rules 4.7.34 to 4.7.36)."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path

import asyncpg
import pikepdf
import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from config.embedded import EmbeddedPostgres
from config.migrations.runner import migrate_up
from config.secrets import SecretBox, new_key
from edge.retention.kept import ROWS
from media.fax.engine import FaxError
from media.fax.outbox import NO_CONNECTION, MailDelayed, MailRefused, Outbox, SmtpServer, SmtpTransport
from media.fax.page import Page, Quality
from media.fax.record import CRASHED, STORAGE_FAILED, FaxResult, PageQuality
from media.fax.spool import Folder, Spool, SpoolError
from media.fax.tables import FaxTables
from media.fax.work import pdf_of
from tests.unit.media.fax.rig import meta

pytestmark = pytest.mark.adapter
HOST = "127.0.0.1"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PAGE = Page(1728, 100, 8031, 7700, b"\x00\x10\x01", Quality(0, 0, 14400, True, 0, "MMR", "t38"))
Pool = asyncpg.Pool


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server of this module lives. Its user must be able to go there, also when the tests run as root."""
    place = tmp_path_factory.mktemp("postgres")
    for parent in (place, *place.parents):
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)
    return place / "data"


@pytest.fixture
async def pool(place: Path) -> "AsyncIterator[Pool[asyncpg.Record]]":
    """Connections to a server with our schema and no faxes."""
    async with EmbeddedPostgres(place) as server:
        connection = await asyncpg.connect(server.url)
        await migrate_up(connection)
        await connection.execute("TRUNCATE sip_edge.faxes CASCADE")
        await connection.close()
        async with asyncpg.create_pool(server.url, min_size=0, max_size=3) as pool:
            yield pool


class Documents:
    """Makes PDFs here and now."""

    async def make_pdf(self, folder: Folder, password: str | None) -> int:
        return pdf_of(folder, password)


class Post:
    """A mail server's will: raises what it was told to, else takes the mail."""

    def __init__(self) -> None:
        self.taken: list[EmailMessage] = []
        self.troubles: list[Exception] = []
        self.took = asyncio.Event()

    async def send(self, message: EmailMessage) -> None:
        if self.troubles:
            raise self.troubles.pop(0)
        self.taken.append(message)
        self.took.set()


class World:
    """An outbox with a clock of ours."""

    def __init__(self, path: Path, pool: "Pool[asyncpg.Record]") -> None:
        self.now = NOON
        self.pool = pool
        self.spool = Spool(path / "spool")
        self.tables = FaxTables(pool.acquire)
        self.post = Post()
        self.box = SecretBox(new_key())
        self.outbox = self.another()

    def another(self) -> Outbox:
        """An outbox as after a restart, or of another edge."""
        sender = "fax@edge.example"
        return Outbox(self.spool, self.tables, Documents(), self.post, self.box, sender, lambda: self.now)

    def folder(self, fax_id: str = "fax", pages: int = 2, code: int = 0, **fields: object) -> Folder:
        """A fax that is over."""
        folder = self.spool.create(meta(fax_id, **fields))
        for number in range(1, pages + 1):
            folder.store_page(number, PAGE)
        quality = PageQuality(100, 0, 0, 14400, True, 0, "MMR", "t38")
        folder.store_result(FaxResult(code, "text", pages, 1795370090.0, "t38", page_quality=(quality,) * pages))
        return folder

    async def mails(self, columns: str = "state, tries, last_error") -> list[tuple[object, ...]]:
        """Rows of fax_mails."""
        return [tuple(r) for r in await self.pool.fetch(f"SELECT {columns} FROM sip_edge.fax_mails ORDER BY fax")]


@pytest.fixture
def world(tmp_path: Path, pool: "Pool[asyncpg.Record]") -> World:
    return World(tmp_path, pool)


async def test_from_folder_to_mail(world: World) -> None:
    """The record is in the table as it was, the mail has the PDF, the folder is gone."""
    folder = world.folder(call_id="abc")
    result = await world.outbox.take(folder)
    assert result is not None and result.pages == 2
    assert not folder.path.exists()
    shown = await world.tables.shown("fax")
    assert shown is not None
    assert {k: shown[k] for k in ("account", "fax_box", "pages", "result", "transport", "call_id", "mail", "kept")} == {
        "account": "K1001", "fax_box": "office", "pages": 2, "result": "complete", "transport": "t38",
        "call_id": "abc", "mail": "queued", "kept": True,
    }  # fmt: skip
    assert await world.outbox.send_due() == 1
    (mail,) = world.post.taken
    (attached,) = mail.iter_attachments()
    with pikepdf.open(BytesIO(attached.get_content())) as pdf:
        assert len(pdf.pages) == 2
    assert await world.mails() == [("delivered", 1, None)]
    assert await world.outbox.send_due() == 0
    assert len(world.post.taken) == 1


async def test_a_password_locks_what_is_kept_too(world: World) -> None:
    """Neither the table nor the mail nor the disk has a plain image, or the password (T4.8, rule 4.7.36)."""
    folder = world.folder(sealed_password=world.box.seal("Grüße"))
    await world.outbox.take(folder)
    await world.outbox.send_due()
    content = await world.pool.fetchval("SELECT content FROM sip_edge.faxes WHERE encrypted")
    (mail,) = world.post.taken
    assert next(mail.iter_attachments()).get_content() == content
    assert PAGE.image not in content
    with pikepdf.open(BytesIO(content), password="Grüße") as pdf:
        assert len(pdf.pages) == 2
    assert "Grüße" not in mail.as_string()
    assert list(world.spool.path.iterdir()) == []


async def test_after_a_crash(world: World) -> None:
    """A folder without an end: its pages are delivered, marked incomplete, with the reason."""
    folder = world.spool.create(meta("fax"))
    folder.store_page(1, PAGE)
    folder.unlock()
    assert await world.outbox.take_unfinished() == 1
    assert await world.outbox.send_due() == 1
    (mail,) = world.post.taken
    assert mail["Subject"].startswith("Unvollständiges Fax") and len(list(mail.iter_attachments())) == 1
    assert await world.pool.fetchval("SELECT t30_code FROM sip_edge.faxes") == CRASHED


async def test_taking_may_be_repeated_at_any_point(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crash after the PDF, after the pages were deleted, after the rows: in the end one fax and one mail."""
    sealed = world.box.seal("x")
    for pages_gone, stored in ((False, False), (True, False), (True, True)):
        fax_id = f"fax-{pages_gone}-{stored}"
        folder = world.folder(fax_id, sealed_password=sealed)
        pdf_of(folder, "x" if pages_gone else None)
        if stored:
            pdf = folder.pdf()
            result = folder.result()
            assert result is not None
            await world.tables.store(folder.meta(), result, pdf, world.now)
        folder.unlock()
        assert await world.another().take_unfinished() == 1
    assert await world.outbox.send_due() == 3
    assert len(await world.mails()) == 3
    assert list(world.spool.path.iterdir()) == []


async def test_no_database_no_loss(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the database the folder stays, free for the next attempt, which succeeds."""
    folder = world.folder()
    with monkeypatch.context() as patch:
        patch.setattr(world.tables, "_acquire", lambda: (_ for _ in ()).throw(ConnectionRefusedError("no database")))
        assert await world.outbox.take(folder) is None
    assert folder.path.exists()
    assert await world.outbox.take_unfinished() == 1
    assert await world.outbox.send_due() == 1


async def test_a_document_that_cannot_be_made_now(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that makes PDFs dies, or the key is missing: nothing is mailed without its pages, nothing is lost."""

    async def dies(folder: Folder, password: str | None) -> int:
        raise FaxError("the process that made a document died; the log tells how")

    with monkeypatch.context() as patch:
        patch.setattr(Documents, "make_pdf", staticmethod(dies))
        assert await world.outbox.take(world.folder()) is None
    other = world.folder("sealed", sealed_password=SecretBox(new_key()).seal("x"))
    assert await world.outbox.take(other) is None
    assert await world.mails() == []
    assert await world.outbox.take_unfinished() == 1
    assert other.path.exists()


async def test_no_pages_is_a_notice(world: World) -> None:
    """No page: a record, a mail without attachment."""
    await world.outbox.take(world.folder(pages=0, code=49))
    assert await world.outbox.send_due() == 1
    assert list(world.post.taken[0].iter_attachments()) == []


async def test_a_sent_fax_is_recorded_and_not_mailed(world: World) -> None:
    """Direction out, the number it went to, no fax box, no mail."""
    await world.outbox.take(world.folder(called="+49228777", pages=0))
    row = await world.pool.fetchrow("SELECT direction, called, number, fax_box FROM sip_edge.faxes")
    assert row is not None and tuple(row) == ("out", "+49228777", "+4922838699", None)
    assert await world.mails() == []


async def test_delays_for_three_days(world: World) -> None:
    """Temporary failures: again after 1, 2, 5, 10, 20, 30, 60, 120 minutes, for at least two days; then failed."""
    await world.outbox.take(world.folder())
    waits = []
    while (due := await world.tables.next_due()) is not None:
        waits.append((due - world.now).total_seconds() / 60)
        world.now = max(due, world.now)
        world.post.troubles.append(MailDelayed("451 try later"))
        assert await world.outbox.send_due() == 0
    assert waits[:11] == [0, 1, 2, 5, 10, 20, 30, 60, 120, 120, 120]
    assert timedelta(days=2) < world.now - NOON < timedelta(days=4)
    ((state, tries, error),) = await world.mails()
    assert (state, tries) == ("failed", len(waits))
    assert error == "given up after 3 days: 451 try later"
    assert world.outbox.failed == 1


async def test_refused_for_good(world: World) -> None:
    """A permanent failure is not tried again; `resend` queues it anew, and then it goes."""
    await world.outbox.take(world.folder())
    world.post.troubles.append(MailRefused("550 no such user"))
    assert await world.outbox.send_due() == 0
    assert await world.mails() == [("failed", 1, "550 no such user")]
    assert await world.tables.next_due() is None
    assert await world.tables.resend("fax", world.now)
    assert await world.outbox.send_due() == 1
    assert await world.mails() == [("delivered", 1, None)]


async def test_purged_and_sent_again(world: World) -> None:
    """Documents go some days after their delivery; what is left is the record, and `resend` says no."""
    await world.outbox.take(world.folder())
    await world.outbox.send_due()
    purge = next(row.statement for row in ROWS if row.what == "fax-documents")
    assert await world.pool.execute(purge, NOON - timedelta(seconds=1)) == "UPDATE 0"
    assert await world.pool.execute(purge, NOON) == "UPDATE 1"
    assert not await world.tables.resend("fax", world.now)
    assert not await world.tables.resend("unknown", world.now)
    (listed,) = await world.tables.listed("K1001", NOON - timedelta(days=30))
    assert (listed["kept"], listed["mail"], listed["pages"]) == (False, "delivered", 2)


async def test_two_edges_send_one_mail(world: World) -> None:
    """A mail that one edge sends is left alone by the other; a claim of an edge that died ends after ten minutes."""
    for n in range(5):
        await world.outbox.take(world.folder(f"fax-{n}"))
    sent = await asyncio.gather(*(world.another().send_due() for _ in range(3)))
    assert sum(sent) == 5
    assert len({m["Message-ID"] for m in world.post.taken}) == 5
    await world.outbox.take(world.folder("claimed"))
    assert await world.tables.claim(world.now, world.now + timedelta(minutes=10), []) is not None
    assert await world.another().send_due() == 0
    world.now += timedelta(minutes=10)
    assert await world.another().send_due() == 1


async def test_never_twice_when_the_mark_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has it and the database is away: not sent again by us, however long that lasts, and marked later."""
    await world.outbox.take(world.folder())
    mark = world.tables.delivered

    async def away(fax_id: str, at: datetime) -> None:
        raise ConnectionResetError("database away")

    monkeypatch.setattr(world.tables, "delivered", away)
    with pytest.raises(ConnectionResetError):
        await world.outbox.send_due()
    world.now += timedelta(hours=1)
    with pytest.raises(ConnectionResetError):
        await world.outbox.send_due()
    monkeypatch.setattr(world.tables, "delivered", mark)
    assert await world.outbox.send_due() == 0
    assert len(world.post.taken) == 1
    assert await world.mails("state, delivered_at") == [("delivered", NOON)]


async def test_one_that_hangs_holds_up_no_other(world: World) -> None:
    """A server that says nothing to one mail; the next ones go all the same."""
    hanging = asyncio.Event()
    send = world.post.send

    async def hang(message: EmailMessage) -> None:
        if "slow" in message["Message-ID"]:
            hanging.set()
            await asyncio.Event().wait()
        await send(message)

    world.post.send = hang  # type: ignore[method-assign]
    await world.outbox.take(world.folder("slow"))
    running = asyncio.create_task(world.outbox.run())
    try:
        async with asyncio.timeout(20):
            await hanging.wait()
            await world.outbox.take(world.folder("next"))
            await world.post.took.wait()
    finally:
        running.cancel()
        await asyncio.wait({running})
    assert ["next" in mail["Message-ID"] for mail in world.post.taken] == [True]


async def test_the_end_is_remembered_where_the_disk_is_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the result nor the PDF finds room: the fax waits, and keeps its reason."""
    folder = world.spool.create(meta("full"))
    folder.store_page(1, PAGE)

    def no_room(self: Folder, pdf: bytes) -> None:
        raise SpoolError("fax.pdf could not be stored: No space left on device")

    quality = PageQuality(100, 0, 0, 14400, True, 0, "MMR", "t38")
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "store_pdf", no_room)
        known = FaxResult(STORAGE_FAILED, "text", 1, 1795370090.0, "t38", page_quality=(quality,))
        assert await world.outbox.take(folder, known) is None
    assert await world.outbox.take_unfinished() == 1
    assert await world.pool.fetchval("SELECT t30_code FROM sip_edge.faxes") == STORAGE_FAILED


async def test_the_loop(world: World) -> None:
    """`run` takes what a process before left, sends it, and wakes for the next."""
    folder = world.spool.create(meta("left"))
    folder.store_page(1, PAGE)
    folder.unlock()
    running = asyncio.create_task(world.outbox.run())
    try:
        async with asyncio.timeout(20):
            await world.post.took.wait()
            world.post.took.clear()
            await world.outbox.take(world.folder("next"))
            await world.post.took.wait()
    finally:
        running.cancel()
        await asyncio.wait({running})


# -- a real SMTP server ----------------------------------------------------------------------------------------------


class Handler:
    """Answers as told; keeps what it took."""

    def __init__(self, rcpt: str = "250 OK", data: str = "250 taken", mail: str = "250 OK") -> None:
        self.rcpt, self.data, self.mail = rcpt, data, mail
        self.taken: list[bytes] = []

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.mail.startswith("250"):
            envelope.mail_from = address
        return self.mail

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.rcpt.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        if self.data.startswith("250"):
            self.taken.append(envelope.content)
        if self.data == "hang up":
            assert server.transport is not None
            server.transport.close()
        return self.data


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def trust(ca: trustme.CA) -> Iterator[str]:
    with ca.cert_pem.tempfile() as name:
        yield name


@asynccontextmanager
async def smtp(handler: Handler, **options: object) -> AsyncIterator[int]:
    """The port of a server."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(handler, loop=loop, **options), HOST, 0)  # type: ignore[arg-type]
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


def message() -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"], made["Message-ID"] = "fax@edge.example", "a@b.example", "Fax", "<1@x>"
    made.set_content("Grüße")
    return made


def plain(port: int, timeout: float = 5.0) -> SmtpTransport:
    return SmtpTransport(SmtpServer(HOST, port, "none", timeout=timeout))


async def test_starttls_and_login(certificate: ssl.SSLContext, trust: str) -> None:
    """Encrypted before the password goes; the mail arrives as it was."""
    seen = []

    def login(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
        seen.append((session.ssl is not None, mechanism))
        good = getattr(data, "password", b"") == b"secret"
        return AuthResult(success=good, handled=good)

    handler = Handler()
    options = {"tls_context": certificate, "require_starttls": True, "authenticator": login, "auth_required": True}
    async with smtp(handler, **options) as port:
        server = SmtpServer(HOST, port, "starttls", "edge", "secret", trust, 5.0)
        await SmtpTransport(server).send(message())
        assert seen and all(encrypted for encrypted, _ in seen)
        with pytest.raises(MailDelayed, match="check smtp settings"):
            await SmtpTransport(replace(server, password="wrong")).send(message())
        with pytest.raises(MailDelayed, match=r"(?i)certificate"):
            await SmtpTransport(replace(server, ca_file=None)).send(message())
    assert len(handler.taken) == 1 and b"Message-ID: <1@x>" in handler.taken[0]
    assert "secret" not in repr(server)


async def test_starttls_that_is_not_there() -> None:
    """A server, or someone between, that hides STARTTLS gets nothing."""
    handler = Handler()
    async with smtp(handler) as port:
        with pytest.raises(MailDelayed, match="STARTTLS"):
            await SmtpTransport(SmtpServer(HOST, port, "starttls", "edge", "secret")).send(message())
    assert handler.taken == []


@pytest.mark.parametrize(
    ("handler", "verdict"),
    [
        (Handler(rcpt="550 no such user"), MailRefused),
        (Handler(rcpt="451 greylisted"), MailDelayed),
        (Handler(data="554 looks like spam"), MailRefused),
        (Handler(data="552 too large"), MailRefused),
        (Handler(data="452 disk full"), MailDelayed),
        (Handler(mail="550 who are you"), MailDelayed),
        (Handler(data="hang up"), MailDelayed),
        (Handler(data="yes, sure"), MailDelayed),
    ],
)
async def test_refusals(handler: Handler, verdict: type[Exception]) -> None:
    """5xx about the mail or its reader is for good; 4xx, hang-ups, nonsense and refusals of us are not."""
    async with smtp(handler) as port:
        with pytest.raises(verdict):
            await plain(port).send(message())


async def test_away_and_hanging() -> None:
    """No server, one that says nothing, one that says it is busy: delayed, in bounded time."""
    async with smtp(Handler()) as port:
        pass
    with pytest.raises(MailDelayed):
        await plain(port).send(message())
    silent: list[asyncio.StreamWriter] = []

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.append(writer)
        await reader.read()

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"421 too busy\r\n")
        writer.close()

    for serve in (hang, busy):
        server = await asyncio.start_server(serve, HOST, 0)
        with pytest.raises(MailDelayed):
            await plain(server.sockets[0].getsockname()[1], 0.3).send(message())
        for writer in silent:
            writer.close()
        server.close()
        await server.wait_closed()


async def test_all_follow_when_the_server_is_back(world: World) -> None:
    """What waits for a server that was away is due once it takes any mail; what it refused for now is not."""
    for n, trouble in enumerate((f"{NO_CONNECTION}: refused", f"{NO_CONNECTION}: refused", "451 later")):
        await world.outbox.take(world.folder(f"fax{n}"))
        world.post.troubles = [MailDelayed(trouble)]
        assert await world.outbox.send_due() == 0
    world.now += timedelta(seconds=10)
    await world.outbox.take(world.folder("fax3"))
    assert await world.outbox.send_due() == 3
    assert await world.mails("fax, state, tries") == [
        ("fax0", "delivered", 2), ("fax1", "delivered", 2), ("fax2", "queued", 1), ("fax3", "delivered", 1)
    ]  # fmt: skip
