"""An edge without libspandsp: calls go on, faxes are refused with the reason."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from config.model import FaxBox, Rows
from config.secrets import SecretBox, new_key
from config.snapshot import Snapshot
from edge.b2bua.calls import Calls
from edge.fax.desk import CannotSend, FaxDesk
from media.fax.engine import FaxEngine, FaxError
from media.fax.outbox import Outbox
from media.fax.spool import Spool
from media.fax.tables import FaxTables


class Broken:
    """An engine that cannot start."""

    def __init__(self, path: Path) -> None:
        self.spool = Spool(path)
        self.starts = 0

    async def start(self) -> None:
        self.starts += 1
        raise FaxError("the fax nursery did not start: libspandsp.so.2: cannot open shared object file")


class Idle:
    """An outbox with nothing to do."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self) -> None:
        self.runs += 1
        await asyncio.Event().wait()


@pytest.fixture
def desk_of(tmp_path: Path) -> Callable[[Broken, Idle], FaxDesk]:
    def make(engine: Broken, outbox: Idle) -> FaxDesk:
        rest = cast(Any, SimpleNamespace(calls=Calls()))
        return FaxDesk(
            rest,
            cast(FaxEngine, engine),
            cast(Outbox, outbox),
            cast(FaxTables, None),
            SecretBox(new_key()),
            "127.0.0.1",
            "127.0.0.1",
        )

    return make


async def test_without_the_library(desk_of: Callable[[Broken, Idle], FaxDesk], tmp_path: Path) -> None:
    """The reason reaches who calls a fax box and who sends; the outbox works on."""
    engine, outbox = Broken(tmp_path / "fax"), Idle()
    desk = desk_of(engine, outbox)
    desk.start()
    desk.apply(Snapshot(Rows(fax_boxes=(FaxBox("K1", "office", "a@b.example"),))))
    with pytest.raises(FaxError, match="libspandsp"):
        await desk.fax_engine()
    with pytest.raises(CannotSend, match="libspandsp"):
        await desk.send("K1", "+4922838699", "+4930999", b"%PDF")
    desk.draining = True
    with pytest.raises(CannotSend, match="no new calls"):
        await desk.send("K1", "+4922838699", "+4930999", b"%PDF")
    assert engine.starts == outbox.runs == 1
    await desk.stop()


async def test_nothing_is_started_for_nobody(desk_of: Callable[[Broken, Idle], FaxDesk], tmp_path: Path) -> None:
    """Without a fax box and with an empty spool there is no process; a fax in the spool starts it."""
    engine, outbox = Broken(tmp_path / "fax"), Idle()
    desk = desk_of(engine, outbox)
    desk.start()
    desk.apply(Snapshot(Rows()))
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert engine.starts == 0
    await desk.stop()
    (tmp_path / "fax" / "left").mkdir(parents=True)
    again = desk_of(engine, outbox)
    again.start()
    with pytest.raises(FaxError):
        await again.fax_engine()
    assert engine.starts == 1
    await again.stop()
