"""Writes what the database holds as a provisioning document. Secrets are never in it: where one is stored, the document
says `(unchanged)`, and applying it changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network

import yaml
from asyncpg import Record
from asyncpg.connection import Connection

from config.apply import read_state
from config.document import VERSION
from config.form import SECTIONS, UNCHANGED, Field, Kind, Section, Value


class _Quoted(str):
    """A text that is always written in quotes, as numbers and dates should be."""


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def _quoted(dumper: yaml.SafeDumper, text: _Quoted) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')


_Dumper.add_representer(_Quoted, _quoted)


async def export_document(connection: Connection[Record]) -> str:
    """The document of everything that is provisioned, in the order of keys, without what has its default value."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        state = await read_state(connection)
    ranges: dict[str, list[object]] = {}
    for _, row in sorted(state["ranges"].items()):
        ranges.setdefault(str(row["block"]), []).append(_entry(_RANGES, row))
    document: dict[str, object] = {"version": VERSION}
    for section in SECTIONS:
        if section.within:
            continue
        entries = []
        for _, row in sorted(state[section.table].items()):
            entry = _entry(section, row)
            if section.table == "blocks" and row["prefix"] in ranges:
                entry["ranges"] = ranges[str(row["prefix"])]
            entries.append(entry)
        if entries:
            document[section.table] = entries
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


_RANGES = next(s for s in SECTIONS if s.table == "ranges")


def _entry(section: Section, row: dict[str, Value]) -> dict[str, object]:
    entry: dict[str, object] = {}
    for field in section.fields:
        value = _value(field, row)
        if value is not None:
            entry[field.key] = value
    secret = section.secret
    if secret is not None and any(row[c] is not None for c in secret.columns):
        entry[secret.key] = UNCHANGED
    return entry


def _value(field: Field, row: dict[str, Value]) -> object:
    """What to write of a field; None: nothing."""
    if field.kind is Kind.GROUP:
        parts = {p.key: _plain(row[p.stored_in]) for p in field.parts if row[p.stored_in] is not None}
        return parts or None
    if field.kind is Kind.ROUTE:
        kind, target = row[f"{field.stored_in}_kind"], row[f"{field.stored_in}_target"]
        if kind is None or (kind == "none" and field.key == "route"):
            return None
        if kind == "none":
            return "none"
        return {str(kind): int(str(target)) if kind == "reject" else _plain(target)}
    value = row[field.stored_in]
    if value == field.default and not field.required:
        return None
    return _plain(value)


def _plain(value: Value) -> object:
    if isinstance(value, str):
        return _Quoted(value) if value[:1].isdigit() or value.startswith("+") else value
    if isinstance(value, datetime):
        return _Quoted(value.astimezone(UTC).isoformat().replace("+00:00", "Z"))
    if isinstance(value, IPv4Network | IPv6Network):
        return _Quoted(value.network_address if value.prefixlen == value.max_prefixlen else value)
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value
