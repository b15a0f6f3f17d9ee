"""The calls of an earlier process, from its journal: read, put back into their rooms, and let go on.

In three steps, since rooms start at different times: `read_journal` before anything listens, `restore` once sockets are
there but before the first message is read, `resume` when messages may leave.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from edge.b2bua import saved_runner
from edge.b2bua.engine import Engine
from edge.b2bua.journal import ALIVE, RECORD, ROUTE, STATE
from edge.b2bua.port import ClientHandler
from edge.b2bua.runner import CallRunner
from edge.b2bua.saved_runner import SavedRoute, SavedRunner
from edge.b2bua.uas_leg import UasLeg
from edge.journal.file import read
from edge.journal.values import decode
from edge.observability.logging import get_logger
from edge.sip.message import Request
from edge.sip.transaction.key import TransactionId
from edge.sip.transaction.saved import SavedTransaction
from edge.transport.clock import Clock
from edge.transport.driver import Driver
from edge.transport.exchange import Exchange
from media.relay.port import RelayError

log = get_logger("journal")

_CHECKED_AT_ONCE = 100


@dataclass(slots=True)
class Found:
    """What the journal says. `last` is when the earlier process was last seen alive."""

    last: datetime
    calls: dict[str, tuple[SavedRoute, SavedRunner]] = field(default_factory=dict)
    records: dict[str, bytes] = field(default_factory=dict)
    unreadable: int = 0


def boot_id() -> str:
    """Names this run of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def read_journal(folder: Path, clock: Clock, boot: str) -> Found:
    """The last state of each call, its times on the clock of this process. Raises OSError."""
    states: dict[bytes, bytes] = {}
    routes: dict[bytes, bytes] = {}
    records: dict[bytes, bytes] = {}
    alive = b""
    for kind, key, content in read(folder):
        if kind == STATE:
            states[key] = content
        elif kind == ROUTE:
            routes[key] = content
        elif kind == RECORD:
            records[key] = content
        elif kind == ALIVE:
            alive = content
    found = Found(last=clock.utcnow())
    shift = 0.0
    if alive:
        then, wall, of = json.loads(alive)
        found.last = datetime.fromtimestamp(wall, UTC)
        if of != boot:
            # the machine was started anew: only the wall clock knows how long that took
            gone = max(0.0, (clock.utcnow() - found.last).total_seconds())
            shift = clock.now() - gone - then
    for key, content in states.items():
        if key in records:
            continue
        call_id = key.decode()
        try:
            saved = decode(SavedRunner, json.loads(content))
            found.calls[call_id] = decode(SavedRoute, json.loads(routes[key])), saved
        except (ValueError, TypeError, KeyError) as error:
            found.unreadable += 1
            log.error("journal.unreadable", call=call_id, error=f"{type(error).__name__}: {error}")
            continue
        if shift:
            _shift(saved, shift)
    found.records = {key.decode(): line for key, line in records.items()}
    return found


def _shift(saved: SavedRunner, by: float) -> None:
    saved.at += by
    call = saved.call
    call.ringing_at = call.ringing_at + by if call.ringing_at is not None else None
    call.answered_at = call.answered_at + by if call.answered_at is not None else None


class LiveWires:
    """`saved_leg.Wires` over the real driver and exchange."""

    def __init__(self, driver: Driver, exchange: Exchange) -> None:
        self._driver = driver
        self._exchange = exchange

    def save(self, tx: TransactionId) -> SavedTransaction | None:
        """See Wires."""
        return self._driver.save(tx)

    def save_client(self, request: Request) -> tuple[SavedTransaction, ClientHandler | None] | None:
        """See Wires."""
        found = self._driver.save_client(request)
        return None if found is None else (found[1], self._exchange.handler(found[0]))

    def restore(self, transaction: SavedTransaction, request: Request) -> TransactionId:
        """See Wires."""
        return self._driver.restore(transaction, request)

    def adopt(self, tx: TransactionId, handler: ClientHandler, *, answered: bool) -> None:
        """See Wires."""
        self._exchange.adopt(tx, handler, answered=answered)

    def left(self, timer: object) -> float:
        """See Wires."""
        assert isinstance(timer, asyncio.TimerHandle) or hasattr(timer, "when")
        return float(timer.when() - asyncio.get_running_loop().time())


class Reload:
    """Puts the calls of `found` back."""

    def __init__(self, found: Found, engine: Engine, wires: LiveWires) -> None:
        self._found = found
        self._engine = engine
        self._wires = wires
        self._calls: list[tuple[CallRunner, SavedRunner]] = []

    def restore(self, ringing: Callable[[TransactionId, UasLeg], None]) -> None:
        """Make the calls; `ringing` hears which INVITE can still be cancelled."""
        engine, now = self._engine, self._engine.driver.now()
        for call_id, (decided, saved) in self._found.calls.items():
            try:
                call = saved_runner.restore(call_id, saved, decided, engine, self._wires, max(0.0, now - saved.at))
            except Exception as error:
                # one call that cannot be put back must not keep the others, nor the edge, from going on
                engine.internal_error("journal.restore", error, call=call_id)
                continue
            engine.calls.books.begin("restart")
            engine.calls.add(call)
            self._calls.append((call, saved))
            if isinstance(call.a, UasLeg) and call.a.waits_on is not None:
                ringing(call.a.waits_on, call.a)
        for call, saved in self._calls:
            saved_runner.join(engine.calls.get, call, saved)

    def resume(self) -> None:
        """Let them go on."""
        for call, saved in self._calls:
            try:
                saved_runner.resume(call, saved, self._found.last)
            except Exception as error:
                self._engine.internal_error("journal.resume", error, call=call.id)
                call.end(41, "internal error")
        if self._calls or self._found.unreadable:
            log.info(
                "calls.restored",
                calls=len(self._calls),
                unreadable=self._found.unreadable,
                records=len(self._found.records),
                last_alive=self._found.last.isoformat(),
            )

    async def check_media(self) -> None:
        """End the calls whose media the relay does not have any more. Beside everything else: it takes its time."""
        calls = [call for call, saved in self._calls if saved.finish is None and saved.media.get("holds")]
        for start in range(0, len(calls), _CHECKED_AT_ONCE):
            some = [call for call in calls[start : start + _CHECKED_AT_ONCE] if not call.over]
            checked = await asyncio.gather(*(call.media.check() for call in some), return_exceptions=True)
            for call, there in zip(some, checked, strict=True):
                if isinstance(there, RelayError):
                    return  # the relay is away, which its calls are told otherwise
                if there is not True and not call.over:
                    saved_runner.lost(call, self._found.last, "the media did not outlive the restart of the edge")
