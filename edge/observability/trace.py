"""Message trace: what was said on the wire, kept for a while and printed as a ladder per call.

The driver gives every message to `Tap.message`; the engine says with `link` which SIP Call-IDs belong to one call of
ours. Nothing is parsed until somebody asks. Messages go oldest first, when there are too many bytes or when they are
too old (SIP traces are traffic data, domain rule 7.9). What belongs to no call (registrations, OPTIONS,
all that strangers send) has a quarter of the room, so that a flood leaves the ladders of calls alone.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from edge.sip.flow import Flow

DAY = 86_400.0
DEFAULT_BYTES = 64 * 1024 * 1024
_OVERHEAD = 350
"""What keeping a message costs beside its bytes: tuple, flow, two queue places."""
_DIALOG = 450
"""What a Call-ID costs beside its messages."""
_LOOSE_PART = 4
"""Messages of no call have this part of the room."""
_LOOSE_MESSAGES = 64
"""Messages kept of one Call-ID that belongs to no call: a registration has the same for months."""

_CALL_ID = re.compile(rb"(?i)\n(?:call-id|i)[ \t]*:[ \t]*([^\s]+)")

Direction = Literal["in", "out"]


class TracedMessage(NamedTuple):
    """A message as it passed: its running number, when (monotonic seconds), which way, over which flow, and its bytes,
    not redacted."""

    number: int
    at: float
    direction: Direction
    flow: Flow
    data: bytes


class TracedLeg(NamedTuple):
    """The messages of one SIP Call-ID."""

    sip_call_id: str
    messages: tuple[TracedMessage, ...]


class TracedCall(NamedTuple):
    """What is kept of a call. The first leg is the caller's; `complete` is False where older messages are gone."""

    call: str
    legs: tuple[TracedLeg, ...]
    complete: bool


class _Dialog:
    __slots__ = ("bytes", "call", "evicted", "messages")

    def __init__(self, call_id: bytes) -> None:
        self.messages: list[TracedMessage] = []  # an empty deque has 700 bytes
        self.call: str | None = None
        self.evicted = False
        self.bytes = _DIALOG + len(call_id)
        """With its messages, while it belongs to no call."""


