"""Table `carrier_states`: how each edge stands with each carrier, for operators and portals."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from config.tables.storable import storable
from config.tables.write_behind import Acquire


class CarrierStateRow(NamedTuple):
    """One carrier as one edge sees it. Times are aware UTC datetimes."""

    carrier: str
    state: str
    """registered, registering, retrying, fault, unregistering, stopped; up or down for carriers known by address."""
    since: datetime
    detail: str | None
    """The last failure in words; None while all is well."""
    registered_until: datetime | None
    remote: str | None
    """Transport and address of the flow, None where there is none."""
    last_status: int | None


_COLUMNS = ", ".join(CarrierStateRow._fields)
_INSERT = (
    f"INSERT INTO sip_edge.carrier_states ({_COLUMNS}, edge)"
    f" VALUES ({', '.join(f'${i + 1}' for i in range(len(CarrierStateRow._fields) + 1))})"
    " ON CONFLICT (carrier, edge) DO UPDATE SET "
    + ", ".join(f"{c} = excluded.{c}" for c in CarrierStateRow._fields if c != "carrier")
)


class CarrierStatesTable:
    """The rows of one edge."""

    def __init__(self, acquire: Acquire, edge: str) -> None:
        """`acquire`: a pool's. Methods raise what asyncpg raises."""
        self._acquire = acquire
        self._edge = edge

    async def save(self, changes: Mapping[str, CarrierStateRow | None]) -> None:
        """Store these states; None removes a carrier's. In one transaction."""
        gone = [name for name, row in changes.items() if row is None]
        rows = [(*map(storable, row), self._edge) for row in changes.values() if row is not None]
        async with self._acquire() as connection, connection.transaction():
            if gone:
                await connection.execute(
                    "DELETE FROM sip_edge.carrier_states WHERE edge = $1 AND carrier = ANY($2)", self._edge, gone
                )
            if rows:
                await connection.executemany(_INSERT, rows)

    async def clear(self) -> None:
        """Forget all states of this edge, at its start: what they said ended with its last run."""
        async with self._acquire() as connection:
            await connection.execute("DELETE FROM sip_edge.carrier_states WHERE edge = $1", self._edge)
