"""All bindings of this edge, found by AOR and by flow, with their expiry (RFC 3261 "location service"). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from heapq import heapify, heappop, heappush

from edge.registrar.bindings import Aor, Binding
from edge.sip.flow import Flow


class Location:
    """An index that is changed per AOR: `put` replaces all bindings of one."""

    __slots__ = ("_by_aor", "_by_flow", "_heap")

    def __init__(self) -> None:
        self._by_aor: dict[Aor, tuple[Binding, ...]] = {}
        self._by_flow: dict[Flow, set[Aor]] = {}
        self._heap: list[tuple[float, Aor]] = []

    def get(self, aor: Aor) -> tuple[Binding, ...]:
        """The bindings as stored; those run out may still be among them until `expire`."""
        return self._by_aor.get(aor, ())

    def put(self, aor: Aor, bindings: tuple[Binding, ...]) -> None:
        """Replace the bindings of `aor`; an empty tuple forgets it."""
        old = self._by_aor.pop(aor, ())
        if bindings:
            self._by_aor[aor] = bindings
        flows = {b.flow for b in bindings}
        for flow in {b.flow for b in old} - flows:
            self._unlink(flow, aor)
        for flow in flows:
            if flow is not None:
                self._by_flow.setdefault(flow, set()).add(aor)
        for deadline in {b.expires_at for b in bindings} - {b.expires_at for b in old}:
            heappush(self._heap, (deadline, aor))
        if len(self._heap) > 8 * len(self._by_aor) + 64:  # refreshes leave their old deadlines behind
            self._heap = [(b.expires_at, b.aor) for b in self]
            heapify(self._heap)

    def contacts(self, aor: Aor, now: float) -> list[Binding]:
        """Live bindings in the order to try them: reachable ones first, then by q, then the newest."""
        live = [b for b in self._by_aor.get(aor, ()) if b.expires_at > now]
        if len(live) > 1:
            live.sort(key=lambda b: (not b.reachable, -b.q, -b.registered_at))
        return live

    def at(self, flow: Flow) -> frozenset[Aor]:
        """The AORs that registered over `flow`."""
        return frozenset(self._by_flow.get(flow, ()))

    def flow_closed(self, flow: Flow) -> list[Binding]:
        """A connection is gone: its bindings lose their flow. Returns them. UDP has no connection to lose."""
        if not flow.reliable:
            return []
        lost: list[Binding] = []
        for aor in list(self._by_flow.get(flow, ())):
            lost += [b for b in self._by_aor[aor] if b.flow == flow]
            self.put(aor, tuple(replace(b, connected=False) if b.flow == flow else b for b in self._by_aor[aor]))
        return lost

    def mark(self, binding: Binding, answers: bool) -> bool:
        """Note whether the peer of `binding` answers. False where the binding has changed or gone meanwhile."""
        bindings = self._by_aor.get(binding.aor, ())
        if binding not in bindings:
            return False
        self.put(binding.aor, tuple(replace(b, answers=answers) if b == binding else b for b in bindings))
        return True

    def expire(self, now: float) -> list[Binding]:
        """Drop what has run out by `now`, and return it."""
        gone: list[Binding] = []
        while self._heap and self._heap[0][0] <= now:
            _, aor = heappop(self._heap)
            bindings = self._by_aor.get(aor, ())
            dead = [b for b in bindings if b.expires_at <= now]
            if dead:
                gone += dead
                self.put(aor, tuple(b for b in bindings if b.expires_at > now))
        return gone

    def next_expiry(self) -> float | None:
        """When `expire` is to be called next; it may find nothing then, where a binding was refreshed meanwhile."""
        return self._heap[0][0] if self._heap else None

    def aors(self) -> Iterable[Aor]:
        """All AORs with bindings."""
        return self._by_aor.keys()

    def __iter__(self) -> Iterator[Binding]:
        return (b for bindings in self._by_aor.values() for b in bindings)

    def __len__(self) -> int:
        return sum(map(len, self._by_aor.values()))

    def _unlink(self, flow: Flow | None, aor: Aor) -> None:
        if flow is None:
            return
        aors = self._by_flow.get(flow)
        if aors is not None:
            aors.discard(aor)
            if not aors:
                del self._by_flow[flow]
