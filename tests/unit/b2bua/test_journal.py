"""The journal of live calls: what it writes when, that a new segment has all, and that a full disk only pauses it."""

from __future__ import annotations

import asyncio
import errno
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dialplan.model import Trace
from edge.b2bua import journal as journal_module
from edge.b2bua import saved_runner
from edge.b2bua.calls import Calls
from edge.b2bua.journal import BEHIND, RECORD, ROUTE, STATE, Journal
from edge.b2bua.reload import read_journal
from edge.journal.file import Frame, JournalFile, read
from edge.journal.values import encode

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Clock:
    at = 100.0

    def now(self) -> float:
        return self.at

    def utcnow(self) -> datetime:
        return NOW


class World:
    """A journal of calls that are nothing but an id, a plan and a number that is their state."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(saved_runner, "route", lambda call: encode({"plan": id(call.plan)}))
        monkeypatch.setattr(saved_runner, "names", lambda: b"{}")
        head = b"[true,[],[],null,[]]\n"
        monkeypatch.setattr(saved_runner, "state", lambda call, wires, held, now: head + encode({"state": call.state}))
        self.folder = folder
        self.calls = Calls()
        self.file = JournalFile(folder)
        self.journal = Journal(self.file, self.calls, cast(Any, None), lambda call_id: [], Clock(), "boot")

    def call(self, call_id: str) -> Any:
        call = SimpleNamespace(id=call_id, plan=SimpleNamespace(trace=Trace()), state=0, conversation=call_id)
        self.calls.add(cast(Any, call))
        return call

    def frames(self, kind: bytes) -> dict[bytes, bytes]:
        """The last of each key."""
        return {frame.key: frame.content for frame in read(self.folder) if frame.kind == kind}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path / "journal", monkeypatch)


async def behind() -> None:
    await asyncio.sleep(BEHIND * 1.5)


async def test_what_happens_together_is_written_once(world: World) -> None:
    """Marked three times within 20 ms: one state, the last, and one route."""
    world.journal.attach()
    call = world.call("c1")
    for state in (1, 2, 3):
        call.state = state
        world.calls.on_change(call)
    assert world.frames(STATE) == {}
    await behind()
    assert [f.content for f in read(world.folder) if f.kind == STATE] == [b'[true,[],[],null,[]]\n{"state":3}']
    call.state = 4
    world.calls.on_change(call)
    await behind()
    assert len([f for f in read(world.folder) if f.kind == ROUTE]) == 1
    world.journal.close()


async def test_a_call_that_cannot_be_written_does_not_keep_the_others(world: World) -> None:
    """A fault of ours in one call is reported, and costs no other its life."""
    world.journal.attach()
    faults: list[str] = []
    world.journal.on_error = lambda call_id, error: faults.append(call_id)
    broken, sound = world.call("c1"), world.call("c2")
    del broken.state
    for call in (broken, sound):
        world.calls.on_change(call)
    world.journal.flush()
    assert faults == ["c1"] and list(world.frames(STATE)) == [b"c2"]
    world.journal.close()


async def test_a_record_takes_the_place_of_its_call(world: World) -> None:
    """Until the spool has it; what the legs of the call still do is not written."""
    world.journal.attach()
    call = world.call("c1")
    world.calls.on_change(call)
    await behind()
    world.calls.finished(cast(Any, _over(call)), 0.0)
    world.calls.on_change(call)
    world.calls.books.recorded("c1", "answered")
    world.journal.recorded("c1", b"{}", 1)
    world.calls.on_change(call)
    await behind()
    found = read_journal(world.folder, Clock(), "boot")
    assert found.calls == {} and found.records == {"c1": b"{}"}
    assert len(world.frames(STATE)) == 1
    world.journal.synced = lambda: 1
    world.journal.close()
    assert list(world.folder.iterdir()) == []


async def test_what_is_told_of_refused_calls_is_kept(world: World) -> None:
    """Of calls that were never up: both what is told of them and their record, until the spool has them."""
    world.journal.attach()
    world.journal.refused("r1", b"{}", 1)
    world.journal.recorded("r1", b"[]", 2)
    world.journal.flush()
    found = read_journal(world.folder, Clock(), "boot")
    assert (found.refused, found.records, found.calls) == ({"r1": b"{}"}, {"r1": b"[]"}, {})
    world.journal.synced = lambda: 2
    world.journal.close()
    assert list(world.folder.iterdir()) == []


async def test_records_that_the_spool_has_leave_while_others_are_on_their_way(world: World) -> None:
    """With calls that end all the time some record is always on its way; those before it are kept no longer."""
    world.journal.attach()
    for n in range(1, 21):
        call = world.call(f"c{n}")
        world.calls.on_change(call)
        world.journal.flush()
        world.calls.finished(cast(Any, _over(call)), 0.0)
        world.journal.recorded(call.id, b"{}", n)
    world.journal.flush()
    world.journal.synced = lambda: 17
    world.journal._begin_segment()
    world.journal.flush()
    world.journal.flush()
    assert list(world.frames(RECORD)) == [b"c18", b"c19", b"c20"]
    assert [number for number, _ in world.journal._kept] == [18, 19, 20]
    world.journal.close()


async def test_a_new_segment_has_all_that_lives(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments are begun anew while calls change; at every moment all of them can be read, with their routes."""
    monkeypatch.setattr(journal_module, "_SMALLEST", 2000)
    monkeypatch.setattr(journal_module, "_AT_ONCE", 3)
    world.journal._room = 2000
    world.journal.attach()
    calls = [world.call(f"c{n}") for n in range(20)]
    for round_ in range(30):
        for call in calls[round_ % 3 :: 3]:
            call.state = round_
            world.calls.on_change(call)
        world.journal.flush()
        seen = {frame.key.decode() for frame in read(world.folder) if frame.kind == STATE}
        routes = world.frames(ROUTE)
        assert {call.id for call in calls if call.state} <= seen
        assert all(key.encode() in routes for key in seen)
    assert world.file.segment > 2
    assert len(list(world.folder.iterdir())) <= 2
    world.journal.close()


async def test_calls_that_wait_are_not_forgotten(world: World) -> None:
    """A call of the process before, that nobody has read yet, stays in the old segment until it is there."""
    old = JournalFile(world.folder)
    old.begin_segment()
    old.append([Frame(ROUTE, b"w", b"{}"), Frame(STATE, b"w", b"[true,[],[],null,[]]\n{}")])
    old.close()
    world.file._number = 1
    world.calls.waiting["w"] = None
    world.journal.attach()
    for _ in range(3):
        await behind()
    assert b"w" in world.frames(STATE)
    del world.calls.waiting["w"]
    call = world.call("w")
    world.calls.on_change(call)
    await behind()
    await behind()
    assert [path.name for path in world.folder.iterdir()] == ["segment-00000002"]
    assert b"w" in world.frames(STATE)
    world.journal.close()


async def test_a_full_disk_pauses_the_journal_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls go on; once there is room all of them are written anew."""
    monkeypatch.setattr(journal_module, "_RETRY", 0.03)
    world.journal.attach()
    first = world.call("c1")
    world.calls.on_change(first)
    await behind()
    append = world.file.append

    def full(frames: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(world.file, "append", full)
    second = world.call("c2")
    world.calls.on_change(second)
    await behind()
    monkeypatch.setattr(world.file, "append", append)
    for _ in range(6):
        await behind()
    assert set(world.frames(STATE)) == {b"c1", b"c2"} == set(world.frames(ROUTE))
    world.journal.close()


def _over(call: Any) -> Any:
    call.legs = {}
    return call
