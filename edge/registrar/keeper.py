"""Keeps bindings: written behind and read at start, so that our restart is none of the phones; dropped at their end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol, cast

from config.away import AWAY
from config.snapshot import Snapshot
from config.tables.registrations import AorKey, RegistrationRow
from config.tables.write_behind import WriteBehind
from edge.observability.logging import get_logger
from edge.registrar.bindings import Aor, Binding, Kind, behind_nat
from edge.registrar.registrar import Registrar
from edge.sip.address import NameAddr
from edge.sip.errors import RemoteProtocolError
from edge.sip.flow import Address, Flow, Transport
from edge.sip.params import Params, quote
from edge.sip.uri import Uri
from edge.transport.clock import Clock

_log = get_logger("registrar")
_EXPIRE_EVERY = 2.0
"""Seconds; nobody is called at a contact that ran out meanwhile, since the registrar looks at the time itself."""

_PATIENCE = 0.4
"""Seconds: less than T1, so that no REGISTER is sent again because its answer waits."""


class RegistrationStore(Protocol):
    """What is needed of `config.tables.registrations`."""

    async def load(self, now: datetime) -> list[RegistrationRow]:
        """Bindings of this edge that still hold."""
        ...

    async def save(self, changes: Mapping[AorKey, list[RegistrationRow]]) -> None:
        """Replace all rows of these AORs, all or nothing."""
        ...


class Keeper:
    """Carries every change of the registrar to the store, without anybody waiting."""

    def __init__(
        self,
        registrar: Registrar,
        store: RegistrationStore,
        clock: Clock,
        snapshot: Callable[[], Snapshot],
        taken_over: Callable[[], Mapping[Flow, Flow]] = dict,
    ) -> None:
        """`taken_over`: connections of the last run that are still open, by their flow without its number."""
        self._registrar = registrar
        self._store = store
        self._clock = clock
        self._snapshot = snapshot
        self._taken_over = taken_over
        self._writer: WriteBehind[Aor, None] = WriteBehind(self._save, self._failed)
        self._loaded = False
        self._stopped = asyncio.Event()
        registrar.listen(lambda aor: self._writer.put(aor, None))

    def when_stored(self, then: Callable[[], None]) -> None:
        """Call `then`, once, when the changes so far are stored; after `_PATIENCE` seconds in any case, and at once
        while the database is away: a registration never fails for the database's sake."""
        timer: asyncio.TimerHandle | None = None
        called = False

        def once() -> None:
            nonlocal called
            if not called:
                called = True
                if timer is not None:
                    timer.cancel()
                then()

        self._writer.when_stored(once)
        if not called:
            timer = asyncio.get_running_loop().call_later(_PATIENCE, once)

    @property
    def pending(self) -> int:
        """AORs whose change is not stored yet."""
        return self._writer.pending

    async def load(self) -> int:
        """Read the bindings of the last run; call it after the snapshot was applied.

        0 while the database is away: they are read when it has come back, as far as they still hold.
        """
        now, utc = self._clock.now(), self._clock.utcnow()
        try:
            rows = await self._store.load(utc)
        except AWAY as error:
            _log.warning("registrations.not_loaded", detail=str(error))
            return 0
        self._loaded = True
        still_open = self._taken_over()
        bindings: list[Binding] = []
        for row in rows:
            try:
                binding = binding_of(row, now, utc)
                flow = still_open.get(binding.source)
                bindings.append(binding if flow is None else replace(binding, source=flow, connected=True))
            except (RemoteProtocolError, ValueError) as error:
                _log.warning("registrations.bad_row", seat=row.aor, detail=str(error))
        self._registrar.restore(bindings, now)
        _log.info("registrations.loaded", bindings=len(bindings))
        return len(bindings)

    async def run(self) -> None:
        """Write behind, and drop what runs out, until `stop`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._writer.run())
            group.create_task(self._expire())

    def stop(self) -> None:
        """Let `run` end after a last attempt to write."""
        self._stopped.set()
        self._writer.stop()

    async def _expire(self) -> None:
        while not self._stopped.is_set():
            self._registrar.expire(self._clock.now())
            try:
                async with asyncio.timeout(_EXPIRE_EVERY):
                    await self._stopped.wait()
            except TimeoutError:
                pass

    async def _save(self, batch: Mapping[Aor, None]) -> None:
        now, utc, snapshot = self._clock.now(), self._clock.utcnow(), self._snapshot()
        changes: dict[AorKey, list[RegistrationRow]] = {}
        for aor in batch:
            account = _account(aor, snapshot)
            bindings = self._registrar.own(aor, now) if account is not None else []
            changes[aor] = [_row(b, account or "", now, utc) for b in bindings]
        await self._store.save(changes)
        if not self._loaded:
            await self.load()

    def _failed(self, error: Exception) -> None:
        _log.warning("registrations.not_stored", pending=self._writer.pending, detail=str(error))


def _account(aor: Aor, snapshot: Snapshot) -> str | None:
    who = snapshot.seats.get(aor.username) if aor.kind == "seat" else snapshot.trunk_by_username(aor.username)
    return who.account if who is not None else None


def _row(binding: Binding, account: str, now: float, utc: datetime) -> RegistrationRow:
    source = binding.source
    return RegistrationRow(
        aor_kind=binding.aor.kind,
        aor=binding.aor.username,
        contact_uri=str(binding.uri),
        account=account,
        instance_id=binding.instance,
        reg_id=binding.reg_id,
        call_id=binding.call_id,
        cseq=binding.cseq,
        q=binding.q,
        expires_at=utc + timedelta(seconds=binding.expires_at - now),
        registered_at=utc - timedelta(seconds=now - binding.registered_at),
        user_agent=binding.user_agent or None,
        transport=source.transport,
        local_host=source.local.host,
        local_port=source.local.port,
        remote_host=source.remote.host,
        remote_port=source.remote.port,
        path=list(binding.path),
    )


def binding_of(row: RegistrationRow, now: float, utc: datetime, *, connected: bool = True) -> Binding:
    """The binding of a row; `connected`: its flow can be used if it is UDP. Raises ValueError, RemoteProtocolError."""
    if row.transport not in ("udp", "tcp", "tls") or not (row.remote_host and row.local_host):
        raise ValueError(f"no flow in transport {row.transport!r}")
    uri = Uri.parse(row.contact_uri)
    params = Params() if row.q == 1.0 else Params((("q", f"{row.q:.3g}"),))
    if row.instance_id is not None:
        params = params.with_("+sip.instance", quote(row.instance_id))
    if row.reg_id is not None:
        params = params.with_("reg-id", str(row.reg_id))
    transport = cast(Transport, row.transport)
    return Binding(
        aor=Aor(cast(Kind, row.aor_kind), row.aor),
        contact=NameAddr(uri, None, params),
        expires_at=now + (row.expires_at - utc).total_seconds(),
        call_id=row.call_id,
        cseq=row.cseq,
        source=Flow(
            transport, Address(row.local_host, row.local_port or 0), Address(row.remote_host, row.remote_port or 0)
        ),
        connected=connected and transport == "udp",
        path=tuple(row.path),
        q=row.q,
        instance=row.instance_id,
        reg_id=row.reg_id,
        bulk="bnc" in uri.params,
        behind_nat=behind_nat(uri.host, row.remote_host, tuple(row.path)),
        user_agent=row.user_agent or "",
        registered_at=now - (utc - row.registered_at).total_seconds(),
    )
