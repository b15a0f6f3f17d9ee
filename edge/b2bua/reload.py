"""The calls of an earlier process, from its journal: read, put back into their rooms, and let go on.

In steps, since rooms start at different times: `read_journal` before anything listens; `restore`, once sockets are
there but before the first message is read, of those calls in which something is under way; `resume` when messages may
leave. Calls that are merely up follow a few at a time, and at once when a message of theirs comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dialplan.model import Direction, TargetKind
from edge.b2bua import parted, saved_runner
from edge.b2bua.calls import LINGER
from edge.b2bua.engine import Engine
from edge.b2bua.journal import ALIVE, NAMES, PARTED, RECORD, REFUSED, ROUTE, STATE
from edge.b2bua.parted import SavedParted
from edge.b2bua.port import ClientHandler, Timer
from edge.b2bua.runner import CallRunner
from edge.b2bua.saved_runner import Head, Names, SavedRoute, SavedRunner
from edge.b2bua.uas_leg import UasLeg
from edge.journal.file import read
from edge.journal.values import decode, parse
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
_AT_ONCE = 20
"""Calls that are put back in one go, some 5 ms of work, with a pause for messages in between."""
_PAUSE = 0.002
_HEAD_ROOM = 2048
_NO_VALUE = (ValueError, TypeError, KeyError, AttributeError)


@dataclass(slots=True)
class Written:
    """One call as the journal has it."""

    head: Head
    state: bytes | memoryview
    route: bytes | memoryview
    names: Names


@dataclass(slots=True)
class Found:
    """What the journal says. `last` is when the earlier process was last seen alive."""

    last: datetime
    shift: float = 0.0
    """Seconds from its clock to ours."""
    calls: dict[str, Written] = field(default_factory=dict)
    records: dict[str, bytes] = field(default_factory=dict)
    refused: dict[str, bytes] = field(default_factory=dict)
    parted: dict[str, SavedParted] = field(default_factory=dict)
    """Dialogs that ended within the last `LINGER` seconds, by our tags."""
    unreadable: int = 0

    def read(self, call_id: str) -> tuple[SavedRoute, SavedRunner] | None:
        """A call, its times on the clock of this process; None where it cannot be read. It is asked for once: what was
        written takes more room than the call, so it goes as calls come."""
        written = self.calls.pop(call_id)
        try:
            decided, saved = saved_runner.read(written.state, written.route, written.names)
        except _NO_VALUE as error:
            self.lost(call_id, error)
            return None
        if self.shift:
            _shift(saved, self.shift)
        return decided, saved

    def lost(self, call_id: str, error: Exception) -> None:
        """A call cannot be read."""
        self.unreadable += 1
        log.error("journal.unreadable", call=call_id, error=f"{type(error).__name__}: {error}")


def boot_id() -> str:
    """Names this run of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def read_journal(folder: Path, clock: Clock, boot: str) -> Found:
    """The last state of each call, its times on the clock of this process. Raises OSError."""
    states: dict[bytes, tuple[bytes | memoryview, Names]] = {}
    routes: dict[bytes, bytes | memoryview] = {}
    names: Names = {}
    records: dict[bytes, bytes] = {}
    refused: dict[bytes, bytes] = {}
    over: dict[bytes, bytes | memoryview] = {}
    alive: bytes | memoryview = b""
    for kind, key, content in read(folder):
        if kind == STATE:
            states[key] = content, names
        elif kind == NAMES:
            names = parse(content)
        elif kind == ROUTE:
            routes[key] = content
        elif kind == RECORD:
            records[key] = bytes(content)
        elif kind == REFUSED:
            refused[key] = bytes(content)
        elif kind == PARTED:
            over[key] = content
        elif kind == ALIVE:
            alive = content
    found = Found(last=clock.utcnow())
    if alive:
        then, wall, run = parse(alive)
        found.last = datetime.fromtimestamp(wall, UTC)
        if run != boot:
            # the machine was started anew: only the wall clock knows how long that took
            gone = max(0.0, (clock.utcnow() - found.last).total_seconds())
            found.shift = clock.now() - gone - then
    for key, (content, of) in states.items():
        if key in records:
            continue
        # a head is one line, and never long; the rest is looked at when the call is
        text = bytes(content[:_HEAD_ROOM]).partition(b"\n")[0]
        if len(text) == _HEAD_ROOM:
            text = bytes(content).partition(b"\n")[0]
        try:
            found.calls[key.decode()] = Written(decode(Head, parse(text)), content[len(text) + 1 :], routes[key], of)
        except _NO_VALUE as error:
            found.lost(key.decode(), error)
    found.records = {key.decode(): line for key, line in records.items()}
    found.refused = {key.decode(): line for key, line in refused.items()}
    for key, content in over.items():
        try:
            dialog = decode(SavedParted, parse(content))
        except _NO_VALUE as error:
            found.lost(key.decode(), error)
            continue
        dialog.at += found.shift
        if clock.now() - dialog.at < LINGER:
            found.parted[key.decode()] = dialog
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

    def left(self, timer: Timer) -> float:
        """See Wires."""
        return timer.when() - asyncio.get_running_loop().time()


