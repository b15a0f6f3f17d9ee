"""Two fax machines on a line of ours: in memory, faster than real time, with losses as a test wants them."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw

from media.fax.events import FaxEvent, PageStored
from media.fax.jitter import JitterBuffer, Rtp
from media.fax.record import FaxMeta
from media.fax.spool import Folder, Spool
from media.fax.station import Machine, Station
from media.fax.udptl import Receiver, Sender

TICK = 0.02
LONGEST = 900.0


def meta(fax_id: str = "fax", **more: object) -> FaxMeta:
    """A fax's beginnings."""
    fields: dict[str, object] = {
        "id": fax_id, "account": "K1001", "fax_box": "office", "number": "+4922838699",
        "email": "fax@beispiel.example", "started_at": 1795370000.0, "caller": "+4922129191999",
    }  # fmt: skip
    return FaxMeta(**{**fields, **more})  # type: ignore[arg-type]


def picture(seed: int, rows: int = 1100, width: int = 1728, marks: int = 120) -> Image.Image:
    """A page with marks all over it; each seed another."""
    image = Image.new("1", (width, rows), 1)
    draw = ImageDraw.Draw(image)
    chance = random.Random(seed)
    for _ in range(marks):
        x, y = chance.randrange(width), chance.randrange(rows)
        draw.rectangle([x, y, x + chance.randrange(80), y + chance.randrange(30)], fill=0)
    return image


def tiff(path: Path, pictures: list[Image.Image], dpi: tuple[int, int] = (204, 196)) -> Path:
    """The pictures as a TIFF that can be sent."""
    first, *rest = pictures
    first.save(path, save_all=True, append_images=rest, compression="group4", dpi=dpi)
    return path


def same(one: Image.Image, other: Image.Image) -> bool:
    """Whether every pixel is the same."""
    return one.size == other.size and not ImageChops.difference(one.convert("L"), other.convert("L")).getbbox()


def received(folder: Folder) -> list[Image.Image]:
    """The stored pages, as another library reads their files."""
    pages = []
    for name in folder.page_names():
        with Image.open(folder.path / name) as image:
            pages.append(image.copy())
    return pages


@dataclass
class Line:
    """What happens to packets: lost, doubled or held back until the next tick, each by chance, from one seed."""

    loss: float = 0.0
    double: float = 0.0
    reorder: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._late: list[bytes] = []

    def carry(self, packets: list[bytes]) -> list[bytes]:
        """The packets that arrive, in the order in which they do."""
        arrived = []
        # What was held back comes behind the first packet of the next tick, or alone.
        late, self._late = self._late, []
        for packet in packets:
            if self._chance.random() < self.loss:
                continue
            if self._chance.random() < self.reorder:
                self._late.append(packet)
                continue
            arrived.append(packet)
            arrived += late
            late = []
            if self._chance.random() < self.double:
                arrived.append(packet)
        return arrived + late


class Call:
    """A sender and a receiver. `rx` and `tx` are the stations, `folder` is the receiver's."""

    def __init__(
        self, path: Path, document: Path, receiver: Machine | None = None, sender: Machine | None = None
    ) -> None:
        spool = Spool(path / "spool")
        self.folder = spool.create(meta("rx"))
        self.events: list[FaxEvent] = []
        self.confirmed = 0
        self.now = 0.0
        self.rx = Station(receiver or Machine("+49 228 38699"), self.folder, self.events.append)
        machine = sender or Machine("+49 221 29191999", str(document))
        self.tx = Station(machine, spool.create(meta("tx")), self._on_sent)

    def _on_sent(self, event: FaxEvent) -> None:
        if isinstance(event, PageStored):
            self.confirmed = event.number

    @property
    def done(self) -> bool:
        """Whether both ends are."""
        return self.rx.done and self.tx.done

    def audio(self, line: Line | None = None, until: float = LONGEST, start: bool = True) -> None:
        """Over G.711 until both are done, or until a time."""
        line = line or Line()
        if start:
            self.rx.start_audio(True)
            self.tx.start_audio(True)
        while not self.done and self.now < until:
            to_tx, to_rx = self.rx.speak(), self.tx.speak()
            self.tx.hear(next(iter(line.carry([to_tx])), None))
            self.rx.hear(next(iter(line.carry([to_rx])), None))
            self.now += TICK

    def rtp(self, line: Line) -> None:
        """Over G.711 in packets with numbers, through our jitter buffers, until both are done."""
        ways = [(self.rx, self.tx, JitterBuffer(True), line), (self.tx, self.rx, JitterBuffer(True), replace(line))]
        ways[1][3].__post_init__()
        self.rx.start_audio(True)
        self.tx.start_audio(True)
        tick = 0
        while not self.done and self.now < LONGEST:
            spoken = [one.speak() for one, *_ in ways]
            for (_, other, buffer, way), payload in zip(ways, spoken, strict=True):
                for packet in way.carry([tick.to_bytes(4, "big") + payload]):
                    buffer.put(Rtp(8, int.from_bytes(packet[:4], "big") * 160, 1, packet[4:]))
                other.hear(buffer.take())
            tick += 1
            self.now += TICK

    def t38(
        self,
        line: Line | None = None,
        until: float = LONGEST,
        redundancy: int = 3,
        fec: bool = False,
        max_datagram: int = 400,
        start: bool = True,
        each: Callable[[], None] | None = None,
    ) -> None:
        """Over UDPTL until both are done, or until a time. `each` is called every tick."""
        line = line or Line()
        if start:
            self._to_rx: list[bytes] = []
            self._to_tx: list[bytes] = []
            self._receivers = Receiver(), Receiver()
            self._lines = line, replace(line, seed=line.seed + 100)
            for station, way in ((self.rx, self._to_tx), (self.tx, self._to_rx)):
                station.start_t38(_packer(Sender(max_datagram, redundancy, fec), way))
        while not self.done and self.now < until:
            self.rx.tick()
            self.tx.tick()
            for station, receiver, way, one in zip(
                (self.rx, self.tx), self._receivers, (self._to_rx, self._to_tx), self._lines, strict=True
            ):
                packets = one.carry(way)
                way.clear()
                for packet in packets:
                    for sequence, ifp in receiver.receive(packet, self.now):
                        station.hear_ifp(sequence, ifp)
                for sequence, ifp in receiver.flush(self.now):
                    station.hear_ifp(sequence, ifp)
            self.now += TICK
            if each:
                each()


def _packer(sender: Sender, way: list[bytes]) -> Callable[[bytes, int], None]:
    def send(ifp: bytes, times: int) -> None:
        packet = sender.pack(ifp)
        assert len(packet) <= 400
        way.extend([packet] * times)

    return send
