"""What is kept for how long (domain rule 7.9): purged at the age and not a second before, on a clock of ours."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from asyncpg import Record
from asyncpg.connection import Connection

from edge.cdr.record import to_json
from edge.cdr.tables import PostgresRecords
from edge.retention.kept import EXEMPT_FILES, EXEMPT_TABLES, FILES, ROWS
from edge.retention.purge import PostgresPurge
from tests.unit.cdr.records import NOON, call, refused

ROOT = Path(__file__).parents[3]
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
KEEP = timedelta(days=90)

TABLES = {
    "answered": "SELECT count(*) FROM sip_edge.call_records WHERE id = 'answered'",
    "details": "SELECT count(*) FROM sip_edge.call_records WHERE id = 'answered' AND a_call_id IS NOT NULL"
    " AND trace IS NOT NULL AND attempts IS NOT NULL AND dialled IS NOT NULL",
    "media": "SELECT count(*) FROM sip_edge.call_records WHERE id = 'answered' AND media IS NOT NULL",
    "unanswered": "SELECT count(*) FROM sip_edge.call_records WHERE id = 'missed'",
    "refused": "SELECT count(*) FROM sip_edge.refused_calls",
    "delivered": "SELECT count(*) FROM sip_edge.faxes WHERE id = 'delivered' AND content IS NOT NULL",
    "queued": "SELECT count(*) FROM sip_edge.faxes WHERE id = 'queued' AND content IS NOT NULL",
    "undeliverable": "SELECT count(*) FROM sip_edge.faxes WHERE id = 'failed' AND content IS NOT NULL",
    "sent": "SELECT count(*) FROM sip_edge.faxes WHERE id = 'sent' AND content IS NOT NULL",
    "fax record": "SELECT count(*) FROM sip_edge.faxes WHERE id = 'delivered'",
    "registration": "SELECT count(*) FROM sip_edge.registrations",
    "live call": "SELECT count(*) FROM sip_edge.live_calls",
    "carrier state": "SELECT count(*) FROM sip_edge.carrier_states",
    "edge": "SELECT count(*) FROM sip_edge.edges",
    "mail": "SELECT count(*) FROM sip_edge.fax_mails WHERE fax = 'delivered'",
    "failed mail": "SELECT count(*) FROM sip_edge.fax_mails WHERE fax = 'failed'",
    "alarm": "SELECT count(*) FROM sip_edge.alarms",
    "usage": "SELECT count(*) FROM sip_edge.budget_usage",
    "reset": "SELECT count(*) FROM sip_edge.budget_resets",
    "erasure": "SELECT count(*) FROM sip_edge.erasures",
}
AGES = {
    "answered": KEEP,
    "details": 7 * DAY,
    "media": KEEP,
    "unanswered": 7 * DAY,
    "refused": 7 * DAY,
    "delivered": 7 * DAY,
    "queued": None,
    "undeliverable": 30 * DAY,
    "sent": 7 * DAY,
    "fax record": KEEP,
    "registration": timedelta(hours=1),
    "live call": timedelta(hours=1),
    "carrier state": 7 * DAY,
    "edge": 7 * DAY,
    "mail": 7 * DAY,
    "failed mail": 30 * DAY,
    "alarm": 7 * DAY,
    "usage": timedelta(hours=25),
    "reset": timedelta(hours=25),
    "erasure": 30 * DAY,
}
"""How long each is kept; None: as long as it waits for its delivery."""


def records_in(db: Connection[Record]) -> PostgresRecords:
    return PostgresRecords(lambda: nullcontext(db))


def purge_of(db: Connection[Record]) -> PostgresPurge:
    return PostgresPurge(lambda: nullcontext(db))


async def fill(db: Connection[Record], at: datetime) -> None:
    """One of everything, all of it as old as `at`."""
    missed = replace(call("missed"), answered_at=None, ended_at=at, outcome="no-answer")
    answered = replace(call("answered"), answered_at=at - SECOND, ended_at=at)
    await records_in(db).insert([to_json(answered), to_json(missed)], [to_json(refused("r", at))])
    await db.executemany(
        "INSERT INTO sip_edge.faxes (id, account, number, direction, started_at, ended_at, content)"
        " VALUES ($1, 'K1', '+49301', $2, $3, $3, 'PDF')",
        [("delivered", "in", at), ("queued", "in", at), ("failed", "in", at), ("sent", "out", at)],
    )
    await db.executemany(
        "INSERT INTO sip_edge.fax_mails (fax, email, state, delivered_at) VALUES ($1, 'a@b', $1, $2)",
        [("delivered", at), ("queued", None), ("failed", None)],
    )
    await db.execute(
        "INSERT INTO sip_edge.registrations (aor_kind, aor, contact_uri, account, call_id, cseq, expires_at,"
        " registered_at, transport, edge) VALUES ('seat', 'anna1', 'sip:a@b', 'K1', 'x', 1, $1, $1, 'udp', 'e1')",
        at,
    )
    dead = "'00000000-0000-0000-0000-000000000001'"
    await db.execute(
        f"INSERT INTO sip_edge.edges (instance, name, started_at, heartbeat_at) VALUES ({dead}, 'e1', $1, $1)", at
    )
    await db.execute(
        "INSERT INTO sip_edge.live_calls (id, instance, edge, state, started_at, direction, source_kind, source_name)"
        f" VALUES ('l', {dead}, 'e1', 'up', $1, 'inbound', 'carrier', 'telekom')",
        at,
    )
    for statement in (
        "INSERT INTO sip_edge.alarms (at, edge, kind, subject, detail) VALUES ($1, 'e1', 'guessing', 'anna1', 'x')",
        "INSERT INTO sip_edge.budget_usage (edge, level, key, bucket) VALUES ('e1', 'seat', 'anna1', $1)",
        "INSERT INTO sip_edge.budget_resets (level, key, reset_at) VALUES ('seat', 'anna1', $1)",
        "INSERT INTO sip_edge.erasures (at, seat, salt, numbers, calls) VALUES ($1, 'anna1', 'x', '{}', '{}')",
    ):
        await db.execute(statement, at)
    await db.execute(
        "INSERT INTO sip_edge.carrier_states (carrier, edge, state, since) VALUES ('telekom', 'e1', 'up', $1)", at
    )


async def there(db: Connection[Record]) -> dict[str, bool]:
    return {name: bool(await db.fetchval(query)) for name, query in TABLES.items()}


async def test_everything_goes_at_its_age_and_not_before(db: Connection[Record]) -> None:
    """The clock goes to one second before each age, and to the age."""
    await fill(db, NOON)
    assert await there(db) == dict.fromkeys(AGES, True)
    for age in sorted({age for age in AGES.values() if age is not None}):
        for now in (age - SECOND, age):
            await purge_of(db).purge(NOON + now, KEEP)
            kept = {name for name, is_there in (await there(db)).items() if is_there}
            assert kept == {name for name, limit in AGES.items() if limit is None or limit > now}, now


async def test_a_living_edge_keeps_what_is_its_own(db: Connection[Record]) -> None:
    """A call of two hours is no leftover while its edge lives; neither is a state that holds since a year."""
    await fill(db, NOON)
    await db.execute("UPDATE sip_edge.edges SET heartbeat_at = $1", NOON + 365 * DAY)
    await purge_of(db).purge(NOON + 365 * DAY, KEEP)
    left = await there(db)
    assert (left["live call"], left["carrier state"], left["edge"]) == (True, True, True)


async def test_what_went_is_told(db: Connection[Record]) -> None:
    """The job's log line and metric say how much of what was deleted."""
    await fill(db, NOON)
    purged = await purge_of(db).purge(NOON + 7 * DAY, KEEP)
    assert {what: count for what, count in purged.gone.items() if count} == {
        "unanswered-calls": 1, "call-details": 1, "refused-calls": 1, "fax-documents": 2, "sent-mails": 1,
        "registrations": 1, "live-calls": 1, "carrier-states": 1, "edges": 1, "alarms": 1, "budget-usage": 1,
        "budget-resets": 1,
    }  # fmt: skip
    assert not any((await purge_of(db).purge(NOON + 7 * DAY, KEEP)).gone.values())


