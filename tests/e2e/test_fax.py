"""Faxes through the running daemon, over real SIP, with spandsp as the far end and a mail server that keeps what it gets.

All ways of agreeing on T.38, or not, run at the same time, as they would on a busy edge (domain rules 4.1, 4.2).
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path

import pypdfium2
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from peers.edge import Edge
from peers.fax_machine import FaxCall, FaxCarrier, Manner, ended
from peers.fixtures import artifacts, keep
from peers.ports import take_port, take_ports
from PIL import Image

from edge.sip.flow import Address
from media.fax.engine import FaxEngine, FaxOptions
from media.fax.spool import Spool
from tests.unit.media.fax.rig import picture, same, tiff

pytestmark = [pytest.mark.phones, pytest.mark.timeout(180)]

CARRIER = "127.0.0.41"
OTHER = "127.0.0.42"
CALLER = "+4922129191999"
BOX, LOCKED, SHY, PBX = "+4922838699", "+4922838698", "+4922838697", "+4922838696"
PASSWORD = "Grüße&Küsse"
PICTURES = [picture(1, rows=600, marks=40), picture(2, rows=600, marks=40)]


class Mailbox:
    """A mail server that takes everything."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self._came = asyncio.Condition()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        async with self._came:
            self.mails.append(message)
            self._came.notify_all()
        return "250 taken"

    async def of(self, fax: str, seconds: float = 20.0) -> EmailMessage:
        """The mail of a fax, when it is there."""

        def found() -> list[EmailMessage]:
            return [mail for mail in self.mails if fax in mail["Message-ID"]]

        async with asyncio.timeout(seconds), self._came:
            await self._came.wait_for(lambda: bool(found()))
        (mail,) = found()
        return mail


def pages(mail: EmailMessage, password: str | None = None) -> list[Image.Image]:
    """The pages of the PDF in a mail."""
    (attachment,) = mail.iter_attachments()
    document = pypdfium2.PdfDocument(attachment.get_content(), password=password)
    found = []
    for page in document:
        (item,) = page.get_objects()
        found.append(item.get_bitmap().to_pil().convert("1"))
        page.close()
    document.close()
    return found


class World:
    """The edge with its fax boxes, and ports for the others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.smtp_port = take_port()
        self.sip_port = take_port()
        self.other_port = take_port()
        self.edge = Edge(
            folder / "edge",
            settings={
                "smtp_host": "127.0.0.1",
                "smtp_port": self.smtp_port,
                "smtp_tls": "none",
                "fax_sender": "fax@edge.example",
            },
        )
        self.edge.start()
        self.edge.provision(document(self))


def document(world: World) -> dict[str, object]:
    """The provisioning."""

    def carrier(name: str, host: str, port: int, t38: str) -> dict[str, object]:
        return {
            "name": name,
            "mode": "static",
            "domain": f"{name}.example",
            "outbound_proxy": f"sip:{host}:{port};transport=udp",
            "sources": [host],
            "t38": t38,
        }

    def number(e164: str, carrier: str, **route: object) -> dict[str, object]:
        return {"number": e164, "account": "K1", "carrier": carrier, "channels": 20, **route}

    box = {"account": "K1", "email": "office@kunde.example"}
    return {
        "version": 1,
        "carriers": [
            carrier("pstn", CARRIER, world.sip_port, "offer"),
            carrier("shy", OTHER, world.other_port, "off"),
        ],
        "accounts": [
            {"id": "K1", "name": "Kunde", "status": "active", "country": "DE", "area_code": "228", "parallel_calls": 50}
        ],
        "trunks": [
            {"account": "K1", "name": "pbx", "mode": "static", "sources": ["127.0.0.43"], "default_number": PBX}
        ],
        "fax_boxes": [
            {**box, "name": "office", "station_id": "+49 228 38699"},
            {**box, "name": "locked", "pdf_password": PASSWORD},
        ],
        "numbers": [
            number(BOX, "pstn", route={"fax": "office"}),
            number(LOCKED, "pstn", route={"fax": "locked"}),
            number(SHY, "shy", route={"fax": "office"}),
            number(PBX, "pstn", route={"trunk": "pbx"}, on_unreachable={"fax": "office"}),
        ],
    }


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The edge, for this module."""
    with artifacts(request) as folder:
        world = World(folder)
        try:
            yield world
            world.edge.stop()
        finally:
            world.edge.discard()


