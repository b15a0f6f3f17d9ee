"""What holds for each machine whatever happens to it, in any order."""

from __future__ import annotations

from typing import ClassVar, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge.sip.transaction.model import Input as I
from edge.sip.transaction.model import State as S

from .transaction_bench import TCP, UDP, Bench

STATUSES = st.sampled_from([100, 180, 200, 302, 401, 486, 503, 603])


class AnyOrder(RuleBasedStateMachine):
    """Feeds one transaction, keeps what it sent and told."""

    method: ClassVar[str]
    client: ClassVar[bool]

    @initialize(flow=st.sampled_from([UDP, TCP]))
    def begin(self, flow: object) -> None:
        assert isinstance(flow, type(UDP))
        self.bench = Bench(self.method, self.client, flow)
        self.sent, self.told = self.bench.take()
        self.over_at: int | None = None
        self.last = 0

    def _took(self) -> None:
        sent, told = self.bench.take()
        if self.over_at is not None:
            assert not told, "a terminated transaction tells its user nothing"
            assert set(sent) <= {"CANCEL"}, "a terminated transaction sends nothing"
        self.sent += sent
        self.told += told
        if self.bench.state is S.TERMINATED and self.over_at is None:
            self.over_at = len(self.told)

    @rule(status=STATUSES)
    def response(self, status: int) -> None:
        self.bench.feed(status)
        self._took()

    @rule(what=st.sampled_from([I.REQUEST, I.ACK, I.CANCEL, I.TRANSPORT_ERROR]))
    def other(self, what: I) -> None:
        self.bench.feed(what)
        self._took()

    @rule(seconds=st.sampled_from([0.1, 0.5, 4.0, 33.0, 200.0]))
    def wait(self, seconds: float) -> None:
        until = self.bench.now + seconds
        while (at := self.bench.layer.next_deadline()) is not None and at <= until:
            self.bench.now = at
            self.bench.layer.handle_timer(at)
            self._took()
        self.bench.now = until

    @invariant()
    def live_state_has_a_deadline(self) -> None:
        if not hasattr(self, "bench"):
            return
        state = self.bench.state
        waits_for_user = not self.client and self.method == "INVITE" and state is S.PROCEEDING
        if state is not S.TERMINATED and not waits_for_user:
            assert self.bench.layer.next_deadline() is not None, f"{state} would live for ever"

    @invariant()
    def timers_of_left_states_are_stopped(self) -> None:
        if hasattr(self, "bench"):
            assert len(self.bench.layer._timers) <= 2 * len(self.bench.layer)

    @invariant()
    def one_outcome(self) -> None:
        if not hasattr(self, "bench"):
            return
        if self.client:
            failures = [
                t
                for t in self.told
                if t in ("302", "401", "486", "503", "603", "TransactionTimedOut", "TransportFailed")
            ]
            successes = [t for t in self.told if t == "200"]
            assert len(failures) + min(1, len(successes)) <= 1, "one failure, or success, or none; never two outcomes"
            if self.method != "INVITE":
                assert len(successes) <= 1
        else:
            assert self.told.count(self.method) == 1, "the user hears of a request once"
            finals = [s for s in dict.fromkeys(self.sent) if s >= "200"]
            assert len(finals) <= 1, "one final response, however often"

    @invariant()
    def terminated_is_forgotten(self) -> None:
        if hasattr(self, "bench") and self.bench.state is S.TERMINATED:
            layer = self.bench.layer
            assert len(layer) == len(layer._clients) + len(layer._servers)
            assert self.bench.key not in layer._clients and self.bench.key not in layer._servers
            assert not layer._merges
            assert len(layer._by_connection) <= len(layer)

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        if not self.client and self.bench.state is S.PROCEEDING:
            self.bench.feed(486)
        self.wait(200.0)
        self.wait(200.0)
        assert self.bench.state is S.TERMINATED, "every transaction ends"
        assert len(self.bench.layer._timers) == 0
        assert len(self.bench.layer) == 0


MACHINES = [("INVITE", True), ("OPTIONS", True), ("INVITE", False), ("OPTIONS", False)]


@pytest.mark.parametrize(
    ("kind", "is_client"), MACHINES, ids=[f"{'client' if c else 'server'} {m}" for m, c in MACHINES]
)
def test_any_order(kind: str, is_client: bool) -> None:
    """Section 17: terminates once, sends nothing after that, a live state has a deadline, one outcome is told."""
    machine = cast(type[AnyOrder], type("AnyOrder", (AnyOrder,), {"method": kind, "client": is_client}))
    case = machine.TestCase
    case.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
    case().runTest()
