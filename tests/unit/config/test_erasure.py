"""A person's data is erased wherever it is: tables, what comes late, and the files and memory of every edge."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from asyncpg import Record
from asyncpg.connection import Connection

from dialplan.model import Step
from edge import data_protection
from edge.cdr.record import Attempt, to_json
from edge.cdr.spool import Spool
from edge.cdr.tables import PostgresRecords
from edge.observability.trace import Tap
from edge.retention.erasures import Erasures, Person
from edge.retention.kept import EXEMPT_TABLES
from edge.sip.flow import Address, Flow
from media.fax.record import FaxMeta
from media.fax.spool import Spool as FaxSpool
from tests.unit.cdr.records import call, refused

if TYPE_CHECKING:
    from edge.app import Edge

NUMBER = "+493012345601"
"""Of anna1, in the world of these tests."""
FORMS = (NUMBER, NUMBER[1:], "0049" + NUMBER[3:], "0" + NUMBER[3:])
SALT = "pepper"


async def everything(db: Connection[Record]) -> dict[str, str]:
    """The text of all rows of each table that is not provisioning."""
    tables = await db.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'sip_edge' AND table_type = 'BASE TABLE'"
    )
    names = [row[0] for row in tables if row[0] not in EXEMPT_TABLES]
    return {n: str(await db.fetchval(f"SELECT json_agg(t) FROM sip_edge.{n} t")) for n in names}


async def traces_of(db: Connection[Record], *needles: str) -> set[str]:
    """Tables that hold one of these texts."""
    return {name for name, text in (await everything(db)).items() if any(needle in text for needle in needles)}


def calls_of_anna(at: datetime) -> list[bytes]:
    """Each way in which a call can be hers, ended at `at`."""
    times = {"started_at": at - timedelta(seconds=40), "ended_at": at}
    mine = {"source_kind": "seat", "source_name": "anna1", "direction": "outbound", "caller": NUMBER}
    return [
        to_json(replace(one, **times, answered_at=None if one.answered_at is None else times["started_at"]))
        for one in (
            replace(call("called"), **mine),
            replace(call("busy"), **mine, answered_at=None, outcome="busy"),
            replace(call("was called"), target_kind="seat", target_name="anna1", called=NUMBER, dialled=FORMS[3]),
            replace(call("went to a mobile"), number=NUMBER, called=NUMBER),
            replace(call("over a trunk"), source_kind="trunk", source_name="hq", presented=NUMBER),
            replace(call("answered by bert"), target_kind="seat", target_name="bert1", called="+4922838699",
                    attempts=(Attempt("seat", "anna1", at, 408), Attempt("seat", "bert1", at, 200)),
                    trace=(Step("R2", "rings seat anna1 and seat bert1"),)),
        )
    ]  # fmt: skip


async def fill(db: Connection[Record], at: datetime) -> None:
    records = PostgresRecords(lambda: nullcontext(db))
    other = to_json(replace(call("somebody else's"), started_at=at, ended_at=at))
    await records.insert(
        [*calls_of_anna(at), other],
        [
            to_json(replace(refused("refused", at), number=NUMBER)),
            to_json(replace(refused("misdialled", at), number=FORMS[2], detail=f"{NUMBER} has no channel")),
            to_json(refused("another's", at)),
        ],
    )
    await db.executemany(
        "INSERT INTO sip_edge.faxes (id, account, number, direction, caller, called, started_at)"
        " VALUES ($1, 'K1', $2, $3, $4, $5, $6)",
        [("sent", NUMBER, "out", None, "+4930999", at), ("came", "+493012345602", "in", NUMBER, None, at)],
    )
    await db.execute("INSERT INTO sip_edge.fax_mails (fax, email, state) VALUES ('sent', 'anna@k1.example', 'queued')")
    await db.execute(
        "INSERT INTO sip_edge.alarms (at, edge, kind, subject, detail) VALUES ($1, 'e1', 'guessing', 'anna1', 'x')", at
    )


async def test_nothing_is_left_in_any_table(world: Connection[Record]) -> None:
    """Searched as an auditor would: every table, every form of the number, the seat's name."""
    await fill(world, datetime.now(UTC))
    assert {"call_records", "refused_calls", "faxes", "alarms"} <= await traces_of(world, "anna1", *FORMS)
    gone = {row["what"]: row["gone"] for row in await world.fetch("SELECT * FROM sip_edge.privacy_erase('anna1')")}
    assert all(count for what, count in gone.items() if what != "registrations"), gone
    assert await traces_of(world, *FORMS, "anna@") == set()
    assert await traces_of(world, "anna1") == {"erasures"}
    left = {row[0] for row in await world.fetch("SELECT id FROM sip_edge.call_records")}
    assert left == {"called", "was called", "went to a mobile", "over a trunk", "answered by bert", "somebody else's"}
    other = await world.fetchrow("SELECT * FROM sip_edge.call_records WHERE id = $1", "somebody else's")
    assert other is not None and (other["called"], other["a_call_id"]) == ("+4922838600", "somebody else's@far")
    assert [row[0] for row in await world.fetch("SELECT id FROM sip_edge.refused_calls")] == ["another's"]
    mentioned = await world.fetchrow("SELECT * FROM sip_edge.call_records WHERE id = 'answered by bert'")
    assert mentioned is not None and (mentioned["target_name"], mentioned["called"]) == ("bert1", "+4922838699")


