"""How a call sounded, estimated by the E-model (ITU-T G.107): everything at its default but loss, jitter, round trip
and codec. Pure."""

from __future__ import annotations

from typing import Final

_R0: Final = 93.2
_ENOUGH: Final = 50
"""Packets (one second) below which an estimate says nothing."""
_G711: Final = (0.0, 25.1)
_CODECS: Final = {"G729": (11.0, 19.0), "G723": (15.0, 16.1), "GSM-EFR": (5.0, 10.0), "GSM": (20.0, 25.1)}
"""Equipment impairment and robustness against loss (ITU-T G.113 appendix I). All others count as G.711 with
concealment, which is too good for narrow ones; wideband ones are not on this scale at all."""


def mos(
    received: int,
    lost: int | None,
    jitter: float | None = None,
    codec: str | None = None,
    round_trip: float | None = None,
) -> float | None:
    """Mean opinion score, 1.0 to 4.4, of a stream of which `received` packets came and `lost` are missing.

    `jitter`: mean, in milliseconds; the listener's buffer is taken to be twice as long. `round_trip`: of the network,
    in milliseconds. `codec`: its encoding name. None: too few packets, or the loss is not known.
    """
    if received < _ENOUGH or lost is None:
        return None
    equipment, robustness = _CODECS.get((codec or "").upper(), _G711)
    loss = 100 * lost / (received + lost)
    impairment = equipment + (95 - equipment) * loss / (loss + robustness)
    delay = 2 * (jitter or 0.0) + (round_trip or 0.0) / 2
    impairment += 0.024 * delay + (0.11 * (delay - 177.3) if delay > 177.3 else 0.0)
    r = max(0.0, _R0 - impairment)
    return round(max(1.0, 1 + 0.035 * r + 7e-6 * r * (r - 60) * (100 - r)), 2)
