"""The edge with fax boxes, carriers with fax machines, a PBX, and a mail server that keeps all."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path

import pypdfium2
from aiosmtpd.smtp import SMTP, Envelope, Session
from PIL import Image

from edge.sip.flow import Address
from media.fax.engine import FaxEngine, FaxOptions
from media.fax.spool import Spool
from peers.edge import Edge
from peers.fax_gateway import GatewayCarrier
from peers.fax_machine import FaxCall, FaxCarrier, Manner
from peers.ports import take_port, take_ports
from peers.sipp import Sipp
from peers.t38_gateway import T38Gateway
from tests.unit.media.fax.rig import picture, tiff

CARRIER = "127.0.0.41"
OTHER = "127.0.0.42"
SILENT = "127.0.0.44"
GATE = "127.0.0.45"
"""A carrier whose fax machines know G.711 alone; rtpengine makes T.38 of it."""
STRICT = "127.0.0.46"
"""A carrier that must have its media encrypted."""
CARELESS = "127.0.0.49"
"""One that must, and does not encrypt them."""
WIRE = "127.0.0.48"
"""A carrier that is SIPp."""
OFFICE = "127.0.0.47"
"""A PBX with a fax machine."""
CALLER = "+4922129191999"
BOX, LOCKED, SHY, PBX, DEAD = "+4922838699", "+4922838698", "+4922838697", "+4922838696", "+4922838695"
PASSWORD = "Grüße&Küsse"
FORWARDED = "+4922838694"
EXTENSION, SECRETIVE = "+4922838693", "+4922838692"
GATE_BOX, WIRE_BOX, CARELESS_BOX = "+4922838691", "+4922838690", "+4922838685"
HOUSE, HOUSE_PASSWORD = "K1-house", "Faxgeraet-im-Keller"
DIFFICULT = {"refused": "+4922838681", "busy": "+4922838682", "gone": "+4922838683", "silent": "+4922838684"}
"""Boxes by how the mail server is to their mails: for good, for now, hangs up after all was said, says nothing."""
PICTURES = [picture(1, rows=400, marks=20), picture(2, rows=400, marks=20)]


class Mailbox:
    """A mail server that takes everything, except where it was told to be difficult: see DIFFICULT."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self._came = asyncio.Condition()
        self.difficult = True

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        who = address.partition("@")[0]
        if self.difficult and who == "refused":
            return "550 5.1.1 no such mailbox"
        if self.difficult and who == "busy":
            return "451 4.3.0 come back later"
        envelope.rcpt_tos.append(address)
        return "250 go on"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        who = envelope.rcpt_tos[0].partition("@")[0]
        if self.difficult and who == "silent":
            await asyncio.sleep(3600)
        if self.difficult and who == "gone":
            assert server.transport is not None
            server.transport.close()
            return "421 never seen"
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        async with self._came:
            self.mails.append(message)
            self._came.notify_all()
        return "250 taken"

    async def of(self, fax: str, seconds: float = 20.0, count: int = 1) -> EmailMessage:
        """The newest mail of a fax, when `count` are there and no more."""

        def found() -> list[EmailMessage]:
            return [mail for mail in self.mails if fax in mail["Message-ID"]]

        async with asyncio.timeout(seconds), self._came:
            await self._came.wait_for(lambda: len(found()) >= count)
        assert len(found()) == count, "a fax was mailed twice"
        return found()[-1]