async def test_which_numbers_are_a_seats_own(world: Connection[Record]) -> None:
    """Those that lead to it, and the one that it shows; not the company's main number, which leads to its PBX."""
    await world.execute(
        "INSERT INTO sip_edge.ranges (prefix, block, route_kind, route_target)"
        " VALUES ('+492283861', '+49228386', 'seat', 'bert1')"
    )
    range_of_bert = {f"+492283861{n}" for n in range(10)}

    async def own(seat: str) -> set[str]:
        return {row[0] for row in await world.fetch("SELECT sip_edge.numbers_of($1)", seat)}

    assert await own("anna1") == {NUMBER}
    assert await own("bert1") == range_of_bert
    main = "+493012345602"
    await world.execute("UPDATE sip_edge.seats SET primary_number = $1 WHERE username = 'bert1'", main)
    assert await own("bert1") == {*range_of_bert, main}
    await world.execute("UPDATE sip_edge.numbers SET route_kind = 'trunk', route_target = 'hq' WHERE number = $1", main)
    assert await own("bert1") == range_of_bert


async def test_the_digests_of_both_sides_are_the_same(db: Connection[Record]) -> None:
    """The database makes them, the edge compares."""
    digest = await db.fetchval("SELECT sip_edge.digest($1, $2)", SALT, NUMBER)
    person = Person("anna1", SALT, frozenset({digest}))
    assert person.has(NUMBER) and not person.has(NUMBER + "1")
    assert person.is_named_in(to_json(replace(call("x"), called=NUMBER)))
    assert person.is_named_in(to_json(replace(call("x"), source_kind="seat", source_name="anna1")))
    assert not person.is_named_in(to_json(call("x"))) and not person.is_named_in(b"no record")


FLOW = Flow("udp", Address("192.0.2.1", 5060), Address("192.0.2.2", 5060))


class Rooms:
    """The rooms of one edge that hold something of a person."""

    def __init__(self, folder: Path, db: Connection[Record]) -> None:
        self.db = db
        self.spool = Spool(folder / "spool")
        self.faxes = FaxSpool(folder / "fax")
        self.tap = Tap()
        self.up: list[SimpleNamespace] = []
        self.renewed = 0
        self.writer = SimpleNamespace(waiting=0)
        self.kept: set[str] = set()
        for name, user in (("busy", "anna1"), ("another's", "bert1")):
            self.tap.message("in", f"INVITE sip:x SIP/2.0\r\nCall-ID: {name}@x\r\n\r\n".encode(), FLOW, 1.0)
            self.tap.link(name, f"{name}@x")
            self.kept.add(name)
            register = f"REGISTER sip:edge SIP/2.0\r\nTo: <sip:{user}@edge>\r\nCall-ID: {user}\r\n\r\n"
            self.tap.message("in", register.encode(), FLOW, 1.0)
            self.spool.set_aside(
                b"C" + to_json(replace(call(name), source_kind="seat", source_name=user)), f"no {user}"
            )
        for fax_id, number in (("hers", NUMBER), ("his", "+493012345602")):
            self.faxes.create(FaxMeta(fax_id, "K1", "", number, "a@b", 1.0, called="+4930999")).unlock()

    def erasures(self) -> Erasures:
        edge = SimpleNamespace(
            tap=self.tap,
            kept=SimpleNamespace(forget=self.forget),
            journal=SimpleNamespace(renew=self.renew),
            writer=self.writer,
            calls=SimpleNamespace(waiting={}, books=SimpleNamespace(closing={}), live=lambda: self.up),
            faxes=SimpleNamespace(running=0),
        )
        return data_protection.erasures(cast("Edge", edge), lambda: nullcontext(self.db), self.spool, self.faxes)

    def renew(self) -> int:
        self.renewed += 1
        return 1

    def forget(self, call_id: str) -> bool:
        there = call_id in self.kept
        self.kept.discard(call_id)
        return there

    @property
    def rejected(self) -> str:
        return (self.spool.folder / "rejected.records").read_text()