async def test_every_table_has_an_age_or_a_reason(db: Connection[Record]) -> None:
    """A table that nobody purges keeps people's data for ever."""
    found = await db.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'sip_edge' AND table_type = 'BASE TABLE'"
    )
    assert {row[0] for row in found} == {row.table for row in ROWS} | set(EXEMPT_TABLES)
    assert not {row.table for row in ROWS} & set(EXEMPT_TABLES)


def test_the_page_shows_the_table() -> None:
    """docs/operations.md has a row for each kind, with the age of the code, and names what is exempt."""
    page = (ROOT / "docs/operations.md").read_text().partition("## What is kept")[2].partition("\n## ")[0]
    rows = {m[1]: m[2].strip() for m in re.finditer(r"^\| `([a-z-]+)` \|[^|]*\|([^|]*)\|", page, re.MULTILINE)}
    words = {1: "an hour", 24: "a day", 25: "25 hours", 7 * 24: "7 days", 30 * 24: "30 days"}
    code = {
        kept.what: "`call_records_keep_days`" if kept.age is None else words[round(kept.age / timedelta(hours=1))]
        for kept in (*ROWS, *FILES)
    }
    assert rows == code
    for name in (*EXEMPT_TABLES, *EXEMPT_FILES):
        assert f"`{name}`" in page, name


