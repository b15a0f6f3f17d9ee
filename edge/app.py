"""The composition root: builds every room, starts them in order, stops them in reverse (docs/operations.md)."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import secrets
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from importlib.metadata import version
from typing import Literal, NoReturn
from uuid import UUID, uuid4

import asyncpg
from asyncpg import Record
from asyncpg.pool import PoolAcquireContext

from config.embedded import EmbeddedPostgres
from config.errors import ConfigError
from config.migrations.runner import migrate_up
from config.secrets import SecretBox, secret_box
from config.settings import Settings
from config.snapshot import Snapshot
from config.store import Store
from config.tables.carrier_states import CarrierStatesTable
from config.tables.registrations import RegistrationsTable
from edge import audit, data_protection
from edge.admin.http import AdminHttp
from edge.b2bua.call import CallTimers
from edge.b2bua.calls import Calls
from edge.b2bua.elsewhere import Elsewhere
from edge.b2bua.engine import Engine, Reach
from edge.b2bua.journal import Journal
from edge.b2bua.reload import LiveWires, Reload, boot_id, read_journal
from edge.b2bua.sip_port import SipPort
from edge.carriers.runner import Carriers
from edge.cdr.spool import Spool
from edge.cdr.tables import PostgresRecords
from edge.cdr.writer import RecordWriter
from edge.channels.postgres import PostgresCounts
from edge.channels.shared import SharedChannels
from edge.channels.upkeep import Upkeep
from edge.defence.alarms import Alarm, Alarms
from edge.defence.budgets import Budgets
from edge.defence.patterns import Patterns
from edge.defence.suspension import Suspension
from edge.defence.usage import BudgetUsage
from edge.defence.watch import Watched
from edge.fax.desk import FaxDesk
from edge.forgetting import Forgetting
from edge.from_settings import domains, guard_limits, hep_export, listener, mail_transport, tls_files, welcome
from edge.inbound.admission import Admission
from edge.inbound.bans import Bans
from edge.inbound.dispatch import Dispatch
from edge.inbound.handshakes import FailedHandshakes
from edge.inbound.identity import Identify
from edge.inbound.known_peers import KnownPeers, networks
from edge.inbound.registrations import Registrations
from edge.inbound.steps.authenticate import Authenticator, DigestSettings
from edge.inbound.steps.identify import Identifier
from edge.inbound.steps.strangers import Strangers
from edge.journal.file import JournalFile
from edge.observability.clock_watch import ClockWatch
from edge.observability.drop_watch import DropWatch
from edge.observability.kept import KeptTraces
from edge.observability.logging import get_logger
from edge.observability.loop_watch import LoopWatch
from edge.observability.metrics import Metrics
from edge.observability.trace import Tap
from edge.registrar.keeper import Keeper
from edge.registrar.neighbours import Neighbours
from edge.registrar.qualify import Qualifier
from edge.registrar.registrar import Registrar, RegistrarSettings
from edge.relays import media_address, media_relay
from edge.reload import SettingsReload
from edge.sip.auth.nonce import Nonces
from edge.sip.endpoint import Endpoint
from edge.sip.flow import Flow
from edge.sip.timers import TimerConfig
from edge.transport import inherited
from edge.transport.clock import RandomIds, SystemClock
from edge.transport.driver import Driver
from edge.transport.exchange import Exchange
from edge.transport.guard import Guard
from edge.transport.reach import reach
from edge.transport.resolver import CaresDns, Resolver
from edge.transport.size import Sizes
from edge.transport.tcp import StreamLimits
from edge.transport.tls import Tls
from edge.upgrade import moment
from edge.views import Views
from media.fax.engine import FaxEngine, FaxOptions
from media.fax.outbox import Outbox
from media.fax.spool import Spool as FaxSpool
from media.fax.tables import Acquire, FaxTables

log = get_logger("app")

STOP_SECONDS = 3.0
"""How long ended calls get to be acknowledged when the edge stops."""

DRAIN_SECONDS = 5.0
"""How long an edge that drains stays at least: whoever chooses among edges asks it once more, and hears 503."""

_TIMER_C = 610.0
"""Over the longest `answer_timeout` that there may be: calls have their own timer, which a reload may change."""


class Edge:
    """One running edge. `start` raises what its rooms raise: ListenError, RelayError, ConfigError, each in words."""

    driver: Driver
    registrar: Registrar
    carriers: Carriers
    kept: KeptTraces

    def __init__(
        self,
        settings: Settings,
        dropped_lines: Callable[[], int] = lambda: 0,
        load: Callable[[], Settings] | None = None,
    ) -> None:
        """`dropped_lines`: log lines lost so far, for the metric. `load` reads the settings anew, for a reload."""
        self.settings = settings
        self._dropped_lines = dropped_lines
        self.clock = SystemClock()
        self.ids = RandomIds()
        self.metrics = Metrics(version("sip-edge"), settings.edge_name)
        self.tap = Tap(settings.trace_megabytes * 1024 * 1024)
        self.calls = Calls()
        self.clock_watch = ClockWatch(lambda: self.clock.utcnow().timestamp(), self.clock.now)
        self.upgrade = asyncio.Event()
        """Set: another program is to take the place of this one."""
        self.leaving = asyncio.Event()
        """Set: this process ends and leaves its calls to the next one."""
        self._stack = AsyncExitStack()
        self.hep = hep_export(settings)
        self._stack.callback(lambda: self.hep.close() if self.hep is not None else None)
        self.reload = SettingsReload(self, load or (lambda: self.settings))
        self._random = random.Random()
        self._stays_until = 0.0

    async def start(self) -> None:
        """Bring everything up; the last thing is to listen."""
        settings, stack, clock = self.settings, self._stack, self.clock
        settings.data_dir.mkdir(mode=0o750, parents=True, exist_ok=True)

        url = settings.database
        if url is None:
            database = EmbeddedPostgres(settings.database_folder)
            url = await database.start()
            stack.push_async_callback(database.stop)
            # an embedded database has no other owner who could decide when
            connection = await asyncpg.connect(url)
            await migrate_up(connection)
            await connection.close()
        box = secret_box(settings)
        self.store = Store(url, box, settings.realm, settings.data_dir / "snapshot.cache")
        await self.store.start()
        stack.push_async_callback(self.store.stop)

        self.relay = media_relay(settings)
        await self.relay.start()
        stack.push_async_callback(self.relay.stop)

        def acquire() -> PoolAcquireContext[Record]:
            return self.store.pool().acquire()

        self.journal: Journal | None = None
        stack.callback(lambda: self.journal.close() if self.journal is not None else None)
        records = PostgresRecords(acquire)
        spool, fax_spool = Spool(settings.data_dir / "spool"), FaxSpool(settings.data_dir / "fax")
        self.writer = RecordWriter(spool, records, self.metrics)
        self._run(self.writer.run(), self.writer.close)
        self.records = records
        boot = boot_id()
        found = read_journal(settings.data_dir / "journal", clock, boot)
        for line in found.records.values():
            self.writer.put_again(line)
        for line in found.refused.values():
            self.writer.put_again(line, refused=True)
        purge = self._purge = data_protection.purge_job(self, acquire, spool, fax_spool)
        self.erasures = data_protection.erasures(self, acquire, spool, fax_spool)

        timers = TimerConfig(t1=settings.t1, t2=settings.t2, t4=settings.t4, c=_TIMER_C)
        self.guard = Guard(
            guard_limits(settings),
            refused=lambda verdict: self.metrics.dropped(verdict.value),
            known=lambda host: (
                self.registrar.has_bindings_from(host)
                or self.carriers.at(host)
                or identifier.is_certified(self.driver.connections.certified_peers.names_from(host))
            ),
            welcome=welcome(settings),
        )
        self.tls = Tls(tls_files(settings))
        dispatch: Dispatch
        self.driver = Driver(
            Endpoint(self.ids, timers),
            [listener(each, self.tls) for each in settings.effective_listeners],
            lambda event: dispatch.on_event(event),
            clock=clock,
            guard=self.guard,
            tap=self._on_message,
            tls_client=self.tls.client,
            tls_wildcards=settings.tls_wildcards,
            limits=StreamLimits(silence=settings.connection_timeout),
            internal_error=self.metrics.internal_error,
        )
        exchange = self.exchange = Exchange(self.driver, timers.transaction)
        resolver = self.resolver = Resolver(
            CaresDns(settings.dns_servers or None),
            clock,
            ipv4=any(":" not in listener.host for listener in settings.effective_listeners),
            ipv6=any(":" in listener.host for listener in settings.effective_listeners),
        )
        port = SipPort(self.driver, exchange, self.ids)

        self.registrar = Registrar(
            clock.utcnow,
            RegistrarSettings(
                settings.register_min_expires, settings.register_max_expires, settings.register_default_expires
            ),
        )
        self.keeper = Keeper(
            self.registrar,
            RegistrationsTable(acquire, settings.edge_name),
            clock,
            self.snapshot,
            self.driver.connections.taken_over,
        )
        self.qualifier = Qualifier(self.registrar, exchange, self.driver, self.ids, settings.realm, self._random.random)
        self.carriers = Carriers(
            self.driver,
            exchange,
            resolver,
            clock,
            self.ids,
            self._random.random,
            learn_address=not any(listener.advertised_host for listener in settings.effective_listeners),
            store=CarrierStatesTable(acquire, settings.edge_name),
            internal_error=self.metrics.internal_error,
            moved=lambda name, old, new: self.calls.move("carrier", name, old, new),
        )
        self.registrar.on_move = self.calls.move
        instance = uuid4()
        self.channels = SharedChannels(PostgresCounts(url, settings.edge_name, instance), clock.now)
        for call_id, written in found.calls.items():
            self.channels.restore(call_id, written.head.held)
            if written.head.target_claim is not None:
                self.channels.restore(written.head.target_claim, written.head.target_held)
        await self.channels.start()
        stack.push_async_callback(self.channels.stop)

        self.alarms = Alarms(settings.edge_name, clock.now, clock.utcnow, acquire, self.metrics.alarm)
        self._run(self.alarms.run(), self.alarms.stop)
        budgets = Budgets(clock.utcnow)
        patterns = Patterns(lambda account: self.snapshot().accounts.get(account))
        self.engine = Engine(
            name=settings.edge_name,
            driver=self.driver,
            port=port,
            relay=self.relay,
            registrar=self.registrar,
            carriers=self.carriers,
            channels=self.channels,
            records=Watched(self.writer, budgets, patterns, self.alarms, clock.now),
            metrics=self.metrics,
            tap=self.tap,
            calls=self.calls,
            clock=clock,
            snapshot=self.snapshot,
            timers=timers,
            call_timers=CallTimers(answer=settings.answer_timeout, longest=settings.max_call_seconds),
            domain=settings.realm,
            reach=self._reach(resolver),
            fitting=Sizes(self.driver).fitting,
            draw=self._random.random,
            internal_error=self._internal_error,
            srtp_without_tls=settings.srtp_without_tls,
            budgets=budgets,
        )
        self.budgets = BudgetUsage(
            budgets, self.calls, self.alarms, acquire, settings.edge_name, clock.now, clock.utcnow
        )
        suspension = Suspension(self.calls)
        self.driver.elsewhere = Elsewhere(self.engine, self.driver.send, self.driver.is_open)
        self.faxes = self._faxes(acquire, box, fax_spool)
        self.faxes.start()
        stack.push_async_callback(self.faxes.stop)
        identifier = Identifier(self.carriers, self.registrar.at, self.driver, domains(settings))
        self.identifier = identifier
        peers = KnownPeers(self.carriers.at)
        self.driver.connections.handshake_failed = FailedHandshakes(peers.at, clock.now)
        self.authenticator = authenticator = Authenticator(
            DigestSettings(settings.realm, settings.digest_algorithms),
            Nonces(secrets.token_bytes(32)),
            self.guard,
            self.metrics.auth_failed,
            self._attacked,
        )
        identify = Identify(identifier, authenticator, self.snapshot, self.carriers.authorize, self.driver.now)
        self.admission = Admission(self.engine, identify)
        port.on_final = self.admission.ended
        self.bans = Bans(self.guard, authenticator, clock.now, clock.utcnow)
        registrations = Registrations(self.engine, authenticator, self.keeper.when_stored)
        strangers = self.strangers = Strangers(identifier, self.guard, only_register=settings.strangers == "register")
        dispatch = Dispatch(self.engine, exchange, self.admission, registrations, strangers)

        await self.driver.start()
        stack.push_async_callback(self.driver.stop)
        # nothing was read yet: the first message finds the calls of an earlier process in their places
        wires = LiveWires(self.driver, exchange)
        reload = Reload(found, self.engine, wires, self.admission.rings)
        reload.restore()
        file = JournalFile(settings.data_dir / "journal")
        self.journal = Journal(file, self.calls, wires, self.channels.held, clock, boot)
        self.journal.synced = lambda: self.writer.synced
        self.journal.on_error = lambda call, error: self.engine.internal_error("journal.save", error, call=call)
        self.writer.on_call = self.journal.recorded
        self.writer.on_refused = self.journal.refused
        self.journal.attach()
        reload.resume()
        self.driver.wake()

        def apply(old: Snapshot, snapshot: Snapshot) -> None:
            self.guard.exempt(networks(snapshot))
            identifier.apply(snapshot)
            peers.apply(snapshot)
            self.registrar.apply(snapshot)
            self.carriers.apply(snapshot)
            authenticator.provisioned(old, snapshot)
            budgets.apply(snapshot)
            suspension.apply(old, snapshot)
            self.faxes.apply(snapshot)
            gc.freeze()  # a million rows must not be walked by every full collection

        apply(self.snapshot(), self.snapshot())
        self.store.on_swap(apply)
        await self.keeper.load()
        self._run(self.keeper.run(), self.keeper.stop)
        if settings.shared_registrations:
            neighbours = Neighbours(url, RegistrationsTable(acquire, settings.edge_name), clock)
            self.registrar.elsewhere = neighbours.contacts
            self._run(neighbours.run(), neighbours.stop)
        self._run(self.carriers.run(), self.carriers.stop)
        self._run(purge.run(), purge.close)
        self._run(self.erasures.run(), self.erasures.stop)
        self._run(self.budgets.run(), self.budgets.stop)
        self.qualifier.start()
        stack.callback(self.qualifier.stop)
        self.clock_watch.start()
        stack.callback(self.clock_watch.stop)
        watch = LoopWatch(self.metrics.loop_lag)
        watch.start()
        stack.callback(watch.stop)
        drops = DropWatch(self.driver.dropped, clock.now)
        drops.start()
        stack.callback(drops.stop)

        self._run(reload.check_media(), lambda: None)
        self.views = Views(self)
        upkeep = Upkeep(acquire, settings.edge_name, instance, self.views.live_calls, clock.now)
        self._run(upkeep.run(), upkeep.stop)
        self.kept = KeptTraces(
            settings.data_dir / "traces",
            settings.trace_disk_megabytes * 1024 * 1024,
            self.tap,
            self.driver.now,
            lambda: clock.utcnow().timestamp(),
        )
        self.tap.keep = self.kept.want
        self._run(self.kept.run(), self.kept.stop)
        self.audit = self._audit(acquire, instance, upkeep)
        self._run(self.audit.run(), self.audit.stop)
        forgetting = Forgetting(lambda: self.calls.forget(self.driver.now()), self.exchange.forget)
        self._run(forgetting.run(), forgetting.stop)
        self.metrics.attach(self.views.live, self._dropped_lines)
        self.admin = AdminHttp(self.views, settings.admin_host, settings.admin_port)
        await self.admin.start()
        stack.push_async_callback(self.admin.stop)
        stack.push_async_callback(self._end_calls)
        log.info(
            "edge.started",
            edge=settings.edge_name,
            listeners=[str(listener) for listener in settings.effective_listeners],
            admin=f"{settings.admin_host}:{settings.admin_port}",
            accounts=len(self.snapshot().accounts),
            carriers=len(self.snapshot().carriers),
        )

    async def stop(self) -> None:
        """Take no more calls, end those that are up, unregister, write what is to be written."""
        self.drain()
        await self._stack.aclose()
        log.info("edge.stopped")

    async def abandon(self) -> None:
        """Give back what a start that failed had taken."""
        await self._stack.aclose()

    def drain(self) -> int:
        """Take no new calls from now on; how many are up."""
        if not self.admission.draining:
            self._stays_until = self.clock.now() + DRAIN_SECONDS
        self.admission.draining = True
        self.faxes.draining = True
        if not len(self.calls):
            self.calls.on_empty()
        return len(self.calls)

    def reload_soon(self) -> None:
        """Reload the settings (SIGHUP); what came of it is in the log."""

        async def run() -> None:
            with suppress(ConfigError):
                await self.reload()

        task = asyncio.get_running_loop().create_task(run())
        task.add_done_callback(self._work_done)

    async def make_ready_to_go(self) -> None:
        """Before another program takes the place of this one: what is written behind is written, faxes end."""
        await self.faxes.stop()
        until = self.clock.now() + STOP_SECONDS
        keeper, writer, connections = self.keeper, self.writer, self.driver.connections
        while (keeper.pending or writer.unsynced or connections.unsent) and self.clock.now() < until:
            await moment()

    def go(self) -> NoReturn:
        """Let the program that is installed now take the place of this one, in this process: calls, listening sockets,
        connections and the relay stay. Does not return; what this program does after it is never done."""
        if self.journal is not None:
            self.journal.flush()
        self.driver.connections.hand_over()
        inherited.leave(self.driver.listening())
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def leave(self) -> NoReturn:
        """End this process at once and leave calls, registrations and the relay to the one that is started next
        (`systemctl restart`), which takes them over as after a crash. Does not return."""
        if self.journal is not None:
            self.journal.flush()
        os._exit(0)

    def reload_certificates(self) -> None:
        """Read all TLS files again; connections from now on use them, those that are up go on. Raises TlsFileError, in
        words, and then changes nothing."""
        self.tls.reload()
        self.driver.connections.tls_client = self.tls.client
        expires = self.tls.expires
        log.info("tls.reloaded", expires=expires.isoformat() if expires is not None else None)

    # -- what a reload changes (edge/reload.py) ----------------------------------------------------------------------

    def capture(self, settings: Settings) -> None:
        """Copy messages to the capture server of these settings from now on."""
        old, self.hep = self.hep, hep_export(settings)
        if old is not None:
            old.close(0.0)

    def use_mail(self, settings: Settings) -> None:
        """Mail faxes as these settings say from now on."""
        self._outbox.transport, self._outbox.sender = mail_transport(settings), settings.fax_sender

    def keep_calls(self, settings: Settings) -> None:
        """Keep call records for as long as these settings say from now on."""
        self._purge.keep_calls = timedelta(days=settings.call_records_keep_days)

    def snapshot(self) -> Snapshot:
        """The provisioning that holds now."""
        return self.store.snapshot

    # -- parts ------------------------------------------------------------------------------------------------------

    def _faxes(self, acquire: Acquire, box: SecretBox, spool: FaxSpool) -> FaxDesk:
        settings = self.settings
        media = media_address(settings)
        engine = FaxEngine(spool, FaxOptions(media, settings.media_ports))
        tables = FaxTables(acquire)
        outbox = self._outbox = Outbox(
            spool, tables, engine, mail_transport(settings), box, settings.fax_sender, self.clock.utcnow
        )
        return FaxDesk(self.engine, engine, outbox, tables, box, media, settings.media_advertised or media)

    def _audit(self, acquire: Acquire, instance: UUID, upkeep: Upkeep) -> audit.Audit:
        calls, writer, channels = self.calls, self.writer, self.channels
        return audit.Audit(
            {
                "attempts": lambda: audit.attempts(calls),
                "closing": lambda: audit.closing(calls, self.driver.now()),
                "outcomes": lambda: audit.outcomes(calls, self.metrics.calls),
                "records": lambda: audit.records(calls, writer),
                "spool": lambda: audit.spool(writer),
                "channels": lambda: audit.channels(calls, channels.holders()),
                "relay": lambda: audit.relay(calls, self.relay.sessions),
            },
            {
                "leases": lambda: audit.leases(acquire, instance, channels.leases, shared=channels.shared),
                "table": audit.Table(acquire, writer),
                "live-list": lambda: audit.live_list(
                    acquire, instance, calls, lambda: channels.shared and upkeep.fresh()
                ),
            },
        )

    def _reach(self, resolver: Resolver) -> Reach:
        return lambda uri, certificate=None: reach(self.driver, resolver, uri, certificate)

    def _on_message(self, direction: Literal["in", "out"], data: bytes, flow: Flow, now: float) -> None:
        self.tap.message(direction, data, flow, now)
        if self.hep is not None:
            self.hep.message(direction, data, flow)
        self.metrics.message(direction, flow.transport, data)

    def _run(self, work: Coroutine[None, None, None], end: Callable[[], Awaitable[None] | None]) -> None:
        """Run `work` beside everything else; when the edge stops, `end` is called and the work awaited."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._work_done)

        async def finish() -> None:
            ended = end()
            if ended is not None:
                await ended
            await asyncio.wait([task], timeout=STOP_SECONDS)
            task.cancel()

        self._stack.push_async_callback(finish)

    def _work_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._internal_error("app.task", error)

    def _attacked(self, kind: str, who: str) -> None:
        if kind == "sweep":
            self.alarms.raise_(Alarm("sweep", None, who, "asked for more than 20 users within a minute"))
        else:
            seat = self.snapshot().seats.get(who)
            account = seat.account if seat is not None else None
            self.alarms.raise_(Alarm("guessing", account, who, "the password of this user is being guessed"))

    def _internal_error(self, where: str, error: BaseException, **context: str) -> None:
        self.metrics.internal_error(where)
        log.error("internal_error", where=where, exc_info=error, **context)

    async def _end_calls(self) -> None:
        for call in self.calls.live():
            call.end(31, "the edge stops")
        await self.exchange.quiet(STOP_SECONDS)

    def when_drained(self, done: Callable[[], None]) -> None:
        """Call `done` once a drained edge has no call left, and has said for a while that it takes none."""

        def look() -> None:
            left = self._stays_until - self.clock.now()
            if not self.admission.draining or len(self.calls):
                return
            if left > 0:
                asyncio.get_running_loop().call_later(left, look)
            else:
                done()

        self.calls.on_empty = look