class Reload:
    """Puts the calls of `found` back."""

    def __init__(
        self, found: Found, engine: Engine, wires: LiveWires, ringing: Callable[[TransactionId, UasLeg], None]
    ) -> None:
        """`ringing` hears which INVITE can still be cancelled."""
        self._found = found
        self._engine = engine
        self._wires = wires
        self._ringing = ringing
        self._fresh: list[tuple[CallRunner, SavedRunner]] = []
        self._by_tag: dict[str, str] = {}
        self._with_media: list[CallRunner] = []
        self._restored = 0
        self._all = len(found.calls)
        self.done = asyncio.Event()
        """All calls are there."""

    def restore(self) -> None:
        """Make the calls in which something is under way, and note the others."""
        calls = self._engine.calls
        for call_id, written in list(self._found.calls.items()):
            calls.books.begin("restart")
            if written.head.calm:
                calls.waiting[call_id] = None
                for tag in written.head.tags:
                    self._by_tag[tag] = call_id
            else:
                self._make(call_id)
        calls.on_missing = self._missing
        self._restore_parted()

    def _restore_parted(self) -> None:
        now = self._engine.driver.now()
        for tag, saved in self._found.parted.items():
            try:
                parted.restore(tag, saved, self._engine, self._wires, max(0.0, now - saved.at))
            except Exception as error:
                self._engine.internal_error("journal.restore", error, tag=tag)
        self._found.parted.clear()

    def _make(self, call_id: str) -> None:
        engine = self._engine
        engine.calls.waiting.pop(call_id, None)
        read = self._found.read(call_id)
        if read is None:
            engine.channels.release(call_id)
            engine.calls.books.end("failed")
            return
        decided, saved = read
        away = max(0.0, engine.driver.now() - saved.at)
        try:
            call = saved_runner.restore(call_id, saved, decided, engine, self._wires, away)
        except Exception as error:
            # one call that cannot be put back must not keep the others, nor the edge, from going on
            engine.channels.release(call_id)
            engine.calls.books.end("failed")
            engine.internal_error("journal.restore", error, call=call_id)
            return
        engine.calls.add(call)
        self._count(call)
        self._restored += 1
        self._fresh.append((call, saved))
        if isinstance(call.a, UasLeg) and call.a.waits_on is not None:
            self._ringing(call.a.waits_on, call.a)

    def _count(self, call: CallRunner) -> None:
        """Calls out to carriers go on to use up their budgets; what the earlier process saw of them it has counted."""
        targets = call.tries.target.values()
        if call.plan.direction is Direction.EMERGENCY or all(t.kind is not TargetKind.CARRIER for t in targets):
            return
        engine = self._engine
        since = (engine.clock.utcnow() - self._found.last).total_seconds()
        talked = 0.0 if call.answered_at is None else engine.driver.now() - call.answered_at - since
        engine.budgets.resume(call.id, call.plan.account, call.attempt.source, max(0.0, talked))

    def _missing(self, tag: str) -> None:
        call_id = self._by_tag.get(tag)
        if call_id is not None and self._engine.calls.waits(call_id):
            self._make(call_id)
            self._resume()

    def resume(self) -> None:
        """Let them go on, and the others follow."""
        if self._all or self._found.unreadable:
            log.info(
                "calls.restored",
                calls=self._all,
                at_once=self._restored,
                unreadable=self._found.unreadable,
                records=len(self._found.records),
                last_alive=self._found.last.isoformat(),
            )
        self._resume()
        self._follow()

    def _resume(self) -> None:
        fresh, self._fresh = self._fresh, []
        for call, saved in fresh:
            saved_runner.join(self._engine.calls.get, call, saved)
        for call, saved in fresh:
            if saved.media.get("holds") and saved.finish is None:
                self._with_media.append(call)
            try:
                saved_runner.resume(call, saved, self._found.last)
            except Exception as error:
                self._engine.internal_error("journal.resume", error, call=call.id)
                call.end(41, "internal error")

    def _follow(self) -> None:
        waiting = self._engine.calls.waiting
        for _ in range(min(_AT_ONCE, len(waiting))):
            self._make(next(reversed(waiting)))  # the youngest first: they may still repeat their 2xx
        self._resume()
        if waiting:
            asyncio.get_running_loop().call_later(_PAUSE, self._follow)
        else:
            self._found.calls.clear()
            self._by_tag.clear()
            self.done.set()

    async def check_media(self) -> None:
        """End the calls whose media the relay does not have any more. Beside everything else: it takes its time."""
        await self.done.wait()
        calls, self._with_media = self._with_media, []
        for start in range(0, len(calls), _CHECKED_AT_ONCE):
            some = [call for call in calls[start : start + _CHECKED_AT_ONCE] if not call.over]
            checked = await asyncio.gather(*(call.media.check() for call in some), return_exceptions=True)
            for call, there in zip(some, checked, strict=True):
                if isinstance(there, RelayError):
                    return  # the relay is away, which its calls are told otherwise
                if there is not True and not call.over:
                    saved_runner.lost(call, self._found.last, "the media did not outlive the restart of the edge")
