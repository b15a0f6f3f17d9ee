"""Dialogs that are over, in the journal: what is written of them, how long, and what another process makes of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edge.b2bua import parted
from edge.b2bua.calls import LINGER, Calls
from edge.b2bua.journal import PARTED, Journal
from edge.b2bua.leg import Leg
from edge.b2bua.reload import LiveWires, read_journal
from edge.journal.file import JournalFile, read
from edge.sip.dialog.dialog import Dialog
from edge.sip.message import Request
from edge.sip.parse import parse_message
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId
from edge.sip.transaction.model import State
from edge.sip.transaction.saved import SavedTransaction
from edge.transport.timers import Timers
from tests.unit.b2bua.fake_port import FLOW, FakePort


class Clock:
    at = 100.0

    def now(self) -> float:
        return self.at

    def utcnow(self) -> datetime:
        return datetime(2026, 11, 24, 12, tzinfo=UTC)


class Wires:
    """Transactions that are told what to be."""

    def __init__(self) -> None:
        self.adopted: list[tuple[TransactionId, Any]] = []
        self.restored: list[tuple[SavedTransaction, Request]] = []

    def save(self, tx: TransactionId) -> None:
        return None

    def save_client(self, request: Request) -> tuple[SavedTransaction, None]:
        return SavedTransaction("z9hG4bK1", request.method, State.TRYING, FLOW), None

    def restore(self, saved: SavedTransaction, request: Request) -> TransactionId:
        self.restored.append((saved, request))
        return TransactionId("again")

    def adopt(self, tx: TransactionId, handler: Any, *, answered: bool) -> None:
        self.adopted.append((tx, handler))


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = Calls()
        self.clock = Clock()
        self.port = FakePort()
        self.wires = Wires()
        self.journal = Journal(
            JournalFile(folder), self.calls, cast(Any, self.wires), lambda call_id: [], cast(Any, self.clock), "boot"
        )

    def leg(self) -> Leg:
        """One that is up."""
        leg = Leg("a", self.port, FLOW, lambda leg_id, event: None, TimerConfig())
        leg.local_tag, leg.call_id = "ours", "c1"
        leg.dialog = Dialog(
            call_id="c1", local="<sip:us@x>;tag=ours", local_tag="ours", local_cseq=1, remote="<sip:them@y>;tag=theirs",
            remote_tag="theirs", remote_cseq=1, remote_target="sip:them@y", routes=[],
        )  # fmt: skip
        self.calls.add_leg(leg)
        return leg

    def found(self) -> dict[str, parted.SavedParted]:
        return read_journal(self.folder, cast(Any, self.clock), "boot").parted

    def written(self) -> int:
        return sum(frame.kind == PARTED for frame in read(self.folder))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "journal")


def bye(leg: str = "ours", cseq: int = 2, tag: str = "theirs") -> Request:
    request = parse_message(
        f"BYE sip:us@x SIP/2.0\r\nVia: SIP/2.0/UDP y;branch=z9hG4bK{cseq}\r\nFrom: <sip:them@y>;tag={tag}\r\n"
        f"To: <sip:us@x>;tag={leg}\r\nCall-ID: c1\r\nCSeq: {cseq} BYE\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert isinstance(request, Request)
    return request


def revived(world: World) -> tuple[Calls, FakePort, Wires]:
    """What another process makes of the journal."""
    calls, port, wires = Calls(), FakePort(), Wires()
    engine = SimpleNamespace(port=port, timers=TimerConfig(), calls=calls, driver=world.clock)
    for tag, saved in world.found().items():
        parted.restore(tag, saved, cast(Any, engine), cast(Any, wires), 0.0)
    return calls, port, wires


async def test_a_bye_that_comes_again_is_answered(world: World) -> None:
    """Within 32 s, in its dialog, and nothing else is; then it is forgotten."""
    world.journal.attach()
    leg = world.leg()
    leg.on_request(TransactionId("t"), bye(), FLOW)
    world.calls.retire(leg, world.clock.at)
    world.journal.flush()
    calls, port, _ = revived(world)
    again = calls.leg(bye())
    assert again is not None
    again.on_request(TransactionId("t1"), bye(), FLOW)
    again.on_request(TransactionId("t2"), bye(tag="another"), FLOW)
    assert [response.status for _, response in port.responses] == [200, 481]
    world.clock.at += LINGER
    assert world.found() == {}
    world.journal._begin_segment()
    world.journal.flush()
    assert world.written() == 0
    world.journal.close()


async def test_our_bye_goes_on_until_it_is_answered(world: World) -> None:
    """It is written with its transaction while nobody has answered, without once somebody has, in each segment."""
    world.journal.attach()
    leg = world.leg()
    leg.release(16)
    world.calls.retire(leg, world.clock.at)
    world.journal.flush()
    _, _, wires = revived(world)
    ((saved, request),) = wires.restored
    assert saved.state is State.TRYING and request.method == "BYE"
    ((_, handler),) = wires.adopted
    handler.on_no_response(TransactionId("again"))
    world.journal._begin_segment()
    world.journal.flush()
    assert world.found()["ours"].leg is not None
    tx, _, quiet = world.port.requests[-1]
    quiet.on_no_response(tx)
    world.journal._beat()
    world.journal.flush()
    assert world.found()["ours"].leg is None
    assert revived(world)[2].restored == []
    world.journal.close()


async def test_a_timer_that_is_due_at_once_can_be_written() -> None:
    """uvloop gives no timer for a delay of 0, as after a restart at which a session refresh is overdue; ours is one."""
    timer = Timers().later(0.0, lambda: None)
    assert LiveWires(cast(Any, None), cast(Any, None)).left(timer) == pytest.approx(0.0, abs=0.1)
