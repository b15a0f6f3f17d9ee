"""A person's data is erased everywhere: this edge carries out what `sip-edge privacy erase` wrote into the database.

The command erases the tables itself. Each edge then takes the messages of the person's calls out of its memory, disk
and journal, and once nothing from before the erasure is on its way into the tables any more, erases there again, for
what came late: records of an outage, of calls that were up. Edges look once a minute; one that was away does when it is
back.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from config.away import AWAY
from edge.observability.logging import get_logger
from edge.retention.purge import EVERY, Acquire

log = get_logger("retention")

_OPEN = "SELECT id, at, seat, salt, numbers, calls FROM sip_edge.erasures WHERE NOT id = ANY ($1::bigint[]) ORDER BY id"


@dataclass(frozen=True, slots=True)
class Person:
    """Whom an erasure is about, as far as others may know: the seat's name, and digests of numbers."""

    seat: str
    salt: str
    numbers: frozenset[str]

    def is_named_in(self, line: bytes) -> bool:
        """Whether a record (JSON, `edge.cdr.record.to_json`) is of a call of this person."""
        try:
            row = json.loads(line)
        except ValueError:
            return False
        if not isinstance(row, dict):
            return False
        if any(
            row.get(f"{side}_kind") == "seat" and row.get(f"{side}_name") == self.seat for side in ("source", "target")
        ):
            return True
        return any(isinstance(value, str) and self.has(value) for value in row.values())

    def has(self, number: str) -> bool:
        """Whether this is one of the person's numbers."""
        return sha256((self.salt + number).encode("utf-8", "replace")).hexdigest() in self.numbers


@dataclass(slots=True)
class _Work:
    """An erasure that is not over here."""

    forgotten: int = 0
    """Of its calls, whose messages are gone."""
    erased: bool = False
    """In the tables, once at least."""
    gone: int = 0


class Erasures:
    """Run it beside the edge, or ask for one round (`once`)."""

    def __init__(
        self,
        acquire: Acquire,
        forget: Callable[[Iterable[str]], int],
        forget_files: Callable[[Person], int],
        settled: Callable[[datetime], bool],
    ) -> None:
        """`forget` lets go of the messages of calls, by our ids of them; `forget_files` of whatever names a person on
        disk; both say of how many there were any. `settled`: nothing from before that time is on its way into the
        database."""
        self._acquire = acquire
        self._forget = forget
        self._forget_files = forget_files
        self._settled = settled
        self._work: dict[int, _Work] = {}
        self._over: set[int] = set()
        self._stopping = asyncio.Event()

    async def once(self) -> int:
        """Carry out what is not over; how many calls' messages and files went. Raises what asyncpg raises."""
        total = 0
        async with self._acquire() as connection:
            for number, at, seat, salt, numbers, calls in await connection.fetch(_OPEN, list(self._over)):
                work = self._work.setdefault(number, _Work())
                settled = self._settled(at)
                if settled or not work.erased:
                    if await connection.fetchval("SELECT sip_edge.erase_again($1)", number):
                        calls = await connection.fetchval("SELECT calls FROM sip_edge.erasures WHERE id = $1", number)
                    work.erased = True
                gone = self._forget(calls[work.forgotten :]) + self._forget_files(
                    Person(seat, salt, frozenset(numbers))
                )
                work.forgotten = len(calls)
                work.gone += gone
                total += gone
                if settled:
                    log.info("privacy.erased", erasure=number, messages=work.gone)
                    self._over.add(number)
                    del self._work[number]
        return total

    async def run(self) -> None:
        """Work until `stop`."""
        away = False
        while not self._stopping.is_set():
            try:
                await self.once()
                away = False
            except AWAY as error:
                if not away:
                    log.warning("privacy.not_erased", error=f"{type(error).__name__}: {error}")
                away = True
            try:
                async with asyncio.timeout(EVERY):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()
