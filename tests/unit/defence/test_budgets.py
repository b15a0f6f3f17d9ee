"""Budgets of calls and minutes (domain rule 7.4g)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from config.model import NO_BUDGET, Account, Budget, Rows, Seat, Trunk
from config.snapshot import Snapshot
from dialplan.model import Source, SourceKind
from edge.cdr.record import CallRecord
from edge.defence.budgets import Budgets, Row

NOON = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
"""A Tuesday."""
SEAT = Source(SourceKind.SEAT, "a.mueller", "K1")
OTHER = Source(SourceKind.SEAT, "b.meier", "K1")
TRUNK = Source(SourceKind.TRUNK, "hq", "K1")


class Desk:
    """Budgets with a clock moved by hand."""

    def __init__(
        self, *, account: Budget = NO_BUDGET, seat: Budget = NO_BUDGET, trunk: Budget = NO_BUDGET, night: int = 100
    ) -> None:
        self.now = NOON
        self.budgets = Budgets(lambda: self.now)
        self.snapshot = Snapshot(
            Rows(
                accounts=(Account("K1", budget=account, night_percent=night), Account("K2")),
                seats=(Seat("a.mueller", "K1", budget=seat), Seat("b.meier", "K1")),
                trunks=(Trunk("K1", "hq", budget=trunk),),
            ),
            1,
        )
        self.budgets.apply(self.snapshot)
        self.calls = 0

    def call(self, source: Source = SEAT, account: str = "K1") -> str | None:
        """Begin a call; what stands against it."""
        self.calls += 1
        spent = self.budgets.begin(f"c{self.calls}", account, source)
        return None if spent is None else str(spent)

    def end(self, call: str, seconds: int) -> None:
        self.budgets.finished(
            CallRecord(id=call, edge="e", started_at=NOON, answered_at=NOON, ended_at=NOON + timedelta(seconds=seconds),
                       direction="outbound", source_kind="seat", source_name="a", outcome="answered")
        )  # fmt: skip

    def pass_(self, **time: int) -> None:
        self.now += timedelta(**time)
        self.budgets.tick(lambda call: None)


def test_calls_of_an_hour_and_a_day() -> None:
    """Each level has its own; the day goes on where the hour is over."""
    desk = Desk(seat=Budget(calls_per_hour=2, calls_per_day=3), account=Budget(calls_per_day=5))
    assert [desk.call() for _ in range(3)] == [None, None, "seat a.mueller: 2 of 2 calls per hour"]
    desk.pass_(minutes=65)
    assert [desk.call() for _ in range(2)] == [None, "seat a.mueller: 3 of 3 calls per day"]
    assert [desk.call(OTHER) for _ in range(3)] == [None, None, "account K1: 5 of 5 calls per day"]
    assert desk.call(account="K2", source=Source(SourceKind.CARRIER, "c")) is None
    desk.pass_(hours=24)
    assert desk.call() is None


def test_forwarded_calls_are_the_accounts() -> None:
    """A call from a carrier that leaves again over a carrier costs the account that is served (rule 7.3: forward
    fraud)."""
    desk = Desk(account=Budget(calls_per_hour=1), seat=Budget(calls_per_hour=0))
    inbound = Source(SourceKind.CARRIER, "telekom")
    assert [desk.call(inbound), desk.call(inbound)] == [None, "account K1: 1 of 1 calls per hour"]
    assert desk.call() == "seat a.mueller: 0 of 0 calls per hour"


def test_one_call_counts_once_over_several_carriers() -> None:
    desk = Desk(trunk=Budget(calls_per_hour=1))
    assert desk.budgets.begin("x", "K1", TRUNK) is None
    assert desk.budgets.begin("x", "K1", TRUNK) is None, "the next carrier"
    assert str(desk.budgets.begin("y", "K1", TRUNK)) == "trunk K1/hq: 1 of 1 calls per hour"


def test_minutes_count_while_the_call_lasts_and_end_it() -> None:
    """One long call cannot outlast its budget; what was counted while it lasted is not counted again at its end."""
    desk = Desk(account=Budget(minutes_per_hour=10))
    desk.call()
    desk.call()
    desk.now += timedelta(minutes=4)
    assert desk.budgets.tick({"c1": 240.0}.get) == []
    desk.end("c1", 270)
    desk.now += timedelta(minutes=1)
    assert desk.budgets.tick({"c2": 329.0}.get) == []
    ((call, spent),) = desk.budgets.tick({"c2": 330.0}.get)
    assert (call, str(spent)) == ("c2", "account K1: 10 of 10 minutes per hour")
    desk.end("c2", 330)
    assert desk.call() == "account K1: 10 of 10 minutes per hour"
    (row,) = desk.budgets.listed()
    assert (row["minutes_per_hour_used"], row["calls_per_hour_used"], row["calls_per_hour"]) == (10, 2, None)


def test_calls_in_excess_do_not_end_those_that_are_up() -> None:
    """Only minutes end a call."""
    desk = Desk(account=Budget(calls_per_hour=1))
    desk.call()
    assert desk.call() is not None
    assert desk.budgets.tick({"c1": 3000.0}.get) == []


@pytest.mark.parametrize(
    ("at", "left"),
    [
        (datetime(2026, 12, 1, 12, 0, tzinfo=UTC), 10),
        (datetime(2026, 12, 1, 20, 59, tzinfo=UTC), 10),  # 21:59 in Berlin
        (datetime(2026, 12, 1, 21, 0, tzinfo=UTC), 2),
        (datetime(2026, 12, 2, 4, 59, tzinfo=UTC), 2),
        (datetime(2026, 12, 2, 5, 0, tzinfo=UTC), 10),
        (datetime(2026, 12, 5, 12, 0, tzinfo=UTC), 2),  # Saturday
    ],
)
def test_at_night_a_share_of_it_holds(at: datetime, left: int) -> None:
    """Night and weekend are the account's (Berlin)."""
    desk = Desk(account=Budget(calls_per_hour=10), night=20)
    desk.now = at
    desk.budgets.settle()
    assert [desk.call() for _ in range(left + 1)].count(None) == left


