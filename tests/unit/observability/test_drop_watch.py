"""Datagrams that the kernel threw away are told, once a minute, with how many; those of before an upgrade are not."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from edge.observability import logging
from edge.observability.drop_watch import DropWatch
from edge.sip.flow import Address
from edge.transport.udp import UdpSocket

UDP = Path("/proc/net/udp")


class Lines(list[bytes]):
    def put(self, line: bytes, urgent: bool = False) -> None:
        self.append(line)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    found = Lines()
    monkeypatch.setattr(logging._Output, "lines", found)
    logging.configure(found)
    return found


async def test_drops_are_told_once_a_minute(lines: Lines) -> None:
    """By listener; the next line has all that came since."""
    dropped, now = {"udp:a": 5, "udp:b": 0}, [100.0]
    watch = DropWatch(lambda: dropped, lambda: now[0])
    watch.start()
    watch.stop()
    watch.look()
    assert lines == []
    for count, at in ((8, 105.0), (20, 110.0), (21, 166.0), (21, 300.0)):
        dropped["udp:a"], now[0] = count, at
        watch.look()
    told = [json.loads(line) for line in lines]
    assert [(t["event"], t["level"], t["listener"], t["dropped"]) for t in told] == [
        ("listener.dropped", "warning", "udp:a", 3),
        ("listener.dropped", "warning", "udp:a", 13),
    ]


async def test_a_socket_knows_what_the_kernel_dropped() -> None:
    """Datagrams that nobody reads fill the kernel's buffer; what has no room is counted, as /proc/net/udp does."""
    udp = UdpSocket(Address("127.0.0.1", 0), lambda data, flow: None)
    udp._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    assert udp.dropped == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(100):
            sender.sendto(b"x" * 500, tuple(udp.local))
    port = f":{udp.local.port:04X} "
    rows = [line.split() for line in (await asyncio.to_thread(UDP.read_text)).splitlines() if port in line]
    assert 50 < udp.dropped < 100 and str(udp.dropped) in {row[-1] for row in rows}
    udp.start()
    udp.close()
