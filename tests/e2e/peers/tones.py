"""Tones that phones play and hear: proof that audio goes both ways and reaches only those it should.

Each party plays a frequency of its own; a recording is cut into short windows, and each window is heard as silence, as
one of the known frequencies, or as something else. G.711 and packet loss leave a pure tone recognisable, crossed or
one-way audio does not.
"""

from __future__ import annotations

import array
import math
import sys
import threading
import wave
from collections import Counter
from pathlib import Path

RATE = 8000
AMPLITUDE = 8000

# No frequency is a harmonic or a neighbour of another, nor of the DTMF frequencies.
TONES = (440, 570, 740, 1010, 1300, 1750, 2150, 2550)

_WINDOW_SECONDS = 0.1
_SILENCE = 150.0
"""Root mean square of 16-bit samples below which a window is silence; comfort noise stays under it."""
_PURITY = 0.5
"""Share of a window's energy that must lie in one frequency for it to be that tone."""


def write_tone(path: Path, frequency: int, seconds: float = 60.0, rate: int = RATE) -> Path:
    """Write a mono 16-bit WAV file with a sine of `frequency` Hz."""
    # One second holds whole periods of every integer frequency, so it can be repeated without a click.
    second = array.array("h", (round(AMPLITUDE * math.sin(2 * math.pi * frequency * i / rate)) for i in range(rate)))
    if sys.byteorder == "big":
        second.byteswap()
    frames = second.tobytes()
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        for _ in range(math.ceil(seconds)):
            out.writeframesraw(frames)
    return path


def heard(path: Path, tones: tuple[int, ...] = TONES) -> Counter[int]:
    """How many windows of 100 ms of a recording hold which tone; key 0 is silence, -1 anything else."""
    samples, rate = _read(path)
    size = int(rate * _WINDOW_SECONDS)
    counts: Counter[int] = Counter()
    for start in range(0, len(samples) - size + 1, size):
        counts[_classify(samples[start : start + size], rate, tones)] += 1
    return counts


def seconds_of(path: Path, tone: int) -> float:
    """How long a recording holds `tone` (Hz), in seconds."""
    return heard(path)[tone] * _WINDOW_SECONDS


def assert_heard(path: Path, tone: int, at_least: float = 1.0, *, only: bool = True) -> None:
    """Assert that a recording holds at least `at_least` seconds of `tone` and, with `only`, no other known tone."""
    counts = heard(path)
    said = ", ".join(f"{_name(key)} {number * _WINDOW_SECONDS:.1f} s" for key, number in counts.most_common())
    assert counts[tone] * _WINDOW_SECONDS >= at_least, f"{path.name}: wanted {tone} Hz, heard {said or 'nothing'}"
    if only:
        # A window on a seam may be mistaken once or twice; a crossed call lasts.
        others = {key: n for key, n in counts.items() if key > 0 and key != tone and n > 2}
        assert not others, f"{path.name}: wanted only {tone} Hz, heard {said}"


def talk(seconds: float = 1.5) -> None:
    """Let a call go on: audio takes the time it takes."""
    threading.Event().wait(seconds)


def assert_silent(path: Path) -> None:
    """Assert that a recording (or its absence: nothing was heard at all) holds no tone."""
    if not path.exists() or path.stat().st_size <= 44:
        return
    counts = heard(path)
    tones = {key: n for key, n in counts.items() if key > 0 and n > 2}
    assert not tones, f"{path.name}: wanted silence, heard {tones}"


def _name(key: int) -> str:
    return {0: "silence", -1: "noise"}.get(key, f"{key} Hz")


def _read(path: Path) -> tuple[array.array[int], int]:
    with path.open("rb") as file:
        data = file.read()
    # A recorder that is stopped may leave its header unfinished, so sizes in it are not believed.
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError(f"{path} is no WAV file")
    rate, channels, at = RATE, 1, 12
    body = b""
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"fmt ":
            coding = int.from_bytes(data[at + 8 : at + 10], "little")
            channels = int.from_bytes(data[at + 10 : at + 12], "little")
            rate = int.from_bytes(data[at + 12 : at + 16], "little")
            bits = int.from_bytes(data[at + 22 : at + 24], "little")
            if coding not in (1, 0xFFFE) or bits != 16:
                raise ValueError(f"{path}: only 16-bit PCM is measured, this is format {coding} with {bits} bits")
        elif kind == b"data":
            body = data[at + 8 : at + 8 + size] if 0 < size <= len(data) - at - 8 else data[at + 8 :]
            break
        at += 8 + size + size % 2
    samples = array.array("h")
    samples.frombytes(body[: len(body) // (2 * channels) * 2 * channels])
    if sys.byteorder == "big":
        samples.byteswap()
    return samples[::channels], rate


def _classify(window: array.array[int], rate: int, tones: tuple[int, ...]) -> int:
    energy = sum(value * value for value in window)
    if math.sqrt(energy / len(window)) < _SILENCE:
        return 0
    best, power = max(((tone, _goertzel(window, rate, tone)) for tone in tones), key=lambda item: item[1])
    # A pure sine of energy E has the Goertzel power E * N / 2.
    return best if power >= _PURITY * energy * len(window) / 2 else -1


def _goertzel(window: array.array[int], rate: int, frequency: int) -> float:
    coefficient = 2 * math.cos(2 * math.pi * frequency / rate)
    before = last = 0.0
    for value in window:
        last, before = value + coefficient * last - before, last
    return last * last + before * before - coefficient * last * before
