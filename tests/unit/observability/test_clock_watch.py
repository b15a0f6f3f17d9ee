"""Steps of the wall clock are told, counted, and keep the purge from deleting by a clock that may be wrong."""

from __future__ import annotations

import pytest

from edge.observability.clock_watch import ClockWatch


class Clocks:
    def __init__(self) -> None:
        self.wall, self.monotonic = 1_000_000.0, 50.0

    def pass_by(self, seconds: float, *, drift: float = 0.0) -> None:
        self.monotonic += seconds
        self.wall += seconds + drift


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def watch(clocks: Clocks) -> ClockWatch:
    return ClockWatch(lambda: clocks.wall, lambda: clocks.monotonic)


def test_slewing_is_no_step(clocks: Clocks, watch: ClockWatch) -> None:
    """NTP moves the clock by some hundred parts per million; over a day that is more than a second."""
    for _ in range(43_200):
        clocks.pass_by(2, drift=0.001)
        watch.look()
    assert watch.steps == 0 and watch.trusted


@pytest.mark.parametrize("seconds", [3.0, -3.0, 599.0])
def test_a_small_step_is_told(clocks: Clocks, watch: ClockWatch, seconds: float) -> None:
    """Counted once; ages of days are judged as before."""
    clocks.pass_by(2, drift=seconds)
    watch.look()
    clocks.pass_by(2)
    watch.look()
    assert watch.steps == 1 and watch.trusted


@pytest.mark.parametrize("seconds", [86_400.0 * 365, -86_400.0])
def test_after_a_large_step_nothing_is_purged_for_an_hour(clocks: Clocks, watch: ClockWatch, seconds: float) -> None:
    """A clock that says next year would delete everything; asked before its own next look it knows already."""
    clocks.pass_by(1, drift=seconds)
    assert not watch.trusted
    clocks.pass_by(3599)
    assert not watch.trusted
    clocks.pass_by(2)
    assert watch.trusted
