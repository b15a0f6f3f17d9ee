"""Lines of the log under a flood."""

from __future__ import annotations

from edge.inbound.sparing import Sparing


def test_a_few_lines_a_second_and_the_count_of_the_others() -> None:
    """The first ones say what comes; the next that is written says how many were not."""
    sparing = Sparing(most=3)
    first = [sparing.line(100.0 + n / 300) for n in range(300)]
    assert first[:3] == [0, 0, 0] and first[3:] == [None] * 297
    assert [sparing.line(101.5 + n) for n in range(2)] == [297, 0]
