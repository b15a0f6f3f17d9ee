"""Admission as a state machine over admit, ring, answer, fail, crash, expire, with a database that comes and goes
(domain rules 5.8, T5.3 to T5.8): whatever happens, every channel is held by exactly the calls that have it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dialplan.model import ChannelClaim
from edge.channels.ledger import LimitReached
from edge.channels.shared import WAIT, SharedChannels
from tests.unit.channels.simulation import Database, Row, SimulatedCounts, VirtualLoop

NUMBER = ChannelClaim("number", "+4922838697", "in", 2)
ACCOUNT = ChannelClaim("account", "acme", "total", 4)
CARRIER_IN = (ChannelClaim("carrier", "telekom", "in", None), ChannelClaim("carrier", "telekom", "total", 6))
CARRIER_OUT = (ChannelClaim("carrier", "easybell", "out", 2), ChannelClaim("carrier", "easybell", "total", None))

INBOUND = (NUMBER, ACCOUNT, *CARRIER_IN)
FORWARDED = (NUMBER, ACCOUNT._replace(units=2), *CARRIER_IN)
OUTBOUND = (ACCOUNT,)
FREE = (ChannelClaim("account", "free", "total", None), CARRIER_OUT[1])
SHAPES = (INBOUND, FORWARDED, OUTBOUND, CARRIER_OUT, FREE)


@dataclass
class Call:
    """What the model knows of a call."""

    id: str
    claims: list[ChannelClaim] = field(default_factory=list)
    state: str = "admitted"


@dataclass
class Waiting:
    """A call, or a live call's next route, that is being admitted."""

    call: Call
    claims: tuple[ChannelClaim, ...]
    task: asyncio.Task[LimitReached | None]
    since: float


class Edge:
    """One process."""

    def __init__(self, database: Database, name: str, instance: str, loop: asyncio.AbstractEventLoop) -> None:
        self.counts = SimulatedCounts(database, name, instance)
        self.channels = SharedChannels(self.counts, loop.time)
        self.calls: dict[str, Call] = {}
        self.waiting: list[Waiting] = []

    def rows(self) -> Counter[Row]:
        """What the calls of this edge hold, as the model has it."""
        out: Counter[Row] = Counter()
        for call in self.calls.values():
            for claim in call.claims:
                out[claim[:3]] += claim.units
        return out


EDGES = st.integers(0, 2)
PICK = st.integers(0, 1000)


