"""How fast the machine is at this moment, so that figures of different hours and hosts can be compared.

The same work each time, of the kind that signalling is made of: text taken apart, kept by name, put together. Its CPU
time differs by a third and more between hosts, and when others use the caches or the other half of a core.
"""

from __future__ import annotations

import time
from statistics import median

REFERENCE_MS = 20.0
"""CPU time of the work at reference speed. What took `ms` while the work took `speed()` would take
`ms * REFERENCE_MS / speed()` there."""
_TIMES = 7
_LINES = tuple(f"X-Field-{n}: <sip:+4922838{n:04}@192.0.2.1:5060;transport=udp>;tag=a{n}" for n in range(40))


def _work() -> int:
    size = 0
    for turn in range(1800):
        fields: dict[str, tuple[str, ...]] = {}
        for line in _LINES:
            name, _, value = line.partition(": ")
            fields[name.lower()] = (*value.split(";"), str(turn))
        size += len("\r\n".join(f"{name}: {';'.join(parts)}" for name, parts in fields.items()).encode())
    return size


def speed() -> float:
    """Milliseconds of CPU that the work takes now: the median of seven times, some 0.15 s in all."""
    took = []
    for _ in range(_TIMES):
        began = time.thread_time()
        _work()
        took.append((time.thread_time() - began) * 1000)
    return median(took)


def at_reference(ms: float, now: float) -> float:
    """What `ms` of CPU would be at reference speed, `now` being what `speed` said beside it."""
    return ms * REFERENCE_MS / now


if __name__ == "__main__":
    print(f"{speed():.1f} ms ({REFERENCE_MS:g} at reference speed)")
