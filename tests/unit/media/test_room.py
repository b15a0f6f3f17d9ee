"""How many calls relay processes have room for, and how many of them share the ports."""

from __future__ import annotations

import pytest

from media.relay.room import processes, room, shares


def test_what_runs_out_first_is_named() -> None:
    """Four ports and four descriptors a call; the remedy is that of the scarcer one."""
    plenty = room((30000, 39999), 20000)
    assert (plenty.calls, plenty.short_of) == (2499, "ports") and "media_ports" in plenty.text
    few = room((30000, 39999), 1024)
    assert (few.calls, few.short_of) == (240, "descriptors")
    assert "out of file descriptors (240 calls)" in few.text and "LimitNOFILE or ulimit -n (now 1024)" in few.text


@pytest.mark.parametrize(
    ("ports", "cores", "descriptors", "count"),
    [
        ((30000, 39999), 1, 20000, 1),
        ((30000, 39999), 2, 20000, 2),
        ((30000, 39999), 64, 20000, 8),
        ((30000, 30199), 64, 20000, 1),
        ((30000, 33999), 64, 20000, 4),
        ((2000, 65000), 2, 20000, 4),
        ((30000, 39999), 1, 1024, 11),
        ((30000, 30015), 1, 80, 1),
    ],
)
def test_processes_by_cores_ports_and_descriptors(
    ports: tuple[int, int], cores: int, descriptors: int, count: int
) -> None:
    """A core each, none with next to nothing to do, and enough of them to use all ports."""
    assert processes(ports, cores, descriptors) == count


def test_shares_are_even_and_apart() -> None:
    """RTP has even ports: each part begins at one, and no port is in two."""
    assert shares((30000, 39999), 1) == [(30000, 39999)]
    parts = shares((30001, 39999), 3)
    assert parts == [(30002, 33333), (33334, 36665), (36666, 39997)]
    assert all(low % 2 == 0 for low, _ in parts)
