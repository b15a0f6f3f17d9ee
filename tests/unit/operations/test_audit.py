"""The books balance, and each way in which they can fail to is found, told and counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from edge import audit
from edge.audit import Audit, Finding
from edge.b2bua.books import Books
from edge.b2bua.calls import Calls
from edge.b2bua.runner import CallRunner
from edge.cdr.spool import Spool
from edge.cdr.writer import RecordWriter
from edge.channels.counts import Lease
from edge.observability import logging
from edge.observability.metrics import Metrics
from tests.unit.cdr.records import Counts, FakeStore, call


class Lines(list[bytes]):
    def put(self, line: bytes, urgent: bool = False) -> None:
        self.append(line)

    def events(self, name: str) -> list[dict[str, object]]:
        return [event for line in self if (event := json.loads(line))["event"] == name]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    found = Lines()
    monkeypatch.setattr(logging._Output, "lines", found)
    logging.configure(found)
    return found


class Rooms:
    """The rooms that the checks look at, with one call up, one answered and one refused, all as it should be."""

    def __init__(self, folder: Path) -> None:
        self.calls = Calls()
        self.metrics = Metrics()
        self.writer = RecordWriter(Spool(folder), FakeStore(), Counts(), interval=0.5)
        self.leases: list[Lease] = [("up", "number", "+49301", "in", 1), ("up/1", "carrier", "telekom", "out", 1)]
        self.in_database = list(self.leases)
        self.current = True
        self.shown = ["up"]
        self.missing: list[str] = []
        self.sessions = 1
        self.now = 100.0
        books = self.calls.books
        for name in ("up", "done"):
            books.begin("invite")
            self.calls.add(self.runner(name))
        self.calls.finished(self.runner("done"), self.now)
        self.finish("done")
        books.begin("invite")
        books.end("challenged")

    @staticmethod
    def runner(name: str) -> CallRunner:
        return cast(CallRunner, SimpleNamespace(id=name, legs={}))

    def finish(self, name: str) -> None:
        self.metrics.call_finished("inbound", "answered", None, None)
        self.calls.books.recorded(name, "answered")
        self.writer.put(call(name))

    def acquire(self) -> Rooms:
        return self

    async def __aenter__(self) -> Rooms:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def fetch(self, query: str, instance: object) -> list[tuple[object, ...]]:
        if "leases" in query:
            return [tuple(lease) for lease in self.in_database]
        if "call_records" in query:
            return [(name,) for name in self.missing if name in cast(list[str], instance)]
        return [(name,) for name in self.shown]

    def audit(self) -> Audit:
        acquire = cast(audit.Acquire, self.acquire)
        instance = cast(audit.UUID, None)
        return Audit(
            {
                "attempts": lambda: audit.attempts(self.calls),
                "closing": lambda: audit.closing(self.calls, self.now),
                "outcomes": lambda: audit.outcomes(self.calls, self.metrics.calls),
                "records": lambda: audit.records(self.calls, self.writer),
                "spool": lambda: audit.spool(self.writer),
                "channels": lambda: audit.channels(self.calls, [lease[0] for lease in self.leases]),
                "relay": lambda: audit.relay(self.calls, self.sessions),
            },
            {
                "leases": lambda: audit.leases(acquire, instance, lambda: self.leases, shared=True),
                "live-list": lambda: audit.live_list(acquire, instance, self.calls, lambda: self.current),
                "table": audit.Table(acquire, self.writer),
            },
        )


async def looked_at(rooms: Rooms, times: int = 2) -> Audit:
    made = rooms.audit()
    for _ in range(times):
        made.once()
        await made.once_database()
    return made


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    return Rooms(tmp_path)


async def test_all_is_well(rooms: Rooms, lines: Lines) -> None:
    """Nothing is told where nothing disagrees; every invariant of the document is checked."""
    made = await looked_at(rooms)
    assert made.differences == dict.fromkeys(audit.INVARIANTS, 0)
    assert lines.events("books.disagree") == []


def lose_call(rooms: Rooms) -> None:
    rooms.calls._calls.clear()
    rooms.leases.clear()
    rooms.in_database.clear()
    rooms.shown.clear()
    rooms.sessions = 0


def never_close(rooms: Rooms) -> None:
    rooms.calls.books.begin("invite")
    rooms.calls.books.over("stuck", rooms.now)
    rooms.now += 11


def count_twice(rooms: Rooms) -> None:
    rooms.metrics.call_finished("inbound", "answered", None, None)


def forget_record(rooms: Rooms) -> None:
    rooms.calls.books.begin("invite")
    rooms.calls.books.recorded("unwritten", "busy")
    rooms.metrics.call_finished("inbound", "busy", None, None)


def lose_line(rooms: Rooms) -> None:
    rooms.writer._pending.clear()


def leave_channel(rooms: Rooms) -> None:
    rooms.leases.append(("gone", "number", "+49301", "in", 1))
    rooms.in_database.append(("gone", "number", "+49301", "in", 1))


def leave_session(rooms: Rooms) -> None:
    rooms.sessions = 2


def lose_lease(rooms: Rooms) -> None:
    rooms.in_database.pop()


def lose_row(rooms: Rooms) -> None:
    rooms.missing.append("done")


def show_ghost(rooms: Rooms) -> None:
    rooms.shown.append("ghost")


@pytest.mark.parametrize(
    ("break_it", "invariant", "culprit"),
    [
        (lose_call, "attempts", None),
        (never_close, "closing", "stuck"),
        (count_twice, "outcomes", None),
        (forget_record, "records", None),
        (lose_line, "spool", None),
        (leave_channel, "channels", "gone"),
        (leave_session, "relay", None),
        (lose_lease, "leases", "up/1"),
        (show_ghost, "live-list", "ghost"),
        (lose_row, "table", "done"),
    ],
)
async def test_each_invariant_is_found_broken(
    rooms: Rooms, lines: Lines, break_it: Callable[[Rooms], None], invariant: str, culprit: str | None
) -> None:
    """Broken on purpose, that invariant and no other is told, once, with the call where it is known."""
    break_it(rooms)
    made = await looked_at(rooms, 3)
    assert {name for name, difference in made.differences.items() if difference} == {invariant}
    assert made.disagreements[invariant] == 1
    (told,) = lines.events("books.disagree")
    assert told["invariant"] == invariant
    assert told.get("calls") == ([culprit] if culprit is not None else None)


async def test_a_list_that_cannot_be_current_is_no_disagreement(rooms: Rooms, lines: Lines) -> None:
    """While the database is slow or takes this edge for lost the table shows no call of it, which is told elsewhere."""
    rooms.shown.clear()
    rooms.current = False
    made = await looked_at(rooms, 3)
    assert made.differences["live-list"] == 0 and lines.events("books.disagree") == []
    rooms.current = True
    for _ in range(2):
        await made.once_database()
    assert made.differences["live-list"] == 1


async def test_a_record_is_looked_for_once_it_can_be_there(rooms: Rooms) -> None:
    """Not while the database is away or has a backlog, not of what it refused; what is missing is told for some
    minutes, then it is history."""
    made = rooms.audit()
    await made.once_database()
    rooms.missing, rooms.writer._away = ["done"], True
    for _ in range(3):
        await made.once_database()
    assert made.differences["table"] == 0
    rooms.writer._away = False
    rooms.writer.set_aside.append("done")
    await made.once_database()
    assert made.differences["table"] == 0
    rooms.finish("next")
    await made.once_database()
    rooms.missing = ["next"]
    told = []
    for _ in range(15):
        await made.once_database()
        if "next" not in made._database_checks["table"]._looks:  # type: ignore[attr-defined]
            rooms.missing = []
        told.append(made.differences["table"])
    assert told == [0, *[1] * 10, *[0] * 4]


async def test_a_call_as_long_as_the_time_between_two_looks_is_no_disagreement(rooms: Rooms, lines: Lines) -> None:
    """It is not shown yet at the one look and still shown at the next: late twice, never wrong."""
    made = rooms.audit()
    rooms.shown.clear()
    rooms.in_database.clear()
    await made.once_database()
    rooms.shown, rooms.in_database = ["up"], list(rooms.leases)
    rooms.leases.clear()
    rooms.calls._calls.clear()
    await made.once_database()
    assert lines.events("books.disagree") == []
    await made.once_database()
    assert {told["invariant"] for told in lines.events("books.disagree")} == {"leases", "live-list"}


async def test_what_one_look_finds_is_no_disagreement(lines: Lines) -> None:
    """A record in a thread, a lease on its way: only what two looks in a row find is told, and what is over is too."""
    found = [Finding(1, "x"), Finding(), Finding(1, "x"), Finding(1, "x"), Finding()]
    made = Audit({"spool": lambda: found.pop(0)})
    differences = []
    for _ in range(5):
        made.once()
        differences.append(made.differences["spool"])
    assert differences == [0, 0, 0, 1, 0]
    assert len(lines.events("books.disagree")) == len(lines.events("books.balanced")) == 1


async def test_other_calls_each_time_are_no_disagreement() -> None:
    """Under load some lease is always on its way; it is never the same call's twice."""
    found = [Finding(1, "x", frozenset({"a"})), Finding(1, "x", frozenset({"b"})), Finding(1, "x", frozenset({"b"}))]
    made = Audit({"channels": lambda: found.pop(0)})
    made.once()
    made.once()
    assert made.differences["channels"] == 0
    made.once()
    assert made.differences["channels"] == 1


def test_every_outcome_has_a_fate() -> None:
    """Outcomes of records fall into the four that the balance adds up."""
    books = Books()
    for outcome in ("answered", "cancelled", "refused", "busy", "no-answer", "unreachable", "rejected", "failed"):
        books.recorded(outcome, outcome)
    assert {k: v for k, v in books.ended.items() if v} == {"answered": 1, "cancelled": 1, "refused": 1, "failed": 5}
    assert books.records == 8
