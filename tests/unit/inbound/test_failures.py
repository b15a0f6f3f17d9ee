"""Failed authentications: counters and bans (domain rule 7.4c)."""

from __future__ import annotations

import pytest

from edge.inbound.steps import failures
from edge.inbound.steps.failures import Failures


def test_five_within_a_minute_ban_for_a_quarter_of_an_hour() -> None:
    """Rule 7.4c: 5 fails per 60 s."""
    f = Failures()
    assert [f.failed("x", t) for t in (0, 10, 20, 30)] == [None] * 4
    assert not f.banned("x", 30)
    assert f.failed("x", 59) == 900
    assert f.banned("x", 59 + 899) and not f.banned("x", 59 + 900)
    assert not f.banned("y", 60)


def test_five_in_more_than_a_minute_do_not() -> None:
    """A phone with a wrong password that asks every 20 s is a nuisance, no attack."""
    f = Failures()
    assert all(f.failed("x", t * 20) is None for t in range(100))


def test_each_further_ban_is_twice_as_long_up_to_a_day() -> None:
    """Rule 7.4c: exponential."""
    f = Failures()
    now, bans = 0.0, []
    for _ in range(9):
        seconds = None
        while seconds is None:
            now += 1
            seconds = f.failed("x", now)
        bans.append(seconds)
        now += seconds
    assert bans == [900, 1800, 3600, 7200, 14400, 28800, 57600, 86400, 86400]


def test_a_day_of_quiet_is_forgiven() -> None:
    """The next ban is a first one again."""
    f = Failures()
    for t in range(5):
        f.failed("x", t)
    later = 2 * 86400 + 10
    assert [f.failed("x", later + t) for t in range(5)][-1] == 900


def test_failures_during_a_ban_do_not_prolong_it() -> None:
    """Requests that were under way when the ban fell count for nothing."""
    f = Failures()
    for t in range(5):
        f.failed("x", t)
    assert f.failed("x", 100) is None
    assert not f.banned("x", 4 + 900)


def test_memory_is_bounded_and_bans_of_the_recent_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood from many sources does not fill the memory; who failed last is remembered longest."""
    monkeypatch.setattr(failures, "_KEYS_MAX", 100)
    f = Failures()
    for i in range(1000):
        f.failed(i, float(i))
    for t in range(5):
        f.failed("x", 1000.0 + t)
    assert len(f._records) <= 101 and f.banned("x", 1005.0)


def test_pardon() -> None:
    """An operator, or a success, ends a ban."""
    f = Failures()
    for t in range(5):
        f.failed("x", t)
    f.pardon("x")
    assert not f.banned("x", 5)
