"""How good a call sounded, estimated from what the relay counted: the E-model (ITU-T G.107) with everything at its
default but loss and jitter. Pure."""

from __future__ import annotations

_R0 = 93.2
_ROBUSTNESS = 25.1
"""Of G.711 with packet loss concealment (ITU-T G.113 appendix I). The relay does not tell codecs apart: for others the
estimate is too good."""
_ENOUGH = 50
"""Packets (one second) below which an estimate says nothing."""


def mos(received: int, lost: int, jitter: float | None = None) -> float | None:
    """Mean opinion score, 1.0 to 4.4, of a stream of which `received` packets came and `lost` are missing.

    `jitter`: mean, in milliseconds; the listener's buffer is taken to be twice as long. None: too few packets.
    """
    if received < _ENOUGH:
        return None
    loss = 100 * lost / (received + lost)
    impairment = 95 * loss / (loss + _ROBUSTNESS)
    delay = 2 * (jitter or 0.0)
    impairment += 0.024 * delay + (0.11 * (delay - 177.3) if delay > 177.3 else 0.0)
    r = max(0.0, _R0 - impairment)
    return round(max(1.0, 1 + 0.035 * r + 7e-6 * r * (r - 60) * (100 - r)), 2)