@pytest.fixture
def rooms(tmp_path: Path, world: Connection[Record]) -> Iterable[Rooms]:
    made = Rooms(tmp_path, world)
    yield made
    made.spool.close()


async def test_an_edge_erases_its_memory_and_files(rooms: Rooms) -> None:
    """Messages, ladders, refused records, a fax on disk, the journal: hers go, others' stay. Once, and again after a
    restart without harm."""
    await fill(rooms.db, datetime.now(UTC))
    await rooms.db.execute("SELECT * FROM sip_edge.privacy_erase('anna1')")
    rooms.faxes.folder("his").lock()
    erasures = rooms.erasures()
    await erasures.once()
    assert rooms.tap.find("busy") is None and rooms.tap.find("anna1") is None
    assert rooms.tap.find("another's") is not None and rooms.tap.find("bert1") is not None
    assert rooms.kept == {"another's"}
    assert "anna1" not in rooms.rejected and "bert1" in rooms.rejected
    assert sorted(path.name for path in rooms.faxes.path.iterdir()) == ["his"]
    assert rooms.renewed == 1
    await erasures.once()
    rooms.faxes.folder("his").remove()
    await rooms.erasures().once()


async def test_what_comes_late_is_erased_too(rooms: Rooms) -> None:
    """Records of an outage and of a call that was up come after the erasure: they go as well. What begins after it
    stays: the seat may live on."""
    erased_at = datetime.now(UTC)
    await rooms.db.execute("SELECT * FROM sip_edge.privacy_erase('anna1')")
    for fax_id in ("hers", "his"):
        rooms.faxes.folder(fax_id).remove()
    rooms.writer.waiting, rooms.up = 3, [SimpleNamespace(started_at=erased_at - timedelta(hours=1))]
    erasures = rooms.erasures()
    await erasures.once()
    records = PostgresRecords(lambda: nullcontext(rooms.db))
    await records.insert(calls_of_anna(erased_at), [to_json(replace(refused("late", erased_at), number=NUMBER))])
    rooms.writer.waiting = 0
    await erasures.once()
    assert await traces_of(rooms.db, NUMBER) != set(), "a call is up, its record comes yet"
    rooms.up = [SimpleNamespace(started_at=erased_at + timedelta(hours=1))]
    await erasures.once()
    assert await traces_of(rooms.db, *FORMS) == set()
    assert await traces_of(rooms.db, "anna1") == {"erasures"}
    later = erased_at + timedelta(days=1)
    await records.insert([to_json(replace(call("later"), started_at=later, ended_at=later, called=NUMBER))], [])
    await erasures.once()
    await rooms.erasures().once()
    assert await traces_of(rooms.db, NUMBER) == {"call_records"}
    calls = await rooms.db.fetchval("SELECT calls FROM sip_edge.erasures")
    assert {"late", "busy", "called"} <= set(calls) and len(calls) == len(set(calls))


def test_refused_records_go_at_the_age_of_calls(tmp_path: Path) -> None:
    """`rejected.records`: each entry at its own age, with the error above it; what is no record waits for a person."""
    spool = Spool(tmp_path)
    for day in (1, 5):
        record = to_json(replace(call(f"c{day}"), ended_at=datetime(2026, 11, day, tzinfo=UTC)))
        spool.set_aside(b"C" + record, f"e{day}")
    spool.set_aside(b"R" + to_json(refused("r1", datetime(2026, 11, 1, tzinfo=UTC))), "e")
    spool.set_aside(b"C{torn", "a crash")
    oldest = datetime(2026, 11, 3, tzinfo=UTC)
    assert spool.thin_rejected(lambda line: data_protection._ended_at(line, oldest) >= oldest) == 2
    left = (tmp_path / "rejected.records").read_text().splitlines()
    assert [line[:4] for line in left] == ["# e5", "C" + json.dumps({"id": "c5"})[:3], "# a ", "C{to"]
    assert spool.thin_rejected(lambda line: False) == 2 and not (tmp_path / "rejected.records").exists()
    spool.close()
