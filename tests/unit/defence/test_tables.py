"""Budgets and alarms through the database: edges agree, portals are notified."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from config.embedded import EmbeddedPostgres
from config.migrations.runner import migrate_up
from config.model import Budget
from dialplan.model import Direction, RoutePlan
from edge.defence.alarms import Alarm, Alarms
from edge.defence.suspension import Suspension
from edge.defence.usage import BudgetUsage
from edge.retention.purge import PostgresPurge

from .test_budgets import Desk

pytestmark = pytest.mark.adapter


class Call:
    """A live call."""

    def __init__(self, account: str = "K1", direction: Direction = Direction.OUTBOUND, answered: float = 0.0) -> None:
        self.plan = RoutePlan(direction, (), "+49", account, account)
        self.answered_at: float | None = answered
        self.ended: list[str] = []

    def end(self, q850: int, detail: str) -> None:
        self.ended.append(detail)


class Live(dict[str, Call]):
    """Live calls by id."""

    def live(self) -> list[Call]:
        return list(self.values())


@pytest.fixture
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[asyncpg.Pool]:
    folder: Path = tmp_path_factory.mktemp("postgres")
    for parent in (folder, *folder.parents):
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)
    async with EmbeddedPostgres(folder / "data") as server:
        connection = await asyncpg.connect(server.url)
        await migrate_up(connection)
        await connection.close()
        async with asyncpg.create_pool(server.url, min_size=0, max_size=3) as pool:
            yield pool


async def test_edges_share_budgets_and_raise_alarms(postgres: asyncpg.Pool) -> None:
    """What one edge counts stands against calls of the other after an exchange; a restart forgets nothing; minutes
    end a call and raise an alarm; a reset reaches both; the alarm notifies and is stored whatever it holds."""
    raised: list[str] = []
    alarms = Alarms("one", lambda: 0.0, lambda: datetime.now(UTC), postgres.acquire, raised.append)

    def edge(name: str, calls: Live) -> tuple[Desk, BudgetUsage]:
        desk = Desk(account=Budget(calls_per_hour=3, minutes_per_hour=2))
        desk.now = datetime.now(UTC)
        return desk, BudgetUsage(desk.budgets, calls, alarms, postgres.acquire, name, lambda: 100.0, lambda: desk.now)

    calls = Live(c1=Call(), c2=Call(answered=1000.0))
    one, usage_one = edge("one", calls)
    two, usage_two = edge("two", Live())
    assert [one.call(), one.call()] == [None, None]
    await usage_one.exchange()
    await usage_two.exchange()
    assert [two.call(), two.call()] == [None, "account K1: 3 of 3 calls per hour"]
    await usage_two.exchange()
    await usage_one.exchange()
    assert one.call() == "account K1: 3 of 3 calls per hour"

    again, usage_again = edge("one", Live())
    await usage_again.exchange()
    assert again.call() == "account K1: 3 of 3 calls per hour"

    usage_one.count()
    assert calls["c1"].ended == [] and raised == []
    calls["c1"].answered_at = -20.0  # two minutes ago
    usage_one.count()
    assert calls["c1"].ended == ["budget-exhausted"] and raised == ["budget"]

    assert not await usage_one.reset(("seat", "nobody"))
    assert await usage_one.reset(("account", "K1"))
    await usage_two.exchange()
    assert one.call() is None and two.call() is None

    async with postgres.acquire() as listener:
        heard: asyncio.Queue[str] = asyncio.Queue()

        def notified(*said: object) -> None:
            heard.put_nowait(str(said[3]))

        await listener.add_listener("sip_edge_alarms", notified)
        alarms.raise_(Alarm("probing", None, "evil\0\udcff", "x"))
        alarms.raise_(Alarm("probing", None, "evil\0\udcff", "again, at once"))
        await alarms.write()
        ids = [await asyncio.wait_for(heard.get(), 5) for _ in range(2)]
        await listener.remove_listener("sip_edge_alarms", notified)
        rows = await listener.fetch("SELECT kind, subject FROM sip_edge.alarms ORDER BY id")
        assert len(ids) == 2 and [tuple(r) for r in rows] == [("budget", "account K1"), ("probing", "evil\\udcff")]
        await PostgresPurge(postgres.acquire).purge(datetime.now(UTC) + timedelta(days=8), timedelta(days=30))
        assert await listener.fetchval("SELECT count(*) FROM sip_edge.alarms") == 0
        assert await listener.fetchval("SELECT count(*) FROM sip_edge.budget_usage") == 0
    assert raised == ["budget", "probing"]


def test_suspension_ends_what_the_operator_chose() -> None:
    """`end` and `lock` end calls of the account, also those that it is billed for; `bar` none; never an emergency."""
    from dataclasses import replace

    from config.model import Account, AccountStatus, Rows
    from config.snapshot import EMPTY, Snapshot

    def snapshot(suspension: str, status: AccountStatus = AccountStatus.SUSPENDED) -> Snapshot:
        return Snapshot(Rows(accounts=(Account("K1", status=status, suspension=suspension), Account("K2"))), 1)

    active = snapshot("bar", AccountStatus.ACTIVE)
    for suspension, ended in (("bar", 0), ("end", 2), ("lock", 2)):
        calls = Live(a=Call(), b=Call(direction=Direction.EMERGENCY), c=Call("K2"), d=Call("K2"))
        calls["d"].plan = replace(calls["d"].plan, billed_account="K1")
        switch = Suspension(calls)
        switch.apply(EMPTY, active)
        assert not any(call.ended for call in calls.live())
        switch.apply(active, snapshot(suspension))
        assert [name for name, call in calls.items() if call.ended] == ["a", "d"][:ended]
        calls["e"] = Call()
        switch.apply(snapshot(suspension), snapshot(suspension))
        assert not calls["e"].ended, "once"
