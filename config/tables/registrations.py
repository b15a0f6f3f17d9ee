"""Table `registrations`: bindings of seats and trunks, so that they survive a restart and can be looked at.

Each edge owns its rows (`edge`): the flow of a binding ends in the process that accepted it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from config.tables.storable import storable
from config.tables.write_behind import Acquire

AorKey = tuple[str, str]
"""`seat` or `trunk`, and the username."""


class RegistrationRow(NamedTuple):
    """One binding. Times are aware UTC datetimes; `transport` and the addresses are those of the flow."""

    aor_kind: str
    aor: str
    contact_uri: str
    account: str
    instance_id: str | None
    reg_id: int | None
    call_id: str
    cseq: int
    q: float
    expires_at: datetime
    registered_at: datetime
    user_agent: str | None
    transport: str
    local_host: str | None
    local_port: int | None
    remote_host: str | None
    remote_port: int | None
    path: list[str]


_COLUMNS = ", ".join(RegistrationRow._fields)
_KEY = ("aor_kind", "aor", "contact_uri")
_INSERT = (
    f"INSERT INTO sip_edge.registrations ({_COLUMNS}, edge)"
    f" VALUES ({', '.join(f'${i + 1}' for i in range(len(RegistrationRow._fields) + 1))})"
    f" ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    + ", ".join(f"{c} = excluded.{c}" for c in (*RegistrationRow._fields, "edge") if c not in _KEY)
)
_DELETE = (
    "DELETE FROM sip_edge.registrations r USING unnest($2::text[], $3::text[]) AS gone(kind, aor)"
    " WHERE r.edge = $1 AND r.aor_kind = gone.kind AND r.aor = gone.aor"
)
CHANNEL = "sip_edge_registrations"
"""Where edges tell which AORs changed whose contacts others can reach: lines of `kind username`."""
_MOST_TOLD = 100
_LOAD_OTHERS = f"SELECT {_COLUMNS} FROM sip_edge.registrations WHERE edge <> $1 AND expires_at > $2 AND path <> '{{}}'"
_OF_AORS = " AND (aor_kind, aor) IN (SELECT * FROM unnest($3::text[], $4::text[]))"
_LOAD = f"SELECT {_COLUMNS} FROM sip_edge.registrations WHERE edge = $1 AND expires_at > $2"


class RegistrationsTable:
    """The rows of one edge."""

    def __init__(self, acquire: Acquire, edge: str) -> None:
        """`acquire`: a pool's. Methods raise what asyncpg raises."""
        self._acquire = acquire
        self._edge = edge

    async def load(self, now: datetime) -> list[RegistrationRow]:
        """This edge's bindings that still hold at `now`."""
        async with self._acquire() as connection:
            rows = await connection.fetch(_LOAD, self._edge, now)
        return [RegistrationRow(*row.values()) for row in rows]

    async def load_others(self, now: datetime, aors: Iterable[AorKey] | None = None) -> list[RegistrationRow]:
        """Bindings with a Path that other edges hold at `now`; of `aors` only, where they are given."""
        query = _LOAD_OTHERS
        values: list[object] = [self._edge, now]
        if aors is not None:
            keys = list(aors)
            query += _OF_AORS
            values += [[kind for kind, _ in keys], [aor for _, aor in keys]]
        async with self._acquire() as connection:
            rows = await connection.fetch(query, *values)
        return [RegistrationRow(*row.values()) for row in rows]

    async def save(self, changes: Mapping[AorKey, list[RegistrationRow]]) -> None:
        """Replace all rows of these AORs, in one transaction."""
        # A device may keep two flows with one contact (RFC 5626); the newest row stands for it here.
        rows = {row[:3]: row for rows in changes.values() for row in sorted(rows, key=lambda r: r.registered_at)}
        async with self._acquire() as connection, connection.transaction():
            await connection.execute(_DELETE, self._edge, [k for k, _ in changes], [a for _, a in changes])
            if rows:
                await connection.executemany(_INSERT, [(*map(storable, row), self._edge) for row in rows.values()])
            told = [f"{kind} {aor}" for (kind, aor), left in changes.items() if not left or any(r.path for r in left)]
            for start in range(0, len(told), _MOST_TOLD):
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, "\n".join(told[start:][:_MOST_TOLD]))