class Admission(RuleBasedStateMachine):
    """Three edges, one database, and calls."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.db = Database(self.loop.time)
        self.edges: dict[int, Edge] = {}
        self.ids = 0
        self.sound = True
        """Since the last settling nothing has gone wrong: limits hold over all edges."""
        for number in range(2):
            self.boot(number)

    def teardown(self) -> None:
        try:
            self.settle()
            for edge in self.edges.values():
                for call_id in list(edge.calls):
                    edge.channels.release(call_id)
                    edge.calls.pop(call_id)
            self.wait(1)
            assert self.db.in_use() == {} and self.db.leases == {}
            for edge in self.edges.values():
                self.loop.run_until_complete(edge.channels.stop())
            assert all(edge.lost for edge in self.db.edges.values())
        finally:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(asyncio.wait(tasks))
            self.loop.close()

    def wait(self, seconds: float) -> None:
        """Let time pass and collect verdicts."""
        self.loop.run_until_complete(asyncio.sleep(seconds))
        for _ in range(5):
            self.loop.run_until_complete(asyncio.sleep(0))
        for edge in self.edges.values():
            for waiting in [w for w in edge.waiting if w.task.done()]:
                edge.waiting.remove(waiting)
                self.judge(edge, waiting, waiting.task.result())

    def judge(self, edge: Edge, waiting: Waiting, reached: LimitReached | None) -> None:
        if reached is not None:
            claim = next(c for c in waiting.claims if c[:3] == reached[:3])
            assert claim.limit is not None and reached.limit == claim.limit, "a limit that nobody set"
            assert reached.used + claim.units > reached.limit, "refused although there was room"
            return
        call = waiting.call
        if call.state == "ended":
            return
        call.claims.extend(waiting.claims)
        edge.calls[call.id] = call

    def pick(self, edge: Edge, pick: int) -> Call | None:
        calls = list(edge.calls.values())
        return calls[pick % len(calls)] if calls else None

    # -- calls ------------------------------------------------------------------------------------------------------

    @rule(edge=EDGES, shape=st.sampled_from(SHAPES), then=st.sampled_from(("wait", "go on", "cancel", "end")))
    def offer(self, edge: int, shape: tuple[ChannelClaim, ...], then: str) -> None:
        """A call arrives. Then the caller waits for the verdict; or other things happen first; or the caller gives up
        while the statement is under way, or when the call is up."""
        if edge not in self.edges:
            return
        self.ids += 1
        call = Call(f"call{self.ids}")
        self.ask(self.edges[edge], call, shape)
        self.wait(0.35 if then in ("wait", "end") else 0)
        if then in ("cancel", "end"):
            self.finish(self.edges[edge], call, twice=False)

    @rule(edge=EDGES, pick=PICK)
    def next_route(self, edge: int, pick: int) -> None:
        """A live call goes on over a next route, which needs more channels."""
        if edge not in self.edges:
            return
        call = self.pick(self.edges[edge], pick)
        if call is not None and not any(w.call is call for w in self.edges[edge].waiting):
            self.ask(self.edges[edge], call, CARRIER_OUT)

    def ask(self, edge: Edge, call: Call, claims: tuple[ChannelClaim, ...]) -> None:
        task = self.loop.create_task(edge.channels.admit(call.id, claims))
        edge.waiting.append(Waiting(call, claims, task, self.loop.time()))

    @rule(edge=EDGES, pick=PICK, state=st.sampled_from(("ringing", "answered", "held", "transferred")))
    def progress(self, edge: int, pick: int, state: str) -> None:
        """T5.6: what a call does while it is up changes no count."""
        if edge in self.edges and (call := self.pick(self.edges[edge], pick)) is not None:
            call.state = state

    @rule(edge=EDGES, pick=PICK, twice=st.booleans())
    def end(self, edge: int, pick: int, twice: bool) -> None:
        """A call ends, also while its next route is being admitted; its runner may say so twice."""
        if edge in self.edges and (call := self.pick(self.edges[edge], pick)) is not None:
            self.finish(self.edges[edge], call, twice)

    @rule(edge=EDGES, twice=st.booleans())
    def give_up(self, edge: int, twice: bool) -> None:
        """CANCEL before there is a verdict."""
        if edge in self.edges and self.edges[edge].waiting:
            self.finish(self.edges[edge], self.edges[edge].waiting[-1].call, twice)

    def finish(self, edge: Edge, call: Call, twice: bool) -> None:
        call.state = "ended"
        edge.calls.pop(call.id, None)
        for _ in range(1 + twice):
            edge.channels.release(call.id)

    @rule(milliseconds=st.sampled_from((0, 1, 5, 30, 200, 1000)))
    def time_passes(self, milliseconds: int) -> None:
        self.wait(milliseconds / 1000)

    # -- faults -----------------------------------------------------------------------------------------------------

    @rule(edge=EDGES)
    def boot(self, edge: int) -> None:
        """A process starts under its name; what an earlier one held is free at once."""
        if edge not in self.edges:
            self.ids += 1
            started = Edge(self.db, f"edge-{edge}", f"instance{self.ids}", self.loop)
            self.edges[edge] = started
            self.loop.run_until_complete(started.channels.start())
            if started.channels.shared:
                assert [e.name for e in self.db.edges.values()].count(f"edge-{edge}") == 1

    @rule(edge=EDGES)
    def crash(self, edge: int) -> None:
        """kill -9: nothing of the process runs any more."""
        if edge in self.edges and len(self.edges) > 1:
            gone = self.edges.pop(edge)
            tasks = [w.task for w in gone.waiting]
            assert gone.channels._task is not None
            for task in (gone.channels._task, *tasks):
                task.cancel()
            self.loop.run_until_complete(asyncio.wait([gone.channels._task, *tasks]))
            for session in gone.counts.sessions:
                session.abort()
            self.sound = False

    @rule()
    def expire(self) -> None:
        """Half a minute passes, with upkeep: what dead edges held has come back, what live ones hold stays."""
        for _ in range(15):
            self.wait(2)
            if not self.db.away:
                self.db.reclaim(20)
        if not self.db.away and not self.db.slow:
            self.wait(3)
            reachable = {e.counts.instance for e in self.edges.values()}
            assert {instance for instance, _, _ in self.db.leases} <= reachable

    @precondition(lambda self: not self.db.away)
    @rule()
    def database_goes(self) -> None:
        self.db.away, self.sound = True, False
        for edge in self.edges.values():
            for session in edge.counts.sessions:
                session.abort()

    @rule()
    def database_comes_back(self) -> None:
        self.db.away = False

    @rule()
    def database_is_slow(self) -> None:
        self.db.slow, self.sound = True, False

    @rule()
    def database_is_fast(self) -> None:
        """New statements are carried out at once; those that it has not come to are still to come."""
        self.db.slow = False

    @precondition(lambda self: self.db.stuck)
    @rule(pick=PICK)
    def late_statement(self, pick: int) -> None:
        """A statement of a connection that may long be given up is carried out."""
        self.db.stuck.pop(pick % len(self.db.stuck))()

    @rule(edge=EDGES)
    def partition(self, edge: int) -> None:
        """One edge does not reach the database; its calls go on."""
        if edge in self.edges:
            self.db.unreachable.add(self.edges[edge].counts.instance)
            self.sound = False

    @rule()
    def partition_heals(self) -> None:
        self.db.unreachable.clear()

    @rule()
    def settle(self) -> None:
        """All is well again: a little later the shared counts are what the calls hold, no more and no less."""
        self.db.away = self.db.slow = False
        self.db.unreachable.clear()
        self.wait(1)
        while self.db.stuck:
            self.db.stuck.pop()()
        for _ in range(15):
            self.wait(2)
            self.db.reclaim(20)
        assert all(edge.channels.shared for edge in self.edges.values())
        expected: Counter[Row] = Counter()
        for edge in self.edges.values():
            assert not edge.waiting
            expected += edge.rows()
        assert self.db.in_use() == dict(expected)
        self.sound = not self.over()

    def over(self) -> bool:
        limits = {c[:3]: c.limit for shape in SHAPES for c in shape if c.limit is not None}
        totals: Counter[Row] = Counter()
        for edge in self.edges.values():
            totals += edge.rows()
        return any(totals[row] > limit for row, limit in limits.items())

    # -- always -----------------------------------------------------------------------------------------------------

    @invariant()
    def each_edge_counts_its_calls(self) -> None:
        """An edge's own count is what its calls hold, whatever the database does."""
        self.wait(0)
        for edge in self.edges.values():
            own = Counter({row: units for row, units in edge.rows().items() if units})
            for claim in {c[:3] for shape in SHAPES for c in shape}:
                assert edge.channels.used(*claim) == own[claim]

    @invariant()
    def limits_hold(self) -> None:
        """Exact over all edges as long as the database answers."""
        assert not self.sound or not self.over()

    @invariant()
    def nobody_waits_long(self) -> None:
        """A verdict comes within 0.3 s, database or not."""
        for edge in self.edges.values():
            for waiting in edge.waiting:
                assert self.loop.time() - waiting.since <= WAIT + 0.001


TestAdmission = Admission.TestCase
TestAdmission.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
