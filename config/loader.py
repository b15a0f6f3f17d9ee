"""Reads provisioning out of the database, table by table, into the rows of `config.model`.

Streams with a server-side cursor, so that a million numbers neither pile up nor keep the event loop for long.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

from asyncpg import Record
from asyncpg.connection import Connection
from asyncpg.pool import PoolConnectionProxy

from config.model import (
    NO_BUDGET,
    NO_ROUTE,
    Account,
    AccountStatus,
    Budget,
    Carrier,
    ExternalNumber,
    FaxBox,
    Ha1,
    IdentityProfile,
    NumberFormat,
    NumberRow,
    NumberStatus,
    Route,
    RouteKind,
    Rows,
    Seat,
    Trunk,
)
from config.secrets import SecretBox, SecretError

AnyConnection: TypeAlias = "Connection[Record] | PoolConnectionProxy[Record]"

TABLES = frozenset(
    ("carriers", "accounts", "trunks", "seats", "blocks", "ranges", "numbers", "external_numbers", "fax_boxes")
)
"""Tables whose changes change the snapshot; `settings` does not."""

_CHUNK = 1000
_KINDS = {kind.value: kind for kind in RouteKind}
_STATUS = {status.value: status for status in NumberStatus}

_NEXT = (
    "on_busy_kind, on_busy_target, on_no_answer_kind, on_no_answer_target, no_answer_after, "
    "on_unreachable_kind, on_unreachable_target, on_limit_kind, on_limit_target"
)
_NUMBERS = (
    "SELECT number, 0, account, carrier, status, channels, route_kind, route_target, "
    f"{_NEXT}, cli_prefix, valid_from, served_account, NULL, type FROM sip_edge.numbers"
)
_RANGES = (
    "SELECT r.prefix, length(b.prefix) + b.digits - length(r.prefix), b.account, b.carrier, "
    "coalesce(r.status, b.status), coalesce(r.channels, b.channels), r.route_kind, r.route_target, "
    f"{', '.join('r.' + c.strip() for c in _NEXT.split(','))}, "
    "NULL, r.valid_from, coalesce(r.served_account, b.served_account), b.prefix, b.type "
    "FROM sip_edge.ranges r JOIN sip_edge.blocks b ON b.prefix = r.block"
)
_BLOCKS = "SELECT prefix, digits, account, carrier, status, channels, served_account, type FROM sip_edge.blocks"
_CARRIERS = (
    "SELECT name, mode, domain, outbound_proxy, secondary_proxies, register_with, transport, username, auth_username, "
    "sealed_password, gin, expires, sources, identity, number_format, ddi_source, home_country, clip_no_screening, "
    "trusted, codecs, srtp, t38, media_source, session_expires, max_calls, max_calls_in, max_calls_out, max_cps, "
    "priority, weight, failover_on FROM sip_edge.carriers"
)
_BUDGET = ", ".join(Budget._fields)
_ACCOUNTS = (
    "SELECT id, name, status, country, time_zone, area_code, language, email, parallel_calls, bare_numbers, "
    "clip_fallback, allowed_destinations, emergency_number, night_percent, max_call_minutes, suspension, "
    f"{_BUDGET} FROM sip_edge.accounts"
)
_TRUNKS = (
    "SELECT account, name, mode, username, ha1_md5, ha1_sha256, sources, certificate, address, profile, number_format, "
    "called_in, parallel_calls, parallel_calls_in, parallel_calls_out, valid_from, default_number, clip_no_screening, "
    f"srtp, t38, max_contacts, {_BUDGET} FROM sip_edge.trunks"
)
_SEATS = (
    "SELECT username, account, trunk, ha1_md5, ha1_sha256, name, extension, primary_number, external_numbers, present, "
    f"reject_anonymous, max_contacts, srtp, {_BUDGET} FROM sip_edge.seats"
)
_EXTERNAL = "SELECT number, account, status, expires_at FROM sip_edge.external_numbers"
_FAX_BOXES = "SELECT account, name, email, sealed_pdf_password, station_id FROM sip_edge.fax_boxes"


async def load_rows(
    connection: AnyConnection,
    box: SecretBox,
    before: Rows | None = None,
    changed: Iterable[str] = TABLES,
    on_fault: Callable[[str], None] = lambda text: None,
) -> Rows:
    """The rows as of now, in one consistent view. Given the rows `before`, only the tables `changed` since are read.
    Reads within the caller's transaction where there is one.

    A secret that cannot be opened is reported to `on_fault` and is None in its row: a wrong key stops no other carrier.
    Raises the errors of asyncpg.
    """
    tables = TABLES if before is None else frozenset(changed)
    rows = before if before is not None else Rows()
    nested = connection.is_in_transaction()
    async with nullcontext() if nested else connection.transaction(isolation="repeatable_read", readonly=True):
        if "carriers" in tables:
            carriers = [_carrier(r, box, on_fault) async for r in _stream(connection, _CARRIERS)]
            rows = replace(rows, carriers=tuple(carriers))
        if "accounts" in tables:
            rows = replace(rows, accounts=tuple([_account(r) async for r in _stream(connection, _ACCOUNTS)]))
        if "trunks" in tables:
            rows = replace(rows, trunks=tuple([_trunk(r) async for r in _stream(connection, _TRUNKS)]))
        if "seats" in tables:
            rows = replace(rows, seats=tuple([_seat(r) async for r in _stream(connection, _SEATS)]))
        if "external_numbers" in tables:
            external = [
                ExternalNumber(number, account, status, expires)
                async for number, account, status, expires in _stream(connection, _EXTERNAL)
            ]
            rows = replace(rows, external_numbers=tuple(external))
        if "fax_boxes" in tables:
            boxes = [_fax_box(r, box, on_fault) async for r in _stream(connection, _FAX_BOXES)]
            rows = replace(rows, fax_boxes=tuple(boxes))
        if tables & {"numbers", "ranges", "blocks"}:
            rows = replace(rows, numbers=await _numbers(connection, rows, tables))
        if "blocks" in tables:
            rows = replace(rows, blocks=tuple([_block(r) async for r in _stream(connection, _BLOCKS)]))
    return rows


async def load_numbers(connection: AnyConnection, prefixes: Iterable[str]) -> dict[str, NumberRow | None]:
    """The single numbers and ranges with these prefixes as of now; None where there is none. Raises as asyncpg does."""
    wanted = list(prefixes)
    found: list[NumberRow] = []
    _add_numbers(await connection.fetch(f"{_NUMBERS} WHERE number = ANY ($1)", wanted), found, {})
    _add_numbers(await connection.fetch(f"{_RANGES} WHERE r.prefix = ANY ($1)", wanted), found, {})
    return {**dict.fromkeys(wanted), **{row.prefix: row for row in found}}


async def _stream(connection: AnyConnection, query: str) -> AsyncIterator[Record]:
    cursor = await connection.cursor(query)
    while chunk := await cursor.fetch(_CHUNK):
        for record in chunk:
            yield record


async def _numbers(connection: AnyConnection, before: Rows, tables: frozenset[str]) -> tuple[NumberRow, ...]:
    found: list[NumberRow] = []
    shared: dict[str, str] = {}
    if "numbers" in tables:
        queries = [_NUMBERS]
    else:
        found = [row for row in before.numbers if row.block is None]
        queries = []
    queries.append(_RANGES)
    # nothing here is a cycle, and looking for some among what grows doubles the time
    collecting = gc.isenabled()
    gc.disable()
    try:
        for query in queries:
            cursor = await connection.cursor(query)
            while chunk := await cursor.fetch(_CHUNK):
                _add_numbers(chunk, found, shared)
    finally:
        if collecting:
            gc.enable()
    return tuple(found)


def _add_numbers(chunk: list[Record], found: list[NumberRow], shared: dict[str, str]) -> None:
    share = shared.setdefault
    for (
        prefix, digits, account, carrier, status, channels, kind, target, busy, busy_target,
        no_answer, no_answer_target, after, unreachable, unreachable_target, limit, limit_target,
        cli_prefix, valid_from, served, block, type_,
    ) in chunk:  # fmt: skip
        found.append(
            NumberRow(
                prefix,
                digits,
                share(account, account),
                share(carrier, carrier),
                _STATUS[status],
                channels,
                NO_ROUTE if kind == "none" else Route(_KINDS[kind], target),
                None if busy is None else Route(_KINDS[busy], busy_target or ""),
                None if no_answer is None else Route(_KINDS[no_answer], no_answer_target or ""),
                after,
                None if unreachable is None else Route(_KINDS[unreachable], unreachable_target or ""),
                None if limit is None else Route(_KINDS[limit], limit_target or ""),
                cli_prefix,
                valid_from,
                None if served is None else share(served, served),
                None if block is None else share(block, block),
                share(type_, type_),
            )
        )


def _block(row: Record) -> NumberRow:
    prefix, digits, account, carrier, status, channels, served, type_ = row
    return NumberRow(prefix, digits, account, carrier, _STATUS[status], channels, served_account=served, type=type_)


def _carrier(row: Record, box: SecretBox, on_fault: Callable[[str], None]) -> Carrier:
    values = dict(row)
    sealed = values.pop("sealed_password")
    return Carrier(
        **{
            **values,
            "password": _open(box, sealed, f"carrier {row['name']}: password", on_fault),
            "sources": _networks(row["sources"]),
            "secondary_proxies": tuple(row["secondary_proxies"]),
            "identity": IdentityProfile(row["identity"]),
            "number_format": NumberFormat(row["number_format"]),
            "ddi_source": tuple(row["ddi_source"]),
            "codecs": tuple(row["codecs"]),
            "failover_on": tuple(row["failover_on"]),
        }
    )


def _account(row: Record) -> Account:
    allowed = row["allowed_destinations"]
    values = dict(row)
    budget = _budget(values)
    return Account(
        **{
            **values,
            "budget": budget,
            "status": AccountStatus(row["status"]),
            "allowed_destinations": None if allowed is None else tuple(allowed),
        }
    )


def _trunk(row: Record) -> Trunk:
    values = dict(row)
    ha1 = Ha1(values.pop("ha1_md5"), values.pop("ha1_sha256"))
    budget = _budget(values)
    return Trunk(
        **{
            **values,
            "ha1": ha1,
            "budget": budget,
            "sources": _networks(row["sources"]),
            "number_format": NumberFormat(row["number_format"]),
        }
    )


def _seat(row: Record) -> Seat:
    values = dict(row)
    ha1 = Ha1(values.pop("ha1_md5"), values.pop("ha1_sha256"))
    budget = _budget(values)
    return Seat(**{**values, "ha1": ha1, "budget": budget, "external_numbers": tuple(row["external_numbers"])})


def _budget(values: dict[str, object]) -> Budget:
    """The budget among the values of a row, which go out of them."""
    budget = Budget(*(values.pop(name) for name in Budget._fields))  # type: ignore[arg-type]
    return NO_BUDGET if budget == NO_BUDGET else budget


def _fax_box(row: Record, box: SecretBox, on_fault: Callable[[str], None]) -> FaxBox:
    what = f"fax box {row['account']}/{row['name']}: PDF password"
    password = _open(box, row["sealed_pdf_password"], what, on_fault)
    return FaxBox(row["account"], row["name"], row["email"], password, row["station_id"])


def _networks(networks: list[IPv4Network | IPv6Network]) -> tuple[str, ...]:
    return tuple(str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in networks)


def _open(box: SecretBox, sealed: str | None, what: str, on_fault: Callable[[str], None]) -> str | None:
    if sealed is None:
        return None
    try:
        return box.open(sealed)
    except SecretError as error:
        on_fault(f"{what}: {error}")
        return None