def test_a_new_snapshot_keeps_what_was_used() -> None:
    """A budget that is changed counts on; one that goes is gone."""
    desk = Desk(account=Budget(calls_per_hour=1))
    desk.call()
    rows = Rows(accounts=(replace(desk.snapshot.accounts["K1"], budget=Budget(calls_per_hour=2)),))
    desk.budgets.apply(Snapshot(rows, 2))
    assert [desk.call(), desk.call()] == [None, "account K1: 2 of 2 calls per hour"]
    desk.budgets.apply(Snapshot(Rows(accounts=(Account("K1"),)), 3))
    assert desk.call() is None


def test_edges_count_together() -> None:
    """What others used counts here, also when they correct it; what is saved is not saved again; a reset is one of
    all."""
    one, two = Desk(account=Budget(calls_per_hour=3)), Desk(account=Budget(calls_per_hour=3))
    one.call()
    one.call()
    (row,) = one.budgets.unsaved()
    for _ in range(2):
        two.budgets.heard("one", row)
    two.budgets.settle()
    assert [two.call(), two.call()] == [None, "account K1: 3 of 3 calls per hour"]
    one.budgets.saved([row])
    assert one.budgets.unsaved() == []
    one.call()
    (row,) = one.budgets.unsaved()
    assert row == Row(("account", "K1"), row.bucket, 3, 0)
    two.budgets.reset(("account", "K1"))
    assert two.call() is None


def test_calls_that_outlive_a_restart_use_up_their_minutes() -> None:
    """A restored call is not counted again, its further minutes are, and it is ended when none are left; what this edge
    used before the restart is added to what it used since, also in the same five minutes."""
    desk = Desk(account=Budget(minutes_per_hour=10, calls_per_hour=5))
    desk.budgets.resume("old", "K1", SEAT, 400.0)
    assert desk.call() is None
    assert desk.budgets.tick({"old": 420.0}.get) == []
    (since,) = desk.budgets.unsaved()
    assert (since.calls, since.seconds) == (1, 20)
    desk.budgets.heard("here", Row(since.key, since.bucket, 1, 400), own=True)
    desk.budgets.settle()
    (row,) = desk.budgets.listed()
    assert (row["calls_per_hour_used"], row["minutes_per_hour_used"]) == (2, 7)
    assert desk.budgets.unsaved() == [Row(since.key, since.bucket, 2, 420)]
    over = dict(desk.budgets.tick({"old": 600.0}.get))
    assert str(over["old"]) == "account K1: 10 of 10 minutes per hour"
    desk.end("old", 610)
    assert desk.budgets.unsaved() == [Row(since.key, since.bucket, 2, 610)]


def test_no_budget_costs_nothing() -> None:
    """The way of a normal call: nothing is kept of it."""
    desk = Desk()
    assert desk.call() is None and not desk.budgets._live
