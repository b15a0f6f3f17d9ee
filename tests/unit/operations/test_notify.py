"""What systemd hears: ready, a watchdog that the event loop itself feeds, stopping."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.notify import Notify


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(str(tmp_path / "notify"))
        there.setblocking(False)
        yield there


def heard(manager: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


async def test_ready_watchdog_stopping(manager: socket.socket) -> None:
    """The watchdog is fed twice per interval, from the start on, and not after the end."""
    notify = Notify({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "40000"})
    notify.ready("edge-1 takes calls")
    assert heard(manager) == ["READY=1\nSTATUS=edge-1 takes calls", "WATCHDOG=1"]
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(manager, arrived.set)
    await asyncio.wait_for(arrived.wait(), 5)
    loop.remove_reader(manager)
    assert set(heard(manager)) == {"WATCHDOG=1"}
    notify.stopping()
    assert heard(manager) == ["STOPPING=1\nSTATUS=ending calls, unregistering"]
    assert notify._timer is None


async def test_a_watchdog_of_another_process_is_not_fed(manager: socket.socket) -> None:
    """WATCHDOG_PID names who is watched."""
    environ = {
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "1000",
        "WATCHDOG_PID": str(os.getpid() + 1),
    }
    notify = Notify(environ)
    notify.ready("")
    assert heard(manager) == ["READY=1\nSTATUS="]


async def test_nobody_listens(tmp_path: Path) -> None:
    """Without systemd, or with one that does not listen, nothing happens."""
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}, {"NOTIFY_SOCKET": "@nobody-abstract"}):
        notify = Notify(environ)
        notify.ready("x")
        notify.status("y")
        notify.stopping()
