"""Calls that failed stay on disk for seven days, without whole numbers and secrets, and never more than has room."""

from __future__ import annotations

import os
import struct
from datetime import timedelta
from pathlib import Path

import pytest

from edge.observability.kept import KeptTraces
from edge.observability.privacy import shorten
from edge.observability.trace import DAY, Tap
from edge.sip.flow import Address, Flow

WEEK = timedelta(days=7)
FLOW = Flow("udp", Address("192.0.2.1", 5060), Address("203.0.113.5", 5060))
INVITE = (
    b"INVITE sip:+4930123456@edge;user=phone SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 203.0.113.5:5060;branch=z9hG4bK123456789\r\n"
    b'From: "+4922838601" <sip:+4922838601@far>;tag=99887766\r\n'
    b"To: <sip:+4930123456@edge>\r\n"
    b"P-Asserted-Identity: <tel:+4922838601>, <sip:004922838601@far>\r\n"
    b"Diversion: <sip:%2B493055512@far>;reason=unconditional\r\n"
    b"Contact: <sip:+4922838601@203.0.113.5:5060>\r\n"
    b"Call-ID: 123456789@203.0.113.5\r\nCSeq: 102030 INVITE\r\nContent-Length: 0\r\n\r\n"
)


class World:
    """A tap, a folder and a clock that a test moves."""

    def __init__(self, folder: Path, max_bytes: int = 1_000_000) -> None:
        self.folder = folder / "traces"
        self.tap = Tap()
        self.now = 100.0
        self.kept = KeptTraces(self.folder, max_bytes, self.tap, lambda: self.now, lambda: self.now + 1_000_000_000)

    def call(self, name: str) -> None:
        self.tap.message("in", INVITE.replace(b"123456789@", name.encode() + b"@"), FLOW, self.now)
        self.tap.link(name, f"{name}@203.0.113.5")
        self.kept.want(name)

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []


async def test_a_failed_call_is_kept_when_its_last_messages_have_come(tmp_path: Path) -> None:
    """Not at once (its ACK is to come); then its ladder and capture are there, and are found by our id of it."""
    world = World(tmp_path)
    world.call("c1")
    await world.kept.once()
    assert world.files == []
    world.tap.message("in", b"ACK sip:a@b SIP/2.0\r\nCall-ID: c1@203.0.113.5\r\n\r\n", FLOW, world.now)
    world.now += 5
    await world.kept.once()
    assert world.files == ["c1.pcap", "c1.txt"]
    text, capture = world.kept.ladder("c1"), world.kept.pcap("c1")
    assert text is not None and capture is not None
    assert "INVITE" in text and "ACK" in text
    assert struct.unpack("<I", capture[:4])[0] == 0xA1B2C3D4
    for secret in ("+4930123456", "+4922838601", "4922838601", "%2B493055512"):
        assert secret not in text and secret.encode() not in capture, secret
    assert "+4930123xxx" in text
    assert oct(os.stat(world.folder / "c1.txt").st_mode & 0o777) == "0o640"
    assert world.kept.ladder("../edge") is None and world.kept.ladder("c2") is None


def test_only_numbers_are_shortened_and_the_length_stays() -> None:
    """Call-ID, tag, branch, CSeq, ports and addresses are what one looks for; Content-Length must stay right."""
    short = shorten(INVITE)
    assert len(short) == len(INVITE)
    for kept in (b"z9hG4bK123456789", b"tag=99887766", b"123456789@203.0.113.5", b"102030", b"203.0.113.5:5060"):
        assert kept in short
    assert short.count(b"xxx") == 8
    assert b"sip:201@x" in shorten(b"INVITE sip:201@x SIP/2.0\r\n\r\n")


async def test_seven_days_and_not_a_second_more(tmp_path: Path) -> None:
    """Domain rule 7.9: SIP traces at most 7 days."""
    world = World(tmp_path)
    world.call("old")
    world.now += 5
    await world.kept.once()
    world.now += 7 * DAY - 1
    world.kept.purge(WEEK)
    assert world.files == ["old.pcap", "old.txt"]
    world.now += 1
    world.kept.purge(WEEK)
    assert world.files == []


async def test_the_oldest_go_where_there_is_too_much(tmp_path: Path) -> None:
    """The folder never grows over its size."""
    world = World(tmp_path, max_bytes=5000)
    for n in range(10):
        world.call(f"c{n}")
        world.now += 6
        await world.kept.once()
    assert "c9.txt" in world.files and "c0.txt" not in world.files
    assert sum((world.folder / name).stat().st_size for name in world.files) <= 5000


async def test_a_flood_of_refusals_costs_a_handful_of_files(tmp_path: Path) -> None:
    """What is too much at once is counted, not written."""
    world = World(tmp_path)
    for n in range(100):
        world.call(f"c{n}")
    world.now += 6
    await world.kept.once()
    assert len(world.files) == 50
    assert (world.kept.kept, world.kept.dropped) == (25, 75)


async def test_a_disk_that_fails_is_told_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Keeping traces never ends anything."""
    world = World(tmp_path)
    world.folder.write_text("no folder")
    world.call("c1")
    world.now += 6
    await world.kept.once()
    assert world.kept.dropped == 1
    world.kept.purge(WEEK)


async def test_nothing_is_kept_where_there_is_no_room_for_it(tmp_path: Path) -> None:
    """`trace_disk_megabytes = 0`."""
    world = World(tmp_path, max_bytes=0)
    world.call("c1")
    world.now += 6
    await world.kept.once()
    assert world.files == []


async def test_a_call_is_forgotten(tmp_path: Path) -> None:
    """A person asks."""
    world = World(tmp_path)
    world.call("c1")
    world.now += 6
    await world.kept.once()
    assert world.kept.forget("c1") and world.files == []
    assert not world.kept.forget("c1") and not world.kept.forget("../../etc")