class Far:
    """All that is not the edge, for one test."""

    def __init__(self, world: World, carrier: FaxCarrier, other: FaxCarrier, mailbox: Mailbox, folder: Path) -> None:
        self.world = world
        self.carrier = carrier
        self.other = other
        self.mailbox = mailbox
        self.document = tiff(folder / "document.tif", PICTURES)
        self._callers = 0

    async def send(self, number: str, manner: Manner, carrier: FaxCarrier | None = None) -> FaxCall:
        edge = self.world.edge
        return await (carrier or self.carrier).send(
            Address(edge.address, edge.port), number, CALLER, self.document, manner
        )

    async def id_of(self, call: FaxCall) -> str:
        """The id of a fax at the edge: that of its call, live or on record."""
        return str((await self._ask(f"/why/{call.leg.call_id}"))["id"])

    async def record_of(self, call: FaxCall) -> dict[str, object]:
        """The fax's row, when it is over and stored."""
        async with asyncio.timeout(20):
            while True:
                row = await self._ask(f"/faxes/{await self.id_of(call)}")
                if row["result"] != "running":
                    return row
                await asyncio.sleep(0.1)

    async def mail_of(self, call: FaxCall, **want: object) -> EmailMessage:
        """The mail of a fax; its record has what is wanted."""
        row = await self.record_of(call)
        assert {key: row[key] for key in want} == want, (row, call.said)
        return await self.mailbox.of(str(row["id"]))

    async def _ask(self, path: str) -> dict[str, object]:
        """An object of the admin HTTP; records take a moment until they are there."""
        for _ in range(100):
            status, body = await asyncio.to_thread(self.world.edge.get, path)
            if status == 200:
                found: dict[str, object] = json.loads(body)
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(body)


@asynccontextmanager
async def far_side(world: World, folder: Path) -> AsyncIterator[Far]:
    """Carriers with fax machines, and a mail server."""
    loop = asyncio.get_running_loop()
    mailbox = Mailbox()
    server = await loop.create_server(lambda: SMTP(mailbox, loop=loop), "127.0.0.1", world.smtp_port)
    first = take_ports(120)
    engine = FaxEngine(Spool(folder / "far"), FaxOptions("127.0.0.1", (first, first + 119)))
    await engine.start()
    carrier = FaxCarrier(CARRIER, world.sip_port, engine)
    other = FaxCarrier(OTHER, world.other_port, engine)
    await carrier.start()
    await other.start()
    try:
        yield Far(world, carrier, other, mailbox, folder)
    finally:
        await engine.stop()
        await carrier.stop()
        await other.stop()
        server.close()
        await server.wait_closed()


@pytest.fixture
async def far(request: pytest.FixtureRequest, world: World, folder: Path) -> AsyncIterator[Far]:
    """See far_side; at the end of a test the edge is at rest."""
    mark = world.edge.mark
    async with far_side(world, folder) as far:
        yield far
    try:
        await asyncio.to_thread(world.edge.assert_at_rest, mark)
    except AssertionError:
        keep(request.node)
        raise


WAYS = {
    "our re-INVITE": Manner(),
    "refused": Manner(to_t38=(488,)),
    "415, then G.711 again": Manner(to_t38=(415,), then_audio=True),
    "200 with port 0": Manner(to_t38=(0,)),
    "491 first": Manner(to_t38=(491, 200)),
    "late 200": Manner(wait=6.5),
    "its own re-INVITE": Manner(own=0.3, to_t38=(491,)),
    "image at once": Manner(first="image"),
    "audio and image at once": Manner(first="both"),
    "refresh in T.38": Manner(refresh=True),
}
OVER_G711 = {"refused": "t38-refused", "415, then G.711 again": "t38-refused", "200 with port 0": "t38-refused"}


async def test_every_way_to_agree(far: Far) -> None:
    """Ten faxes at once, each with another far end: all arrive whole, over T.38 wherever both sides can.

    Refusals are followed by G.711, glare by a second offer, a late 200 is obeyed, a refresh leaves the media alone."""
    calls = {name: await far.send(BOX, manner) for name, manner in WAYS.items()}
    locked = await far.send(LOCKED, Manner())
    shy = await far.send(SHY, Manner(), far.other)
    next_route = await far.send(PBX, Manner())
    for name, call in calls.items():
        result = await ended(call)
        assert (result.code, result.pages) == (0, 2), (name, call.said, result)
        mail = await far.mail_of(
            call, transport=OVER_G711.get(name, "t38"), result="complete", pages=2, t30_code=0, poor_quality=False
        )
        assert all(same(a, b) for a, b in zip(pages(mail), PICTURES, strict=True)), name
        assert CALLER in mail["Subject"] and "2 Seiten" in mail["Subject"]
    assert [s for s in calls["491 first"].said if s == "offered image"] == ["offered image"] * 2
    assert b"m=audio 0" in calls["audio and image at once"].answers[0]
    refreshed = calls["refresh in T.38"]
    assert refreshed.answers[-1] in [*refreshed.answers[:-1], *refreshed.offers], "the refresh was answered differently"
    # others, at the same time
    assert (await ended(locked)).code == 0
    mail = await far.mail_of(locked, encrypted=True, result="complete")
    with pytest.raises(pypdfium2.PdfiumError):
        pages(mail)
    assert all(same(a, b) for a, b in zip(pages(mail, PASSWORD), PICTURES, strict=True))
    assert (await ended(shy)).code == 0
    await far.mail_of(shy, transport="g711", result="complete")
    assert shy.offers == [], "T.38 was offered to a carrier that has it off"
    assert (await ended(next_route)).code == 0
    await far.mail_of(next_route, fax_box="office", result="complete", number=PBX)
