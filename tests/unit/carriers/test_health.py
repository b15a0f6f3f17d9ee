"""Verdicts on OPTIONS to carriers known by address."""

from __future__ import annotations

import pytest

from edge.carriers.health import Health


def health() -> Health:
    return Health(lambda: 0.5, 0.0)


def test_up_until_found_dead() -> None:
    """Nobody loses a carrier before it has been asked; the first request comes soon."""
    h = health()
    assert h.up and h.deadline == 2.5
    h.sent()
    assert h.deadline == float("inf")


def test_two_unanswered_requests_take_it_down() -> None:
    """One lost OPTIONS is no outage, two are; asked more often meanwhile."""
    h = health()
    h.answered(405, None, 0.0)
    assert not h.unanswered("no answer", 10.0) and h.up
    assert h.deadline == 30.0
    assert h.unanswered("no answer", 30.0) and not h.up
    assert (h.since, h.detail, h.status) == (30.0, "no answer", None)


@pytest.mark.parametrize("status", [200, 401, 404, 405, 481, 486, 500])
def test_any_answer_is_life(status: int) -> None:
    """Carriers that do not know OPTIONS still prove that they are there."""
    h = health()
    h.answered(200, None, 0.0)
    h.unanswered("", 0.0)
    assert h.unanswered("", 20.0) and not h.up
    assert h.answered(status, None, 40.0)
    assert h.up and h.detail == "" and h.deadline == 100.0


def test_a_carrier_that_never_answers_options_stays_up() -> None:
    """Silence of one that ignores OPTIONS says nothing: its calls may well work."""
    h = health()
    for t in range(10):
        assert not h.unanswered("no answer", t * 60.0)
    assert h.up and h.detail == "no answer"


def test_an_answer_between_resets_the_count() -> None:
    """Strikes count in a row only."""
    h = health()
    h.unanswered("", 0.0)
    h.answered(200, None, 20.0)
    assert not h.unanswered("", 80.0) and h.up


def test_503_is_down_at_once_and_retry_after_is_kept() -> None:
    """RFC 3261 section 21.5.4: no requests for the time that Retry-After names."""
    h = health()
    assert h.answered(503, 120.0, 0.0)
    assert not h.up and h.deadline == 126.0
    assert h.answered(200, None, 121.0) and h.up
