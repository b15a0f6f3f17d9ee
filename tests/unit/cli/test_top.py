"""`sip-edge top`: what a look shows, and the command in a terminal (a pty), asking a real admin HTTP."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp.test_utils import TestServer

from edge.admin.http import application
from edge.cli.top import Seen, frame
from tests.unit.admin.views import FakeViews

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
CARRIER = {"name": "telekom", "state": "registered", "usable": True, "calls": 3, "max_calls": 30, "last_answer": ""}
CALL = {
    "started_at": (NOON - timedelta(seconds=70)).isoformat(), "answered_at": (NOON - timedelta(seconds=60)).isoformat(),
    "state": "up", "source": "carrier telekom", "caller": "anonymous", "called": "+49301", "target": "seat anna1",
}  # fmt: skip


def seen(at: datetime = NOON, **metrics: float) -> Seen:
    figures = {f"sip_edge_{name}": value for name, value in metrics.items()}
    return Seen(at, [CALL], [CARRIER], [], figures, [])


def test_a_look_shows_state_carriers_and_calls() -> None:
    """Who talks to whom and for how long, and how the carriers stand."""
    text = "\n".join(frame(seen(), None, 120, 24, colour=False))
    assert "12:00:00Z  ready  calls 1 (1 up)" in text
    assert "telekom" in text and "3/30" in text
    assert "1m10s   1m00s up        carrier telekom" in text


def test_rates_are_those_between_two_looks() -> None:
    """Counters are summed over their labels and divided by the time between."""
    before = seen(**{'attempts_total{by="invite"}': 100.0, 'attempts_total{by="fax"}': 1.0})
    now = seen(NOON + timedelta(seconds=2), **{'attempts_total{by="invite"}': 120.0, 'attempts_total{by="fax"}': 2.0})
    assert "attempts 10.5," in frame(now, before, 200, 24, colour=False)[1]


def test_what_is_wrong_stands_out() -> None:
    """Not ready, books that do not balance, a limit that is full, a carrier that is down: red."""
    wrong = seen(**{'books_difference{invariant="channels"}': 2.0})._replace(
        missing=["draining"],
        carriers=[{**CARRIER, "usable": False, "state": "failed"}],
        limits=[{"level": "account", "key": "K1", "direction": "total", "used": 5, "limit": 5}],
    )
    red = [line for line in frame(wrong, None, 120, 24) if "\x1b[31m" in line]
    assert [any(word in line for line in red) for word in ("draining", "channels", "telekom", "account K1")] == [
        True
    ] * 4


def test_it_fits_into_the_terminal() -> None:
    """Never more lines than there are, never longer than they are; how many calls did not fit is said."""
    many = seen()._replace(calls=[CALL] * 500)
    lines = frame(many, None, 60, 24, colour=False)
    assert len(lines) <= 23 and max(map(len, lines)) <= 60
    assert lines[-1].startswith("... and ")


async def test_in_a_terminal(tmp_path: Path) -> None:
    """The command draws, draws again, and leaves the terminal as it was when `q` is pressed."""
    server = TestServer(application(FakeViews()))
    await server.start_server()
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    before = termios.tcgetattr(slave)
    command = [str(Path(sys.executable).with_name("sip-edge")), "top", "--every", "0.5"]
    command += ["--admin", f"http://127.0.0.1:{server.port}"]
    import asyncio

    process = await asyncio.to_thread(subprocess.Popen, command, stdin=slave, stdout=slave, stderr=slave)
    try:
        output = await asyncio.to_thread(read_until, master, b"rates come with", b"per second: attempts")
        os.write(master, b"q")
        assert await asyncio.to_thread(process.wait, 20) == 0
        output += await asyncio.to_thread(read_rest, master)
        assert b"\x1b[?1049h" in output and output.rstrip().endswith(b"\x1b[?1049l")
        assert b"telekom" in output
        assert termios.tcgetattr(slave) == before
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)
        await server.close()


def read_until(descriptor: int, *texts: bytes) -> bytes:
    """What comes, until each text came (or nothing more within 30 s)."""
    got = b""
    while not all(text in got for text in texts):
        ready, _, _ = select.select([descriptor], [], [], 30)
        assert ready, got
        got += os.read(descriptor, 65536)
    return got


def read_rest(descriptor: int) -> bytes:
    got = b""
    while select.select([descriptor], [], [], 0.3)[0]:
        got += os.read(descriptor, 65536)
    return got
