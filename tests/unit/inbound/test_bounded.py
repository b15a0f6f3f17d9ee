"""What strangers make the edge remember stays small, however long the names are that they send."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from edge.inbound.steps.failures import Failures
from edge.inbound.steps.offers import Offers
from edge.inbound.steps.sweeps import USERS, Sweeps
from edge.transport.guard import Guard


def _offers() -> Callable[[int], object]:
    offers = Offers(("SHA-256", "MD5"))
    return lambda n: offers.to((f"198.51.{n}", f"user{n}" + "x" * 2000, "agent" * 400), n / 300)


def _sweeps() -> Callable[[int], object]:
    sweeps = Sweeps()
    return lambda n: sweeps.asked(f"2001:db8:{n // USERS}::/64", f"user{n}" + "x" * 2000, n / 300)


def _failures() -> Callable[[int], object]:
    failures = Failures()
    return lambda n: failures.failed((f"198.51.{n}", f"user{n}"), n / 300)


def _guard() -> Callable[[int], object]:
    guard = Guard()
    return lambda n: guard.admit(b"REGISTER", f"198.{n >> 16}.{n >> 8 & 255}.{n & 255}", n / 10_000)


PLACES = 1000


@pytest.mark.parametrize(
    ("table", "places", "most"),
    [
        (_offers, "edge.inbound.steps.offers._DEVICES_MAX", 260),
        (_sweeps, "edge.inbound.steps.sweeps._SOURCES_MAX", 800),
        (_failures, "edge.inbound.steps.failures._KEYS_MAX", 600),
        (_guard, "edge.transport.guard._MOST_SOURCES", 500),
    ],
)
def test_memory_is_flat(
    table: Callable[[], Callable[[int], object]], places: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filled again and again a table keeps to its places, each of a few hundred bytes."""
    monkeypatch.setattr(places, PLACES)
    use = table()
    peaks = []
    tracemalloc.start(1)
    try:
        for filling in range(2):
            for n in range(PLACES * USERS):
                use(filling * PLACES * USERS + n)
                if not n % PLACES:
                    peaks.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(peaks) < PLACES * most, f"{max(peaks) / PLACES:.0f} bytes a place"
    assert max(peaks[-USERS:]) < max(peaks[:USERS]) * 1.2