class Tap:
    """Keeps messages by Call-ID, at most `max_bytes` of them (0: keeps none), until they are purged."""

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self.bytes_kept = 0
        self._count = 0
        self._max_bytes = max_bytes
        self._dialogs: dict[bytes, _Dialog] = {}
        self._calls: dict[str, list[bytes]] = {}
        self._joined: dict[str, set[str]] = {}
        self._order: deque[bytes] = deque()
        self._loose: OrderedDict[bytes, _Dialog] = OrderedDict()  # of no call; the one that spoke last is the last
        self._loose_bytes = 0
        self.keep: Callable[[str], None] = lambda call: None
        """Called for our call whose messages are worth more than their time in memory."""

    def message(self, direction: Direction, data: bytes, flow: Flow, now: float) -> None:
        """Keep a message. `data` is kept as it is, not copied. What has no Call-ID (a keep-alive) is not kept."""
        if not self._max_bytes:
            return
        start = data.find(b"\nCall-ID: ")
        if start >= 0:
            start += 10
            call_id = data[start : data.find(b"\n", start)].strip()
        else:
            match = _CALL_ID.search(data)
            if match is None:
                return
            call_id = match[1]
        self._count += 1
        # half the time of the call that a NamedTuple is made by
        message: TracedMessage = tuple.__new__(TracedMessage, (self._count, now, direction, flow, data))
        dialog = self._dialogs.get(call_id)
        if dialog is None:
            self._keep_loose(call_id, message)
        else:
            dialog.messages.append(message)
            self._order.append(call_id)
            self.bytes_kept += len(data) + _OVERHEAD
        if self.bytes_kept > self._max_bytes:
            self._make_room()

    def _keep_loose(self, call_id: bytes, message: TracedMessage) -> None:
        dialog = self._loose.get(call_id)
        if dialog is None:
            dialog = self._loose[call_id] = _Dialog(call_id)
            self._count_loose(dialog.bytes)
        else:
            self._loose.move_to_end(call_id)
        size = len(message.data) + _OVERHEAD
        dialog.messages.append(message)
        dialog.bytes += size
        self._count_loose(size)
        if len(dialog.messages) > _LOOSE_MESSAGES:
            self._drop_first(dialog)
        while self._loose_bytes > self._max_bytes // _LOOSE_PART:
            self._evict_loose()

    def _count_loose(self, size: int) -> None:
        self._loose_bytes += size
        self.bytes_kept += size

    def _drop_first(self, dialog: _Dialog) -> None:
        size = len(dialog.messages.pop(0).data) + _OVERHEAD
        dialog.bytes -= size
        dialog.evicted = True
        self._count_loose(-size)

    def _evict_loose(self) -> None:
        _, dialog = self._loose.popitem(last=False)
        self._count_loose(-dialog.bytes)

    def resize(self, max_bytes: int) -> None:
        """Keep at most so many bytes from now on."""
        self._max_bytes = max_bytes
        while self._loose_bytes > max_bytes // _LOOSE_PART:
            self._evict_loose()
        self._make_room()

    def link(self, call: str, sip_call_id: str) -> None:
        """The dialogs of `sip_call_id` belong to our `call`. The first one linked is the caller's."""
        if not self._max_bytes:
            return
        key = sip_call_id.encode("utf-8", "surrogateescape")
        dialog = self._dialogs.get(key)
        if dialog is None:
            dialog = self._loose.pop(key, None)
            if dialog is None:
                dialog = _Dialog(key)
                self.bytes_kept += dialog.bytes
            else:
                self._loose_bytes -= dialog.bytes
                self._order.extend([key] * len(dialog.messages))
            self._dialogs[key] = dialog
        if dialog.call is None:
            dialog.call = call
            self._calls.setdefault(call, []).append(key)

    def join(self, call: str, other: str) -> None:
        """A transfer joined these calls: who asks for one sees the dialogs of both."""
        if self._max_bytes:
            both = self._joined.get(call, {call}) | self._joined.get(other, {other})
            for one in both:
                self._joined[one] = both

    def purge(self, oldest: float) -> int:
        """Forget messages from before `oldest`, on the clock of the messages; how many."""
        gone = 0
        while self._order and self._dialogs[self._order[0]].messages[0].at < oldest:
            self._evict()
            gone += 1
        for key, dialog in list(self._loose.items()):
            while dialog.messages and dialog.messages[0].at < oldest:
                self._drop_first(dialog)
                gone += 1
            if not dialog.messages:
                self._forget_loose(key)
        return gone

    def forget_user(self, user: str) -> int:
        """Forget messages of no call that name a user (REGISTER of a phone, answers to it); of how many Call-IDs."""
        word = re.compile(rb"\b%s\b" % re.escape(user.encode("utf-8", "replace")))
        named = [key for key, dialog in self._loose.items() if any(word.search(m.data) for m in dialog.messages)]
        for key in named:
            self._forget_loose(key)
        return len(named)

    def _forget_loose(self, key: bytes) -> None:
        self._count_loose(-self._loose.pop(key).bytes)

    def forget(self, call: str) -> bool:
        """Forget the messages of our `call` now; whether there were any."""
        found = False
        for key in self._calls.get(call, ()):
            dialog = self._dialogs[key]
            for _ in range(len(dialog.messages)):
                found = True
                old = dialog.messages.pop(0)
                self.bytes_kept -= len(old.data) + _OVERHEAD
                # its place in the order stays, of a message of nothing, so that the oldest still goes first
                dialog.messages.append(old._replace(data=b""))
                self.bytes_kept += _OVERHEAD
            dialog.evicted = True
        return found

    def find(self, key: str) -> TracedCall | None:
        """What is kept of a call: `key` is our id of it, one of its SIP Call-IDs, or `last` for the newest call; None
        where nothing is known."""
        if key == "last" and self._calls:
            key = next(reversed(self._calls))
        raw = key.encode("utf-8", "surrogateescape")
        dialog = self._dialogs.get(raw)
        loose = self._loose.get(raw)
        if loose is not None:
            leg = TracedLeg(key, tuple(loose.messages))
            return TracedCall(key, (leg,), not loose.evicted)
        call = key if key in self._calls else dialog.call if dialog is not None else None
        ids: Iterable[bytes] = (raw,)
        if call is not None:
            others = sorted(self._joined.get(call, ()), key=lambda one: one != call)
            ids = [dialog for one in others or (call,) for dialog in self._calls.get(one, ())]
        legs = tuple(
            TracedLeg(i.decode("utf-8", "surrogateescape"), tuple(m for m in self._dialogs[i].messages if m.data))
            for i in ids
            if i in self._dialogs
        )
        if not any(leg.messages for leg in legs):
            return None
        complete = not any(self._dialogs[i].evicted for i in ids if i in self._dialogs)
        return TracedCall(call or key, legs, complete)

    def _make_room(self) -> None:
        while self.bytes_kept > self._max_bytes and (self._order or self._loose):
            if self._order:
                self._evict()
            else:
                self._evict_loose()

    def _evict(self) -> None:
        key = self._order.popleft()
        dialog = self._dialogs[key]
        gone = dialog.messages.pop(0)
        dialog.evicted = True
        self.bytes_kept -= len(gone.data) + _OVERHEAD
        if dialog.messages:
            return
        call = dialog.call
        assert call is not None  # what belongs to none is loose
        if not any(self._dialogs[leg].messages for leg in self._calls[call]):
            for leg in self._calls.pop(call):
                del self._dialogs[leg]
                self.bytes_kept -= _DIALOG + len(leg)
            for joined in self._joined.pop(call, ()):
                left = self._joined.pop(joined, set()) - {call}
                if len(left) > 1:
                    self._joined[joined] = left
