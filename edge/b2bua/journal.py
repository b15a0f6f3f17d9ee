"""The journal of live calls: what another process needs to go on with them (docs/architecture.md, "A restart").

Whatever happens to a call marks it, and 20 ms later all marked calls are written in one go. Calls whose record was
written leave it here too until it is safe in the spool, so that neither a call nor its record is ever nowhere.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from edge.b2bua import parted, saved_runner
from edge.b2bua.calls import LINGER, Calls
from edge.b2bua.leg import Leg
from edge.b2bua.runner import CallRunner
from edge.b2bua.saved_leg import Wires
from edge.b2bua.saved_runner import Held
from edge.journal.file import Frame, JournalFile
from edge.journal.values import encode
from edge.observability.logging import get_logger
from edge.transport.clock import Clock

log = get_logger("journal")

BEHIND = 0.02
"""Seconds that the journal is behind the calls at most."""
HEARTBEAT = 1.0
NAMES, ROUTE, STATE, RECORD, REFUSED, PARTED, ALIVE = b"N", b"P", b"S", b"R", b"F", b"E", b"H"
_SMALLEST = 16 * 1024 * 1024
"""Bytes that a segment has room for beyond twice what its calls needed when it began."""
_AT_ONCE = 40
"""Calls of an old segment that are written anew with each flush."""
_RETRY = 1.0


class _Written:
    """What is in the journal of one call."""

    __slots__ = ("plan", "segment", "steps")

    def __init__(self) -> None:
        self.segment = 0
        self.plan: object = None
        self.steps = 0


class Journal:
    """Keeps the calls of `calls`; `attach` it once they are restored. All in the event loop."""

    def __init__(self, file: JournalFile, calls: Calls, wires: Wires, held: Held, clock: Clock, boot: str) -> None:
        """`boot` names the run of the machine: the monotonic clock goes on across processes, not across boots."""
        self._file = file
        self._calls = calls
        self._wires = wires
        self._held = held
        self._clock = clock
        self._boot = boot
        self._written: dict[str, _Written] = {}
        self._marked: dict[str, CallRunner] = {}
        self._frames: list[Frame] = []
        self._kept: deque[tuple[int, Frame]] = deque()
        self._parting: list[str] = []
        self._parted: dict[str, tuple[float, Frame]] = {}
        """Dialogs that are over, by our tags, oldest first, with when they are forgotten."""
        self._unheard: dict[str, Leg] = {}
        """Those of them of which the peer has not heard it."""
        self._old: deque[str] = deque()
        self._rotating = False
        self._began = clock.now()
        self._room = _SMALLEST
        self._timer: asyncio.TimerHandle | None = None
        self._heart: asyncio.TimerHandle | None = None
        self._broken = False
        self.on_error: Callable[[str, BaseException], None] = _raise
        """Hears of a call that cannot be written, which must not keep the others from it."""
        self.synced: Callable[[], int] = lambda: 0
        """Number of the last record that is in the spool, with all before it."""

    def attach(self) -> None:
        """Begin: calls that are up are written anew, a few at a time, and then what earlier processes wrote goes."""
        self._calls.on_change = self.mark
        self._calls.on_parted = self.parted
        self._parting += self._calls.lingering()
        for call_id in (*(call.id for call in self._calls.live()), *self._calls.waiting):
            self._written[call_id] = _Written()
        self._begin_segment()
        self.flush()
        self._beat()

    def mark(self, call: CallRunner) -> None:
        """Something happened to a call."""
        self._marked[call.id] = call
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BEHIND, self.flush)

    def parted(self, tags: tuple[str, ...]) -> None:
        """Dialogs of ours are over."""
        self._parting += tags
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BEHIND, self.flush)

    def recorded(self, call_id: str, line: bytes, number: int) -> None:
        """The record of a call is written, the `number`th; it is kept here until the spool has it."""
        self._marked.pop(call_id, None)
        self._written.pop(call_id, None)
        self._keep(number, Frame(RECORD, call_id.encode(), line))

    def refused(self, record_id: str, line: bytes, number: int) -> None:
        """The same for what is told of a refused call."""
        self._keep(number, Frame(REFUSED, record_id.encode(), line))

    def _keep(self, number: int, frame: Frame) -> None:
        self._kept.append((number, frame))
        self._frames.append(frame)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BEHIND, self.flush)

    def flush(self) -> None:
        """Write what was marked."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        marked, self._marked = self._marked, {}
        self._note(marked.values())
        self._note_parted()
        for _ in range(min(_AT_ONCE, len(self._old))):
            call_id = self._old.popleft()
            if self._calls.waits(call_id):
                self._old.append(call_id)  # an earlier process wrote it, and nobody has read it yet
                continue
            call, written = self._calls.get(call_id), self._written.get(call_id)
            if call is not None and written is not None and written.segment < self._file.segment:
                self._note((call,))
        frames, self._frames = self._frames, []
        try:
            self._file.append(frames)
        except OSError as error:
            return self._failed(error)
        if self._rotating:
            self._end_rotation()
        elif self._file.size > self._room:
            self._begin_segment()
        if (self._old or self._rotating) and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BEHIND, self.flush)

    def renew(self, age: float = 0.0) -> int:
        """Let go of what was written of calls that are over, where the oldest of it is `age` seconds old; 1 if so."""
        if self._clock.now() - self._began < age:
            return 0
        self._begin_segment()
        if self._timer is None:
            self.flush()
        return 1

    def close(self) -> None:
        """End; without a live call and with all records in the spool nothing is left behind."""
        self._calls.on_change = _ignore
        self._calls.on_parted = _unheard
        self._look_at_unheard()
        self.flush()
        for timer in (self._timer, self._heart):
            if timer is not None:
                timer.cancel()
        self._timer = self._heart = None
        self._forget()
        if not self._written and not self._kept and not self._parted:
            self._file.drop_before(self._file.segment + 1)
        self._file.close()

    def _note(self, calls: Iterable[CallRunner]) -> None:
        now = self._clock.now()
        closing = self._calls.books.closing
        segment = self._file.segment
        for call in calls:
            if call.id not in closing and self._calls.get(call.id) is not call:
                continue  # its record is written: what its legs still do concerns nobody
            try:
                self._note_one(call, now, segment)
            except Exception as error:
                self.on_error(call.id, error)

    def _note_one(self, call: CallRunner, now: float, segment: int) -> None:
        written = self._written.get(call.id)
        if written is None:
            written = self._written[call.id] = _Written()
        key = call.id.encode()
        plan = call.plan
        steps = len(plan.trace.steps)
        if written.plan is not plan or written.steps != steps or written.segment != segment:
            self._frames.append(Frame(ROUTE, key, saved_runner.route(call)))
            written.plan, written.steps = plan, steps
        self._frames.append(Frame(STATE, key, saved_runner.state(call, self._wires, self._held, now)))
        written.segment = segment

    def _note_parted(self) -> None:
        tags, self._parting = self._parting, []
        now = self._clock.now()
        for tag in tags:
            leg = self._calls.dialog(tag)
            if leg is None or (leg.dialog is None and not parted.under_way(leg)):
                continue
            saved = parted.save(leg, self._wires, now)
            frame = Frame(PARTED, tag.encode(), encode(saved))
            until, _ = self._parted.get(tag, (now + LINGER, None))
            self._parted[tag] = until, frame
            self._frames.append(frame)
            if saved.leg is not None:
                self._unheard[tag] = leg

    def _look_at_unheard(self) -> None:
        """Write anew which peers have heard by now that their dialogs are over."""
        heard = [tag for tag, leg in self._unheard.items() if not parted.under_way(leg)]
        for tag in heard:
            del self._unheard[tag]
        self._parting += heard

    def _begin_segment(self) -> None:
        """Calls are written anew a few at a time; the segments before are needed until all are."""
        try:
            self._file.begin_segment()
        except OSError as error:
            return self._failed(error)
        self._rotating = True
        self._began = self._clock.now()
        self._frames[:0] = [Frame(NAMES, b"", saved_runner.names()), Frame(ALIVE, b"", self._alive())]
        self._forget()
        self._frames += [frame for _, frame in self._kept]
        self._frames += [frame for _, frame in self._parted.values()]
        self._old.extend(self._written)

    def _end_rotation(self) -> None:
        if self._old:
            return
        self._rotating = False
        self._room = self._file.size * 2 + _SMALLEST
        try:
            self._file.drop_before(self._file.segment)
        except OSError as error:
            return self._failed(error)
        if self._broken:
            self._broken = False
            log.info("journal.works", calls=len(self._written))

    def _failed(self, error: OSError) -> None:
        """Calls go on, but would not outlive this process. All is written anew once the disk takes it."""
        if not self._broken:
            log.error(
                "journal.failed",
                error=str(error),
                calls=len(self._written),
                folder=str(self._file.folder),
                remedy="make room on its disk, or mend its rights; until then no call outlives this process",
            )
        self._broken = True
        self._old.clear()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_RETRY, self._again)

    def _again(self) -> None:
        self._timer = None
        self._begin_segment()
        if self._timer is None:
            self.flush()

    def _beat(self) -> None:
        """Say that this process lives: what a crash leaves behind ended after the last of these."""
        self._forget()
        self._look_at_unheard()
        if self._written or self._parting:
            self._frames.append(Frame(ALIVE, b"", self._alive()))
            if self._timer is None:
                self.flush()
        self._heart = asyncio.get_running_loop().call_later(HEARTBEAT, self._beat)

    def _forget(self) -> None:
        """Let go of the records that the spool has: some are always on their way to it, so it never has them all."""
        synced = self.synced()
        while self._kept and self._kept[0][0] <= synced:
            self._kept.popleft()
        now = self._clock.now()
        while self._parted:
            tag, (until, _) = next(iter(self._parted.items()))
            if until > now:
                break
            del self._parted[tag]
            self._unheard.pop(tag, None)

    def _alive(self) -> bytes:
        now = [self._clock.now(), self._clock.utcnow().timestamp(), self._boot]
        return encode(now)


def _raise(call_id: str, error: BaseException) -> None:
    raise error


def _unheard(tags: tuple[str, ...]) -> None:
    """Nothing is kept any more."""


def _ignore(call: CallRunner) -> None:
    """Nothing is kept any more."""