# -- a person's data ---------------------------------------------------------------------------------------------------


async def people(db: Connection[Record]) -> None:
    """anna1 called and was called, once by somebody who withheld his number; bert2 called somebody else."""
    mine = {"source_kind": "seat", "source_name": "anna1", "direction": "outbound", "caller_withheld": False}
    out = replace(call("out"), **mine)
    missed = replace(call("missed"), **mine, answered_at=None, outcome="busy")
    came = replace(call("in"), target_kind="seat", target_name="anna1")
    other = replace(call("other"), **{**mine, "source_name": "bert2"})
    await records_in(db).insert([to_json(c) for c in (out, missed, came, other)], [to_json(refused("missed"))])
    await fill_registration(db, "anna1")
    await fill_registration(db, "bert2")


async def fill_registration(db: Connection[Record], seat: str) -> None:
    await db.execute(
        "INSERT INTO sip_edge.registrations (aor_kind, aor, contact_uri, account, call_id, cseq, expires_at,"
        " registered_at, transport, edge) VALUES ('seat', $1, 'sip:a@b', 'K1', 'x', 1, $2, $2, 'udp', 'e1')",
        seat,
        NOON,
    )


async def exported(db: Connection[Record], seat: str) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads(
        await db.fetchval("SELECT sip_edge.privacy_export($1)", seat)
    )
    return found


async def test_the_export_has_a_persons_data_and_nobody_elses(db: Connection[Record]) -> None:
    """Calls from and to the seat; of a caller who withheld his number, nothing that names him."""
    await people(db)
    found = await exported(db, "anna1")
    calls = {c["id"]: c for c in found["calls"]}
    assert set(calls) == {"out", "missed", "in"}
    assert calls["out"]["caller"] and "caller" not in calls["in"] and "trace" not in calls["in"]
    assert [r["aor"] for r in found["registrations"]] == ["anna1"]
    assert [r["id"] for r in found["refused_calls"]] == ["missed"]


async def test_erasing_leaves_what_billing_needs_and_no_person(db: Connection[Record]) -> None:
    """Answered calls stay without names and whole numbers; the rest goes; other people's rows are untouched."""
    await people(db)
    before = await exported(db, "bert2")
    await db.execute("SELECT * FROM sip_edge.privacy_erase('anna1')")
    left = {row["id"]: dict(row) for row in await db.fetch("SELECT * FROM sip_edge.call_records")}
    assert set(left) == {"out", "in", "other"}
    assert left["out"]["source_name"] == left["in"]["target_name"] == "erased"
    assert left["out"]["billed_account"] == "K2" and left["out"]["answered_at"] == call("x").answered_at
    for row in (left["out"], left["in"]):
        text = json.dumps(row, default=str)
        for secret in ("anna1", "+4915112345678", "+4922838600", "022838600", "@far", "a rule"):
            assert secret not in text, secret
    found = await exported(db, "anna1")
    assert not any(found[what] for what in ("calls", "registrations", "refused_calls", "faxes", "live_calls"))
    assert await exported(db, "bert2") == before
