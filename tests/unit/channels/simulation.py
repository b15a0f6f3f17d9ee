"""A database of channel counts in memory that obeys the tests: away, slow, cut off, late. It does what migrations
0004 and 0013 do, which `test_postgres.py` compares statement by statement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from edge.channels.counts import Claim, CountsAway, Exchanged, Lease, Verdict

Row = tuple[str, str, str]
T = TypeVar("T")


@dataclass
class EdgeRow:
    """A row of `edges`."""

    name: str
    epoch: int
    heartbeat: float
    lost: bool = False
    alone_until: float = 0.0


@dataclass
class Database:
    """The tables, and what happens to those who ask them."""

    now: Callable[[], float] = lambda: 0.0
    edges: dict[str, EdgeRow] = field(default_factory=dict)
    leases: dict[tuple[str, str, Row], int] = field(default_factory=dict)
    used: dict[Row, int] = field(default_factory=dict)
    starts: dict[Row, list[float]] = field(default_factory=dict)
    away: bool = False
    slow: bool = False
    unreachable: set[str] = field(default_factory=set)
    """Instances that the network keeps from the database."""
    stuck: list[Callable[[], None]] = field(default_factory=list)
    """Statements that were sent and are to be carried out some time, whether or not anybody still waits."""

    listening: list[SimulatedSession] = field(default_factory=list)

    # -- the functions ---------------------------------------------------------------------------------------------

    def resume(self, edge: str, name: str, epoch: int, fresh: bool, held: Sequence[Lease]) -> bool:
        if fresh:
            for other in [i for i, e in self.edges.items() if e.name == name and i != edge]:
                self.leave(other)
        known = self.edges.get(edge)
        if known is not None and known.epoch >= epoch:
            return False
        self.edges[edge] = EdgeRow(name, epoch, self.now())
        told = {(call, (level, key, direction)) for call, level, key, direction, _ in held}
        for instance, call, row in list(self.leases):
            if instance == edge and (call, row) not in told:
                self._set(edge, call, row, 0)
        for call, level, key, direction, units in held:
            self._set(edge, call, (level, key, direction), units)
        return True

    def exchange(
        self, edge: str, epoch: int, leases: Sequence[Lease], claims: Sequence[Claim], stay: bool
    ) -> Exchanged | None:
        known = self.edges.get(edge)
        if known is None or known.lost or known.epoch != epoch:
            return None
        known.heartbeat = self.now()
        for call, level, key, direction, units in leases:
            self._set(edge, call, (level, key, direction), units)
        verdicts = []
        for ask in sorted({claim[0] for claim in claims}):
            verdicts.append(self._ask(edge, [claim for claim in claims if claim[0] == ask]))
        alone = stay and all(e.lost for instance, e in self.edges.items() if instance != edge)
        if alone or not stay:
            known.alone_until = self.now() + 4 if alone else 0.0
        return Exchanged(verdicts, alone)

    def alone_elsewhere(self, edge: str) -> bool:
        for session in self.listening:
            session.notified(edge)
        others = [e for instance, e in self.edges.items() if instance != edge and not e.lost]
        return any(e.alone_until > self.now() for e in others)

    def _ask(self, edge: str, claims: list[Claim]) -> Verdict:
        taken: dict[Row, int] = {}
        for nth, (_, _, _, level, key, direction, units, bound) in enumerate(claims, 1):
            row = (level, key, direction)
            in_use = self._in_use(row) + taken.get(row, 0)
            if bound is not None and in_use + units > bound:
                return Verdict(nth, in_use)
            taken[row] = taken.get(row, 0) + units
        for _, _, call, level, key, direction, units, _ in claims:
            row = (level, key, direction)
            if direction == "cps":
                self.starts.setdefault(row, []).extend([self.now()] * units)
            else:
                self._set(edge, call, row, self.leases.get((edge, call, row), 0) + units)
        return Verdict(0, 0)

    def _in_use(self, row: Row) -> int:
        if row[2] == "cps":
            return sum(1 for at in self.starts.get(row, []) if at > self.now() - 1)
        return self.used.get(row, 0)

    def _set(self, edge: str, call: str, row: Row, units: int) -> None:
        had = self.leases.pop((edge, call, row), 0)
        if units:
            self.leases[edge, call, row] = units
        self.used[row] = self.used.get(row, 0) + units - had
        assert self.used[row] >= 0

    def leave(self, edge: str) -> None:
        self._give_back(edge)
        self.edges.pop(edge, None)

    def reclaim(self, silence: float) -> None:
        for instance, edge in self.edges.items():
            if edge.heartbeat < self.now() - silence:
                edge.lost = True
                self._give_back(instance)

    def _give_back(self, edge: str) -> None:
        for instance, call, row in list(self.leases):
            if instance == edge:
                self._set(edge, call, row, 0)

    # -- what happens ----------------------------------------------------------------------------------------------

    def in_use(self) -> dict[Row, int]:
        """Counts that are not zero."""
        return {row: units for row, units in self.used.items() if units}


class SimulatedCounts:
    """`edge.channels.counts.Counts` of one edge."""

    def __init__(self, database: Database, name: str, instance: str) -> None:
        self.database = database
        self.name = name
        self.instance = instance
        self.sessions: list[SimulatedSession] = []
        self.answers_after = 0.001
        """Seconds that an answer is on its way."""
        self.deaf = False
        """Notifications do not arrive."""

    def cannot_be_reached(self) -> bool:
        return self.database.away or self.instance in self.database.unreachable

    async def connect(self) -> SimulatedSession:
        await asyncio.sleep(0.002)
        if self.cannot_be_reached():
            raise CountsAway("connection refused")
        session = SimulatedSession(self)
        self.sessions.append(session)
        return session


class SimulatedSession:
    """`edge.channels.counts.Session`: an answer takes a millisecond, unless a test says otherwise."""

    def __init__(self, counts: SimulatedCounts) -> None:
        self._counts = counts
        self._aborted = asyncio.get_running_loop().create_future()
        self.joined: Callable[[], None] = lambda: None
        counts.database.listening.append(self)

    def notified(self, edge: str) -> None:
        """A millisecond later, unless the connection is no more by then."""

        def hear() -> None:
            if not self._aborted.done() and not self._counts.cannot_be_reached():
                self.joined()

        if edge != self._counts.instance and not self._counts.deaf and not self._aborted.done():
            self._aborted.get_loop().call_later(0.001, hear)

    async def resume(self, epoch: int, fresh: bool, held: Sequence[Lease]) -> bool:
        edge, name, held = self._counts.instance, self._counts.name, list(held)
        return await self._do(lambda db: db.resume(edge, name, epoch, fresh, held))

    async def exchange(
        self, epoch: int, leases: Sequence[Lease], claims: Sequence[Claim], stay: bool
    ) -> Exchanged | None:
        edge = self._counts.instance
        return await self._do(lambda db: db.exchange(edge, epoch, list(leases), list(claims), stay))

    async def alone_elsewhere(self) -> bool:
        return await self._do(lambda db: db.alone_elsewhere(self._counts.instance))

    async def recount(self) -> int:
        return await self._do(lambda db: 0)

    async def leave(self) -> None:
        await self._do(lambda db: db.leave(self._counts.instance))

    def abort(self) -> None:
        if not self._aborted.done():
            self._aborted.set_result(None)

    async def _do(self, statement: Callable[[Database], T]) -> T:
        counts, database = self._counts, self._counts.database
        if self._aborted.done() or counts.cannot_be_reached():
            raise CountsAway("the connection is closed")
        if database.slow:
            answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

            def carry_out() -> None:
                result = statement(database)
                if not answer.done():
                    answer.set_result(result)

            database.stuck.append(carry_out)
            await asyncio.wait([answer, self._aborted], timeout=10, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                answer.cancel()
                raise CountsAway("connection was closed in the middle of operation")
            return answer.result()
        result = statement(database)
        # the answer is on its way: it is lost where the connection breaks meanwhile
        await asyncio.wait([self._aborted], timeout=counts.answers_after)
        if self._aborted.done() or counts.cannot_be_reached():
            raise CountsAway("connection was closed in the middle of operation")
        return result


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without sockets whose time jumps to the next timer: thousands of seconds in a blink."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self._virtual = 0.0

    def time(self) -> float:
        return self._virtual

    def select(self, timeout: float | None) -> list[object]:
        assert timeout is not None, "nothing will ever happen any more"
        self._virtual += timeout
        return []

    def _process_events(self, events: list[object]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def __del__(self) -> None:
        pass  # there is nothing to close
