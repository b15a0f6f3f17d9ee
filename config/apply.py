"""Brings the database to what a provisioning document says, in one transaction, and says what that changes.

The document is checked as a whole: the rules of single rows before anything is written, the rules between rows after
all of it is, within the transaction. What is wrong is reported at once, each with its line; then nothing is applied.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import asyncpg
from asyncpg import Record
from asyncpg.connection import Connection

from config.document import Document, DocumentError, Entry, Fault
from config.errors import ConfigError
from config.form import SECTIONS, UNCHANGED, Section, Value
from config.secrets import SecretBox, SecretError

Key = tuple[str, ...]
State = dict[str, dict[Key, dict[str, Value]]]
"""By table and key: the columns of the document, and its secrets' columns."""

_LOCK = 0x5349_5050
_OF_NUMBERS = {"form": "number", "length": "number"}
"""Constraints are named after their column, but for these."""


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one row. `before` and `after` name the columns that differ."""

    table: str
    key: Key
    before: Mapping[str, Value] | None
    after: Mapping[str, Value] | None

    def __str__(self) -> str:
        name = f"{self.table} {'/'.join(self.key)}"
        if self.before is None:
            return f"+ {name}"
        if self.after is None:
            return f"- {name}"
        parts = []
        for column, value in self.after.items():
            if _is_secret(column):
                if not column.endswith("_sha256"):
                    what = "set" if self.before[column] is None else "removed" if value is None else "changed"
                    parts.append(f"password {what}")
            else:
                parts.append(f"{column} {_plain(self.before[column])} -> {_plain(value)}")
        return f"~ {name}: {', '.join(parts)}"


@dataclass(slots=True)
class Plan:
    """Rows to write (all their columns) and to delete."""

    changes: list[Change] = field(default_factory=list)
    write: dict[str, dict[Key, dict[str, Value]]] = field(default_factory=dict)
    delete: dict[str, list[Key]] = field(default_factory=dict)


async def apply_document(
    connection: Connection[Record], document: Document, box: SecretBox, *, prune: bool = False, dry_run: bool = False
) -> list[Change]:
    """Apply `document`; returns what changed, or would with `dry_run`. With `prune` rows that it does not name go.

    A block is stated whole: ranges that its entry does not name go in any case. Raises DocumentError with all that is
    wrong, ConfigError where the database refuses something that is not of the document.
    """
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        before = await read_state(connection)
        realm = str(await connection.fetchval("SELECT value FROM sip_edge.settings WHERE name = 'realm'"))
        wanted = _wanted(document, before, box, realm)
        plan = _plan(document, before, wanted, prune)
        await _check_rows(connection, document, plan)
        await _write(connection, plan)
        # deleting a trunk or revoking a number has effects on rows that the document states otherwise
        again = _plan(document, await read_state(connection), wanted, False)
        await _write(connection, again)
        for table, rows in again.write.items():
            plan.write.setdefault(table, {}).update(rows)
        await _check_faults(connection, document, plan)
        await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        if dry_run:
            await transaction.rollback()
        else:
            await transaction.commit()
        return plan.changes
    except asyncpg.PostgresError as error:
        await transaction.rollback()
        raise ConfigError(f"{document.file}: {await explain(connection, error)}") from None
    except BaseException:
        await transaction.rollback()
        raise


async def explain(connection: Connection[Record], error: asyncpg.PostgresError) -> str:
    """What the database refused, in a sentence without secrets."""
    if error.sqlstate == "SE001":
        return str(error.message)
    if error.constraint_name and error.table_name:
        rule = await connection.fetchval("SELECT sip_edge.rule($1)", error.constraint_name)
        which = f" {error.detail}" if error.detail and error.detail.startswith("Key (") else ""
        return f"{error.table_name}: {rule or error.constraint_name}{which}"
    return f"the database refused it: {error.message}"


async def read_state(connection: Connection[Record]) -> State:
    """All provisioning as it is stored."""
    state: State = {}
    for section in SECTIONS:
        columns = _all_columns(section)
        rows = await connection.fetch(f"SELECT {', '.join(columns)} FROM sip_edge.{section.table}")
        state[section.table] = {tuple(row[k] for k in section.key): dict(row) for row in rows}
    return state


def _all_columns(section: Section) -> list[str]:
    return [*section.columns, *(section.secret.columns if section.secret is not None else ())]


def _wanted(document: Document, before: State, box: SecretBox, realm: str) -> State:
    """The rows that the document states, complete: times in UTC, secrets as stored."""
    wanted: State = {}
    faults: list[Fault] = []
    zones = {key[0]: str(row["time_zone"]) for key, row in before["accounts"].items()}
    zones |= {key[0]: str(entry.values["time_zone"]) for key, entry in document.entries["accounts"].items()}
    for section in SECTIONS:
        rows = wanted.setdefault(section.table, {})
        for key, entry in document.entries[section.table].items():
            account = entry.values.get("account")
            if section.within:
                block = document.entries["blocks"].get((str(entry.values["block"]),))
                account = block.values["account"] if block is not None else None
            values = {c: _moment(v, zones.get(str(account))) for c, v in entry.values.items()}
            if section.secret is not None:
                stored = before[section.table].get(key)
                values |= _secret(section.secret.columns, entry, stored, box, realm, faults)
            rows[key] = values
    if faults:
        raise DocumentError(document.file, faults)
    return wanted


def _moment(value: Value, zone: str | None) -> Value:
    if not isinstance(value, date):
        return value
    local = value if isinstance(value, datetime) else datetime.combine(value, time())
    if local.tzinfo is None:
        try:
            local = local.replace(tzinfo=ZoneInfo(zone or "UTC"))
        except (ZoneInfoNotFoundError, ValueError):
            local = local.replace(tzinfo=UTC)  # the account's time zone is refused by the database
    return local.astimezone(UTC)


def _secret(
    columns: tuple[str, ...],
    entry: Entry,
    stored: Mapping[str, Value] | None,
    box: SecretBox,
    realm: str,
    faults: list[Fault],
) -> dict[str, Value]:
    password = entry.password
    assert password is not None
    if password.stays:
        if password.marked and (stored is None or stored[columns[0]] is None):
            faults.append(entry.fault(f"{UNCHANGED} stands for a stored password, and there is none: write one"))
        return dict.fromkeys(columns) if stored is None else {c: stored[c] for c in columns}
    if password.text is None:
        return dict.fromkeys(columns)
    if len(columns) == 1:
        sealed = None if stored is None else stored[columns[0]]
        if isinstance(sealed, str):
            try:
                if box.open(sealed) == password.text:
                    return {columns[0]: sealed}
            except SecretError:
                pass  # sealed with a key that is gone: seal it anew
        return {columns[0]: box.seal(password.text)}
    username = entry.values.get("username")
    if username is None:
        faults.append(entry.fault("a password needs a username", "username"))
        return dict.fromkeys(columns)
    if len(password.text) < 8:
        faults.append(entry.fault("a password has at least 8 characters"))
    secret = f"{username}:{realm}:{password.text}".encode()
    # digest authentication (RFC 7616) wants these hashes, whatever they are worth
    return {
        columns[0]: hashlib.md5(secret, usedforsecurity=False).hexdigest(),
        columns[1]: hashlib.sha256(secret).hexdigest(),
    }


def _plan(document: Document, before: State, wanted: State, prune: bool) -> Plan:
    plan = Plan()
    for section in SECTIONS:
        table = section.table
        stored = before[table]
        write = plan.write.setdefault(table, {})
        for key, values in wanted[table].items():
            old = stored.get(key)
            if old is None:
                plan.changes.append(Change(table, key, None, values))
                write[key] = values
                continue
            differs = [c for c, v in values.items() if old[c] != v]
            if differs:
                change = Change(table, key, {c: old[c] for c in differs}, {c: values[c] for c in differs})
                plan.changes.append(change)
                write[key] = values
        gone = [key for key in stored if key not in wanted[table]]
        if not prune:
            blocks = document.entries["blocks"]
            gone = [k for k in gone if table == "ranges" and (str(stored[k]["block"]),) in blocks]
        plan.delete[table] = gone
        plan.changes += [Change(table, key, stored[key], None) for key in gone]
    return plan


async def _write(connection: Connection[Record], plan: Plan) -> None:
    for section in reversed(SECTIONS):
        gone = plan.delete.get(section.table)
        if gone:
            where = " AND ".join(f"{column} = ${n}" for n, column in enumerate(section.key, 1))
            await connection.executemany(f"DELETE FROM sip_edge.{section.table} WHERE {where}", gone)
    for section in SECTIONS:
        rows = plan.write.get(section.table)
        if rows:
            columns = _all_columns(section)
            places = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
            sets = ", ".join(f"{c} = excluded.{c}" for c in columns if c not in section.key)
            await connection.executemany(
                f"INSERT INTO sip_edge.{section.table} ({', '.join(columns)}) VALUES ({places}) "
                f"ON CONFLICT ({', '.join(section.key)}) DO UPDATE SET {sets}",
                [[row[c] for c in columns] for row in rows.values()],
            )


async def _check_rows(connection: Connection[Record], document: Document, plan: Plan) -> None:
    faults: list[Fault] = []
    for section in SECTIONS:
        entries = [document.entries[section.table][key] for key in plan.write[section.table]]
        rows = json.dumps(list(plan.write[section.table].values()), default=str)
        found = await connection.fetch("SELECT * FROM sip_edge.check_rows($1, $2::jsonb)", section.table, rows)
        for ordinal, name, rule in found:
            column = str(name).split("_", section.table.count("_") + 1)[-1]
            faults.append(entries[ordinal - 1].fault(rule or name, _OF_NUMBERS.get(column, column)))
    if faults:
        raise DocumentError(document.file, faults)


async def _check_faults(connection: Connection[Record], document: Document, plan: Plan) -> None:
    faults: list[Fault] = []
    for section in SECTIONS:
        keys = list(plan.write[section.table])
        query = "SELECT * FROM sip_edge.faults_of($1, $2::jsonb)"
        found = await connection.fetch(query, section.table, json.dumps(keys))
        for ordinal, text in found:
            entry = document.entries[section.table][keys[ordinal - 1]]
            faults.append(entry.fault(text, _named(text, entry)))
    if faults:
        raise DocumentError(document.file, faults)


def _named(text: str, entry: Entry) -> str:
    """The column that a fault begins with, so that its line can be named."""
    word = text.partition(" ")[0]
    return word if word in entry.places or f"{word}_kind" in entry.places else ""


def _is_secret(column: str) -> bool:
    return column.startswith(("ha1_", "sealed_"))


def _plain(value: Value) -> str:
    if value is None:
        return "none"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        return "[" + ", ".join(str(v) for v in value) + "]"
    return str(value)


def summary(changes: Iterable[Change]) -> str:
    """How many rows come, change and go."""
    found = list(changes)
    new = sum(c.before is None for c in found)
    gone = sum(c.after is None for c in found)
    return f"{new} new, {len(found) - new - gone} changed, {gone} removed"
