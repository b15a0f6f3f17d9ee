"""How many calls a relay process has room for, by its ports and its file descriptors. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_PER_CALL = 4
"""UDP ports, and file descriptors, of an answered call with one medium: RTP and RTCP, towards each side."""
_OWN_PORTS = 2
_OWN_DESCRIPTORS = 64
"""Libraries, sockets for commands and events, the engine's threads: 23, and some to spare."""


@dataclass(frozen=True, slots=True)
class Room:
    """`calls` with one medium each fit; what runs out first is `short_of`."""

    calls: int
    short_of: Literal["ports", "descriptors"]
    descriptors: int
    """How many the process may have."""

    @property
    def remedy(self) -> str:
        """What to do for more calls, in words."""
        if self.short_of == "ports":
            return "widen media_ports, or look for calls that were never ended"
        return f"raise LimitNOFILE or ulimit -n (now {self.descriptors}), or set relay_processes higher"

    @property
    def text(self) -> str:
        """Why there is no room for one more call, and what to do."""
        return f"the relay is out of {_NAMES[self.short_of]} ({self.calls} calls): {self.remedy}"


_NAMES = {"ports": "ports", "descriptors": "file descriptors"}


def room(ports: tuple[int, int], descriptors: int) -> Room:
    """The room of a process with `ports` (inclusive) and so many file descriptors (hard limit)."""
    by_ports = (ports[1] - ports[0] + 1 - _OWN_PORTS) // _PER_CALL
    by_descriptors = max(0, (descriptors - _OWN_DESCRIPTORS) // _PER_CALL)
    if by_descriptors < by_ports:
        return Room(by_descriptors, "descriptors", descriptors)
    return Room(by_ports, "ports", descriptors)


def processes(ports: tuple[int, int], cores: int, descriptors: int) -> int:
    """How many processes share `ports` where nobody says: one for each core, up to 8, as each moves its packets in one
    thread; fewer where a process would have ports for less than 250 calls; more where `descriptors` of one do not
    suffice for its ports."""
    count = ports[1] - ports[0] + 1
    wanted = max(1, min(cores, 8, count // (250 * _PER_CALL)))
    needed = -(-count // max(1, descriptors - _OWN_DESCRIPTORS))
    return min(max(wanted, needed), _MOST, max(1, count // (2 * _PER_CALL)))


_MOST = 64


def shares(ports: tuple[int, int], among: int) -> list[tuple[int, int]]:
    """`ports` in equal parts, each of which begins at an even port."""
    first = ports[0] + ports[0] % 2
    each = (ports[1] - first + 1) // among // 2 * 2
    if among == 1:
        return [ports]
    return [(first + n * each, first + (n + 1) * each - 1) for n in range(among)]
