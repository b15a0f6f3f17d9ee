"""An edge as a process: its signals, what the service manager hears of it, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable

from config.errors import ConfigError
from config.settings import Settings
from edge.admin.http import AdminPortTaken
from edge.app import Edge
from edge.cdr.spool import SpoolInUse
from edge.notify import Notify
from edge.observability.logging import LineWriter, configure, get_logger
from edge.relays import allow_descriptors
from edge.transport.errors import ListenError
from edge.transport.tls import TlsFileError
from edge.upgrade import first, new_program_works
from media.relay.port import RelayError
from media.relay.process import BadOption

log = get_logger("app")

CANNOT_START = (ConfigError, ListenError, AdminPortTaken, RelayError, BadOption, TlsFileError, SpoolInUse, OSError)
"""What keeps an edge from starting; each says in words what and what to do."""

GC_THRESHOLDS = (500, 1, 5_000)
"""Calls leave no cycles behind, so the collector finds next to nothing, and what it walks through waits. Young objects
are looked at in small lots: 500 more than were let go are some 2,000 of calls that ended and linger, half a
millisecond. All objects are walked (a quarter of a second with 300,000) once in so many lots that it comes hourly."""


async def serve(settings: Settings, load: Callable[[], Settings] | None = None) -> None:
    """Run an edge until SIGTERM or SIGINT, or until a drained edge has ended its last call. SIGHUP reloads the
    settings, which `load` reads; SIGUSR1 ends the process and leaves its calls to the next, SIGUSR2 is an upgrade.

    Raises ConfigError where it cannot start, with the thing and the remedy.
    """
    gc.set_threshold(*GC_THRESHOLDS)
    allow_descriptors()
    lines = LineWriter(2)
    configure(lines, settings.log_level, settings.log_mask_numbers)
    edge = Edge(settings, lambda: lines.dropped, load)
    notify = Notify()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        try:
            await edge.start()
        except CANNOT_START as error:
            await edge.abandon()
            raise ConfigError(str(error)) from None
        edge.when_drained(stop.set)
        loop.add_signal_handler(signal.SIGHUP, edge.reload_soon)
        notify.ready(f"{settings.edge_name} takes calls")
        loop.add_signal_handler(signal.SIGUSR1, edge.leaving.set)
        loop.add_signal_handler(signal.SIGUSR2, edge.upgrade.set)
        try:
            while not stop.is_set():
                await first(stop.wait(), edge.leaving.wait(), edge.upgrade.wait())
                if edge.leaving.is_set() and not stop.is_set():
                    await edge.make_ready_to_go()
                    log.info("edge.leaving", calls=len(edge.calls))
                    lines.close()
                    edge.leave()
                if edge.upgrade.is_set():
                    edge.upgrade.clear()
                    if await new_program_works():
                        await edge.make_ready_to_go()
                        log.info("edge.upgrading", calls=len(edge.calls), connections=len(edge.driver.connections))
                        lines.close()
                        edge.go()
        finally:
            notify.stopping()
            await edge.stop()
    finally:
        lines.close()