class MailServer:
    """The port behind which the mailbox is. It can be closed, and opened so that nobody ever says a word there."""

    def __init__(self, port: int) -> None:
        self.mailbox = Mailbox()
        self._port = port
        self._server: asyncio.Server | None = None
        self.visited = asyncio.Event()
        """Somebody connected while nobody spoke."""

    async def open(self, *, dumb: bool = False) -> None:
        """Take connections; `dumb`: without a greeting."""
        await self.close()
        loop = asyncio.get_running_loop()
        self.visited.clear()
        made = (lambda: _Dumb(self.visited)) if dumb else (lambda: SMTP(self.mailbox, loop=loop))
        self._server = await loop.create_server(made, "127.0.0.1", self._port)

    async def close(self) -> None:
        """Take none: who comes is refused."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()


class _Dumb(asyncio.Protocol):
    def __init__(self, visited: asyncio.Event) -> None:
        self._visited = visited

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._visited.set()


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
        self.silent_port = take_port()
        self.gate_port = take_port()
        self.strict_port = take_port()
        self.careless_port = take_port()
        self.office_port = take_port()
        self.wire_port = take_port()
        self.edge = Edge(
            folder / "edge",
            media_ports=400,
            settings={
                "smtp_host": "127.0.0.1",
                "smtp_port": self.smtp_port,
                "smtp_tls": "none",
                "srtp_without_tls": True,
                "fax_sender": "fax@edge.example",
            },
        )
        self.edge.start()
        self.edge.provision(document(self))


def document(world: World) -> dict[str, object]:
    """The provisioning."""

    def carrier(name: str, host: str, port: int, t38: str, **more: object) -> dict[str, object]:
        return {
            **more,
            "name": name,
            "mode": "static",
            "domain": f"{name}.example",
            "outbound_proxy": f"sip:{host}:{port};transport=udp",
            "sources": [host],
            "t38": t38,
            "priority": 10 if name == "pstn" else 20,
        }

    def number(e164: str, carrier: str, **route: object) -> dict[str, object]:
        return {"number": e164, "account": "K1", "carrier": carrier, "channels": 80, **route}

    box = {"account": "K1", "email": "office@kunde.example"}
    return {
        "version": 1,
        "carriers": [
            carrier("pstn", CARRIER, world.sip_port, "offer"),
            carrier("shy", OTHER, world.other_port, "off"),
            carrier("silent", SILENT, world.silent_port, "offer"),
            carrier("gate", GATE, world.gate_port, "offer"),
            carrier("wire", WIRE, world.wire_port, "offer"),
            carrier("strict", STRICT, world.strict_port, "offer", srtp="required"),
            carrier("careless", CARELESS, world.careless_port, "offer", srtp="required"),
        ],
        "accounts": [
            {
                "id": "K1",
                "name": "Kunde",
                "status": "active",
                "country": "DE",
                "area_code": "228",
                "parallel_calls": 200,
            }
        ],
        "trunks": [
            {"account": "K1", "name": "pbx", "mode": "static", "sources": ["127.0.0.43"], "default_number": PBX},
            {
                "account": "K1",
                "name": "house",
                "username": HOUSE,
                "password": HOUSE_PASSWORD,
                "default_number": EXTENSION,
            },
        ],
        "fax_boxes": [
            {**box, "name": "office", "station_id": "+49 228 38699"},
            {**box, "name": "locked", "pdf_password": PASSWORD},
            *({**box, "name": name, "email": f"{name}@kunde.example"} for name in DIFFICULT),
        ],
        "numbers": [
            number(BOX, "pstn", route={"fax": "office"}),
            number(LOCKED, "pstn", route={"fax": "locked"}),
            number(SHY, "shy", route={"fax": "office"}),
            number(FORWARDED, "pstn", route={"forward": "+4930999888"}),
            number(DEAD, "silent", route={"fax": "office"}),
            number(EXTENSION, "gate", route={"trunk": "house"}),
            number(SECRETIVE, "strict", route={"fax": "office"}),
            *(number(e164, "pstn", route={"fax": name}) for name, e164 in DIFFICULT.items()),
            number(CARELESS_BOX, "careless", route={"fax": "office"}),
            number(WIRE_BOX, "wire", route={"fax": "office"}),
            number(GATE_BOX, "gate", route={"fax": "office"}),
            number(PBX, "pstn", route={"trunk": "pbx"}, on_unreachable={"fax": "office"}),
        ],
    }


class Far:
    """All that is not the edge, for one test."""

    def __init__(self, world: World, engine: FaxEngine, gateway: T38Gateway, post: MailServer, folder: Path) -> None:
        self.world = world
        self.post = post
        self.carrier = FaxCarrier(CARRIER, world.sip_port, engine)
        self.other = FaxCarrier(OTHER, world.other_port, engine)
        self.silent = FaxCarrier(SILENT, world.silent_port, engine)
        self.gate = GatewayCarrier(GATE, world.gate_port, engine, gateway)
        self.strict = GatewayCarrier(STRICT, world.strict_port, engine, gateway, "RTP/SAVP")
        self.careless = FaxCarrier(CARELESS, world.careless_port, engine)
        self.office = FaxCarrier(OFFICE, world.office_port, engine)
        self.all = (self.carrier, self.other, self.silent, self.gate, self.strict, self.careless, self.office)
        self.folder = folder
        self.mailbox = post.mailbox
        self.document = tiff(folder / "document.tif", PICTURES)

    async def send(
        self,
        number: str,
        manner: Manner,
        carrier: FaxCarrier | None = None,
        caller: str = CALLER,
        document: Path | None = None,
    ) -> FaxCall:
        edge = self.world.edge
        return await (carrier or self.carrier).send(
            Address(edge.address, edge.port), number, caller, document or self.document, manner
        )

    async def id_of(self, call: FaxCall | str) -> str:
        """The id of a fax at the edge: that of its call (or of a Call-ID), live or on record."""
        call_id = call if isinstance(call, str) else call.leg.call_id
        return str((await self._ask(f"/why/{call_id}"))["id"])

    async def record_of(self, call: FaxCall) -> dict[str, object]:
        """The fax's row, when it is over and stored."""
        return await self.row(await self.id_of(call))

    async def row(self, fax: str, wanted: Callable[[dict[str, object]], bool] = lambda row: True) -> dict[str, object]:
        """The row of a fax, when it is over and stored, and as wanted."""
        async with asyncio.timeout(20):
            while True:
                row = await self._ask(f"/faxes/{fax}")
                if row["result"] != "running" and wanted(row):
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
    post = MailServer(world.smtp_port)
    await post.open()
    first = take_ports(240)
    engine = FaxEngine(Spool(folder / "far"), FaxOptions("127.0.0.1", (first, first + 239)))
    await engine.start()
    gateway = T38Gateway(folder)
    await asyncio.to_thread(register_office, world, folder)
    far = Far(world, engine, gateway, post, folder)
    for one in far.all:
        await one.start()
    try:
        yield far
    finally:
        await engine.stop()
        for one in far.all:
            await one.stop()
        gateway.stop()
        await post.close()


def register_office(world: World, folder: Path) -> None:
    """The PBX registers; who answers at its contact is another."""
    Sipp(
        "register",
        folder / "sipp",
        remote=f"{world.edge.address}:{world.edge.port}",
        username=HOUSE,
        password=HOUSE_PASSWORD,
        address=OFFICE,
        port=world.office_port,
    ).wait()
