"""Phones that registered with another edge, and are reached through the proxy in front of both (RFC 3327).

A binding with a Path does not end in the process that accepted it: whoever sends to the proxy reaches the phone. So
edges behind one border read each other's such rows: all at the start, then what changes, as the writers tell it. Calls
ask memory, never the database. While the database is away the last that was heard holds, until it runs out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import asyncpg

from config.away import AWAY
from config.tables.registrations import CHANNEL, AorKey, RegistrationRow
from edge.observability.logging import get_logger
from edge.registrar.bindings import Aor, Binding, Kind
from edge.registrar.keeper import binding_of
from edge.sip.errors import RemoteProtocolError
from edge.transport.clock import Clock

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.connection import Connection
    from asyncpg.pool import PoolConnectionProxy

_GATHER = 0.05
_PROBE_EVERY = 15.0
_FIRST_DELAY, _LAST_DELAY = 0.2, 5.0

log = get_logger("registrar")


class OthersStore(Protocol):
    """What is needed of `config.tables.registrations`."""

    async def load_others(self, now: datetime, aors: Iterable[AorKey] | None = None) -> list[RegistrationRow]:
        """Bindings with a Path that other edges hold; of these AORs only, where they are given."""
        ...


class Neighbours:
    """Bindings that other edges hold, by AOR."""

    def __init__(self, url: str, store: OthersStore, clock: Clock) -> None:
        self._url = url
        self._store = store
        self._clock = clock
        self._by_aor: dict[Aor, tuple[Binding, ...]] = {}
        self._changed: set[AorKey] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._told = False

    def contacts(self, aor: Aor, own: list[Binding], now: float) -> list[Binding]:
        """All live bindings of an AOR: `own`, and others' that a device has not registered with us since."""
        theirs = [b for b in self._by_aor.get(aor, ()) if b.expires_at > now]
        if not theirs:
            return own

        def newest(binding: Binding, among: list[Binding]) -> bool:
            return not any(o.registered_by(binding) and o.registered_at > binding.registered_at for o in among)

        return [b for b in own if newest(b, theirs)] + [b for b in theirs if newest(b, own)]

    async def run(self) -> None:
        """Hear what changes, until `stop`."""
        delay = _FIRST_DELAY
        while not self._stopping:
            try:
                connection = await asyncpg.connect(self._url, timeout=5)
                try:
                    delay = _FIRST_DELAY
                    await self._follow(connection)
                finally:
                    connection.terminate()
            except AWAY as error:
                if not self._told:
                    self._told = True
                    log.warning("neighbours.lost", detail=f"{type(error).__name__}: {error}")
                await self._rest(delay)
                delay = min(2 * delay, _LAST_DELAY)

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping = True
        self._wake.set()

    async def _follow(self, connection: Connection[Record]) -> None:
        await connection.add_listener(CHANNEL, self._notified)
        self._changed.clear()
        found = await self._load(None)
        self._by_aor = found
        self._told = False
        log.info("neighbours.loaded", bindings=sum(map(len, found.values())))
        while not self._stopping:
            await self._rest(_PROBE_EVERY)
            if not self._changed:
                await connection.execute("SELECT 1", timeout=5)
                continue
            await asyncio.wait([asyncio.create_task(self._pause())])
            changed, self._changed = self._changed, set()
            fresh = await self._load(changed)
            for kind, username in changed:
                aor = Aor(_kind(kind), username)
                if aor in fresh:
                    self._by_aor[aor] = fresh[aor]
                else:
                    self._by_aor.pop(aor, None)

    async def _load(self, aors: set[AorKey] | None) -> dict[Aor, tuple[Binding, ...]]:
        now, utc = self._clock.now(), self._clock.utcnow()
        found: dict[Aor, list[Binding]] = {}
        for row in await self._store.load_others(utc, aors):
            try:
                # its flow ends in the other edge: only its Path leads there from here
                binding = binding_of(row, now, utc, connected=False)
            except (RemoteProtocolError, ValueError) as error:
                log.warning("registrations.bad_row", seat=row.aor, detail=str(error))
                continue
            found.setdefault(binding.aor, []).append(binding)
        return {aor: tuple(bindings) for aor, bindings in found.items()}

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    @staticmethod
    async def _pause() -> None:
        """What comes together is loaded together."""
        done = asyncio.Event()
        asyncio.get_running_loop().call_later(_GATHER, done.set)
        await done.wait()

    def _notified(
        self, _connection: Connection[Record] | PoolConnectionProxy[Record], _pid: int, _channel: str, payload: object
    ) -> None:
        for key in str(payload).split("\n"):
            kind, _, username = key.partition(" ")
            self._changed.add((kind, username))
        self._wake.set()


def _kind(text: str) -> Kind:
    return "trunk" if text == "trunk" else "seat"
