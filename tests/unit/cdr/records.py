"""Records and stores for the tests of this room."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from dialplan.model import Step
from edge.cdr.record import Attempt, CallRecord, MediaFigures, RefusedCall

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def call(name: str) -> CallRecord:
    """A finished call with every field filled."""
    return CallRecord(
        id=name, edge="e1", started_at=NOON, ringing_at=NOON + timedelta(milliseconds=120),
        answered_at=NOON + timedelta(seconds=4), ended_at=NOON + timedelta(seconds=34), direction="inbound",
        source_kind="carrier", source_name="telekom", account="K1", billed_account="K2", caller="+4915112345678",
        caller_withheld=True, dialled="022838600", called="+4922838600", number="+492283860", target_kind="trunk",
        target_name="hq", carrier="telekom", presented="+4915112345678", network_number="+49228386",
        outcome="answered", reason="x", sip_status=200, a_cause=16, b_cause=17, released_by="a",
        a_call_id=f"{name}@far", b_call_id=f"{name}-b", emergency=False, trace=(Step("1.2", "a rule"),),
        media=MediaFigures(1, 2, 3, 4, 5, 6, 1.5, None, None, 4.1), attempts=(Attempt("trunk", "hq", NOON, 200, None),),
    )  # fmt: skip


def refused(name: str, at: datetime = NOON) -> RefusedCall:
    """A refused call with every field filled."""
    return RefusedCall(
        id=name, at=at, level="number", direction="inbound", number="+4922838600", account="K1", trunk="hq",
        carrier="telekom", caller=None, caller_withheld=True, reason="number-limit", sip_status=486, limit_value=2,
        used=2, detail="both channels are in use", source_ip="203.0.113.5",
    )  # fmt: skip


class FakeStore:
    """A database in memory: keys are unique, and it does what it is told to do."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        """Ids in the order in which they were stored for the first time."""
        self.tried = 0
        self.away: Exception | None = None
        """What every attempt meets."""
        self.refuses: dict[str, Exception] = {}
        """What an attempt meets that holds the record of this id."""

    async def insert(self, calls: Sequence[bytes], refused: Sequence[bytes]) -> None:
        self.tried += 1
        if self.away is not None:
            raise self.away
        ids = [str(json.loads(line)["id"]) for line in (*calls, *refused)]
        for name in ids:
            if name in self.refuses:
                raise self.refuses[name]
        self.ids += [name for name in ids if name not in self.ids]


class Counts:
    """Counters that a test can read."""

    def __init__(self) -> None:
        self.stored = 0
        self.lost = 0
        self.failures: list[str] = []

    def records_stored(self, table: str, count: int) -> None:
        self.stored += count

    def records_lost(self, table: str, count: int) -> None:
        self.lost += count

    def record_failure(self, where: str) -> None:
        self.failures.append(where)
