"""The purge job: when it comes back, what it does without a database, how long records may be kept at most."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest

from edge.retention.kept import FILES, REFUSED_AGE, SIX_MONTHS
from edge.retention.purge import Purged, PurgeJob
from tests.unit.cdr.records import NOON

AWAY = ConnectionRefusedError("no database")


class FakePurger:
    """Says what it was asked, and what it is told to say."""

    def __init__(self, answer: Callable[[datetime], Awaitable[Purged]]) -> None:
        self._answer = answer
        self.asked: list[tuple[datetime, timedelta]] = []

    async def purge(self, now: datetime, keep_calls: timedelta) -> Purged:
        self.asked.append((now, keep_calls))
        return await self._answer(now)


@pytest.mark.parametrize(
    ("next_in", "wait"),
    [(timedelta(seconds=7), 7.0), (timedelta(hours=1), 60.0), (timedelta(seconds=-1), 0.05), (None, 60.0)],
)
async def test_the_purge_comes_back_when_the_next_record_is_due(next_in: timedelta | None, wait: float) -> None:
    """Domain 5.11: 7 days to the second; otherwise once a minute."""

    async def answer(now: datetime) -> Purged:
        return Purged({}, now + next_in if next_in is not None else None)

    purger = FakePurger(answer)
    assert await PurgeJob(purger, lambda: NOON, timedelta(days=30)).once() == wait
    assert purger.asked == [(NOON, timedelta(days=30))]


async def test_a_purge_without_database_is_tried_again() -> None:
    """An outage does not end the job, nor keep what is not in the database beyond its time: each kind of file is
    purged, at its age."""
    asked: dict[str, timedelta] = {}
    told: list[dict[str, int]] = []

    async def answer(_now: datetime) -> Purged:
        raise AWAY

    def delete(what: str) -> Callable[[timedelta], int]:
        def asked_to(age: timedelta) -> int:
            asked[what] = age
            return int(what == "traces")

        return asked_to

    job = PurgeJob(
        FakePurger(answer), lambda: NOON, timedelta(days=30), {f.what: delete(f.what) for f in FILES},
        lambda gone: told.append(dict(gone)),
    )  # fmt: skip
    assert await job.once() == 60.0
    week = timedelta(days=7)
    assert asked == {
        "messages": week, "traces": week, "journal": timedelta(days=1), "rejected-records": timedelta(days=30),
        "stuck-faxes": timedelta(days=30),
    }  # fmt: skip
    assert told == [{"traces": 1}]


async def test_nothing_is_purged_by_a_clock_that_stepped() -> None:
    """A clock that is a year ahead would delete everything."""

    async def answer(_now: datetime) -> Purged:
        raise AssertionError

    job = PurgeJob(FakePurger(answer), lambda: NOON, files={"traces": lambda _: 1 // 0}, trusted=lambda: False)
    assert await job.once() == 60.0


def test_records_may_not_be_kept_longer_than_the_law_allows() -> None:
    """Domain 7.9: billing data up to six months."""

    async def answer(_now: datetime) -> Purged:
        raise AssertionError

    with pytest.raises(ValueError, match="at most 184 days"):
        PurgeJob(FakePurger(answer), lambda: NOON, timedelta(days=365))


def test_ages_that_the_domain_gives() -> None:
    """Domain rule 7.9."""
    assert (timedelta(days=7), timedelta(days=184)) == (REFUSED_AGE, SIX_MONTHS)
