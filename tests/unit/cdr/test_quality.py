"""The estimate of how a call sounded: figures of the E-model (ITU-T G.107, G.113)."""

import pytest

from edge.cdr.quality import mos


@pytest.mark.parametrize(
    ("received", "lost", "jitter", "expected"),
    [
        (5000, 0, None, 4.41),  # G.711, nothing lost: the best that narrowband can be
        (4950, 50, None, 4.33),
        (4750, 250, None, 3.92),  # 5 %
        (4000, 1000, None, 2.63),
        (1000, 9000, None, 1.22),
        (5000, 0, 100.0, 4.23),  # a buffer of 200 ms
        (5000, 0, 10.0, 4.4),
    ],
)
def test_scores(received: int, lost: int, jitter: float | None, expected: float) -> None:
    """Loss and jitter cost what the model says they cost."""
    assert mos(received, lost, jitter) == pytest.approx(expected, abs=0.02)


def test_too_little_says_nothing() -> None:
    """A call of half a second has no score."""
    assert mos(25, 0) is None
    assert mos(0, 0) is None


@pytest.mark.parametrize(
    ("codec", "round_trip", "lost", "expected"),
    [
        ("PCMA", None, 0, 4.41),
        ("G729", None, 0, 4.11),  # equipment impairment 11
        ("G729", None, 100, 3.79),
        ("opus", None, 0, 4.41),  # not in the table
        ("PCMA", 100.0, 0, 4.38),
        ("PCMA", 800.0, 0, 3.05),  # half of it on the way
    ],
)
def test_codec_and_delay(codec: str, round_trip: float | None, lost: int, expected: float) -> None:
    """Codecs that compress start lower, and a way of more than 177 ms costs dearly."""
    assert mos(5000, lost, None, codec, round_trip) == pytest.approx(expected, abs=0.02)


def test_unknown_loss_has_no_score() -> None:
    """A score from nothing would say that all is well."""
    assert mos(5000, None) is None
