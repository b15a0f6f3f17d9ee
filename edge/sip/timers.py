"""Timer values of RFC 3261 table 4 (with RFC 6026) and the queue that says which is due next."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar


@dataclass(frozen=True, slots=True)
class TimerConfig:
    """Base intervals in seconds.

    `t1` round-trip estimate, `t2` longest retransmission interval, `t4` longest life of a message in the network,
    `c` how long an INVITE may ring on one provisional response (section 16.6: over three minutes), `d` how long an
    INVITE client absorbs retransmitted failures over UDP (at least 32 s), `trying` when an INVITE server that heard
    nothing from its user sends 100 (section 17.2.1).
    """

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0
    c: float = 190.0
    d: float = 32.0
    trying: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.t1 <= self.t2 or min(self.t4, self.c, self.d, self.trying) <= 0:
            raise ValueError("SIP timers: all are to be above 0 s, and T1 not above T2")

    @property
    def transaction(self) -> float:
        """64*T1: timers B, F, H, J, L and M."""
        return 64 * self.t1


T = TypeVar("T")
N = TypeVar("N")


class Timer(Generic[T, N]):
    """A running timer; `owner` is None once it fired or was cancelled."""

    __slots__ = ("at", "name", "owner")

    def __init__(self, at: float, owner: T, name: N) -> None:
        self.at = at
        self.owner: T | None = owner
        self.name = name


class TimerQueue(Generic[T, N]):
    """Timers by deadline; cancelling is cheap, the heap is cleaned when most of it is dead."""

    __slots__ = ("_count", "_dead", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer[T, N]]] = []
        self._count = 0
        self._dead = 0

    def start(self, at: float, owner: T, name: N) -> Timer[T, N]:
        """A timer of `owner` that is due at `at` (seconds, the caller's clock)."""
        timer = Timer(at, owner, name)
        self._count += 1  # timers of one deadline fire in the order of their start
        heappush(self._heap, (at, self._count, timer))
        return timer

    def cancel(self, timer: Timer[T, N]) -> None:
        """Stop `timer`; one that fired or was cancelled before is left alone."""
        if timer.owner is None:
            return
        timer.owner = None
        self._dead += 1
        if self._dead > 256 and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].owner is not None]
            heapify(self._heap)
            self._dead = 0

    def next_deadline(self) -> float | None:
        """When the earliest live timer is due; None where none runs."""
        heap = self._heap
        while heap and heap[0][2].owner is None:
            heappop(heap)
            self._dead -= 1
        return heap[0][0] if heap else None

    def pop_due(self, now: float) -> tuple[T, N] | None:
        """Owner and name of the earliest timer due at `now`, which ends with this call; None where none is."""
        at = self.next_deadline()
        if at is None or at > now:
            return None
        timer = heappop(self._heap)[2]
        owner = timer.owner
        assert owner is not None  # next_deadline left a live one on top
        timer.owner = None
        return owner, timer.name

    def __len__(self) -> int:
        """Live timers."""
        return len(self._heap) - self._dead
