"""Logs: one JSON line per event, no secrets, nothing that holds up the loop."""

import json
import logging
import os
import re
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from dialplan.model import Step
from edge.cdr.record import CallRecord, finished_fields
from edge.observability.logging import LineWriter, configure, get_logger, to_journal


class Memory:
    """Lines as they were handed over."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def put(self, line: bytes, urgent: bool = False) -> None:
        self.lines.append(line)

    @property
    def last(self) -> dict[str, object]:
        value = json.loads(self.lines[-1])
        assert isinstance(value, dict)
        return value


@pytest.fixture
def memory() -> Iterator[Memory]:
    lines = Memory()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    configure(lines)
    yield lines
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:], root.level = before


def test_a_line_is_one_json_object_with_time_level_event_and_call(memory: Memory) -> None:
    """One line per event; times are UTC with milliseconds."""
    before = datetime.now(UTC)
    get_logger("call").warning(
        "leg.rejected", call="c1", leg="b1", status=486, text='Busy\n"Here"', after=1.5, first=True
    )
    line = memory.last
    assert memory.lines[-1].count(b"\n") == 1 and memory.lines[-1].endswith(b"\n")
    at = line.pop("at")
    assert isinstance(at, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at)
    assert abs((datetime.fromisoformat(at) - before).total_seconds()) < 5
    assert line == {
        "level": "warning", "room": "call", "event": "leg.rejected", "call": "c1", "leg": "b1", "status": 486,
        "text": 'Busy\n"Here"', "after": 1.5, "first": True,
    }  # fmt: skip


def test_lines_for_the_journal_say_their_priority(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """`journalctl -p warning` finds what is a warning; the mark stands before the JSON, where journald reads."""
    there = os.fstat(2)
    assert not to_journal(2, {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino + 1}"})
    monkeypatch.setenv("JOURNAL_STREAM", f"{there.st_dev}:{there.st_ino}")
    configure(memory)
    get_logger("call").warning("leg.rejected")
    assert memory.lines[-1].startswith(b'<4>{"at"')
    monkeypatch.delenv("JOURNAL_STREAM")
    configure(memory)
    get_logger("call").warning("leg.rejected")
    assert memory.lines[-1].startswith(b'{"at"')


def test_below_the_level_nothing_is_written(memory: Memory) -> None:
    """Level info hides debug."""
    get_logger("sip").debug("message.parsed", a=1)
    assert memory.lines == []


def test_an_unknown_level_is_refused_in_words(memory: Memory) -> None:
    """Bad settings get a message that names them."""
    with pytest.raises(ValueError, match="'loud' is not one of debug, info"):
        configure(memory, level="loud")


def test_secrets_are_redacted_by_name_and_in_texts(memory: Memory) -> None:
    """7.10: no passwords and digests, whether they come as a field, in a field's parts or in a sentence."""
    get_logger("x").info(
        "a.b", password="hunter2", authorization="Digest hunter2", ha1="hunter2", verification_code=4711,
        parts={"password": "hunter2", "name": "n"}, text="postgresql://u:hunter2@h/db",
    )  # fmt: skip
    assert b"hunter2" not in memory.lines[-1] and b"4711" not in memory.lines[-1]
    assert memory.last["parts"] == {"password": "[redacted]", "name": "n"}


def test_numbers_are_masked_everywhere_but_in_names_of_things(memory: Memory) -> None:
    """7.10, T7.3: no full number at INFO."""
    get_logger("x").info(
        "call.offered", caller="+4915112345678", detail="number +4922838600 has no route", tried=["+4922838601"],
        carrier="c4922838600",
    )  # fmt: skip
    assert memory.last["caller"] == "+4915112345xxx"
    assert memory.last["detail"] == "number +4922838xxx has no route"
    assert memory.last["tried"] == ["+4922838xxx"]
    assert memory.last["carrier"] == "c4922838600"


def test_a_withheld_caller_is_hidden_whole_whatever_the_setting(memory: Memory) -> None:
    """Domain 2.5: who withholds the number is in no log line, also where operators see numbers whole."""
    configure(memory, mask_numbers=False)
    log = structlog.get_logger()
    log.info("call.offered", caller="+4915112345678", caller_withheld=True, called="+4922838600")
    assert memory.last["caller"] == "anonymous"
    assert memory.last["called"] == "+4922838600"
    assert b"15112345" not in memory.lines[-1]


def test_exceptions_are_part_of_the_line_without_secrets(memory: Memory) -> None:
    """A traceback is one field of one line."""
    try:
        raise OSError("no way to postgresql://u:hunter2@h/db for +4922838600")
    except OSError:
        get_logger("x").exception("store.failed")
    trace = memory.last["exception"]
    assert isinstance(trace, str)
    assert "Traceback" in trace and "OSError" in trace and "test_logging.py" in trace
    assert "hunter2" not in trace and "+4922838600" not in trace


def test_libraries_log_into_the_same_stream(memory: Memory) -> None:
    """asyncio, aiohttp and asyncpg warn through the standard logging, Python through warnings."""
    logging.getLogger("asyncio").warning("Task +4922838600 %s", "slow")
    assert memory.last["text"] == "Task +4922838xxx slow"
    assert memory.last["room"] == "asyncio"
    logging.getLogger("asyncio").info("chatter")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old thing", stacklevel=1)
    assert len(memory.lines) == 2
    assert "old thing" in str(memory.last["text"])


def test_call_finished_says_all_a_search_needs(memory: Memory) -> None:
    """One canonical line per finished call."""
    start = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
    record = CallRecord(
        id="c1", edge="e1", started_at=start, ringing_at=start.replace(microsecond=120_000),
        answered_at=start.replace(second=4), ended_at=start.replace(second=34), direction="inbound",
        source_kind="carrier", source_name="telekom", account="K1", billed_account="K2", caller="+4915112345678",
        called="+4922838600", target_kind="trunk", target_name="hq", outcome="answered", sip_status=200, a_cause=16,
        released_by="a", a_call_id="x@1", b_call_id="y@2", trace=(Step("1", "x"),),
    )  # fmt: skip
    structlog.get_logger().info("call.finished", **finished_fields(record))
    line = memory.last
    assert line["event"] == "call.finished"
    assert (line["call"], line["a_call_id"], line["b_call_id"]) == ("c1", "x@1", "y@2")
    assert (line["ring_s"], line["answer_s"], line["talk_s"], line["total_s"]) == (0.12, 4, 30, 34)
    assert line["caller"] == "+4915112345xxx"
    assert line["outcome"] == "answered"
    assert "trace" not in line and "reason" not in line


def test_lines_arrive_in_the_file_in_order(tmp_path: Path) -> None:
    """Nothing is lost or turned round on the way through the thread."""
    writer = LineWriter(tmp_path / "edge.log")
    for n in range(1000):
        writer.put(b"%d\n" % n)
    writer.close()
    assert (tmp_path / "edge.log").read_bytes().split() == [b"%d" % n for n in range(1000)]
    assert writer.dropped == 0


def test_a_file_that_was_moved_away_is_opened_again(tmp_path: Path) -> None:
    """logrotate needs no signal."""
    path = tmp_path / "edge.log"
    writer = LineWriter(path)
    path.rename(tmp_path / "edge.log.1")
    writer.put(b"after\n")
    writer.close()
    assert path.read_bytes() == b"after\n"
    assert (tmp_path / "edge.log.1").read_bytes() == b""


def test_a_full_disk_costs_no_line(tmp_path: Path) -> None:
    """On a file system that is really full: lines wait, in whole, and come in order once there is room. What does not
    fit into memory is counted, and told."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        writer = LineWriter(disk / "edge.log", max_lines=2000)
        (disk / "filler").write_bytes(b"x" * 40960)
        lines = [b'{"event":"test","n":%d,"filler":"%s"}\n' % (n, b"x" * 60) for n in range(1500)]
        for line in lines[:500]:
            writer.put(line)
        until = time.monotonic() + 5
        while not writer._rest and time.monotonic() < until:
            time.sleep(0.01)
        assert writer._rest, "the disk was not full"
        for line in lines[500:] + [b"lost\n"] * 1500:
            writer.put(line)
        assert writer.dropped > 0
        (disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        writer.close()
        written = (disk / "edge.log").read_bytes().splitlines(keepends=True)
        assert written[:1500] == lines
        assert json.loads(written[-1])["lines"] == writer.dropped and written.count(b"lost\n") == 1500 - writer.dropped
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_reader_that_stops_reading_never_blocks_and_is_told_of_the_loss() -> None:
    """A full pipe costs lines, never a call: `put` returns, memory is bounded, the loss is counted and written."""
    reading, writing = os.pipe()
    writer = LineWriter(writing, max_lines=50)
    line = b"x" * 1023 + b"\n"
    for _ in range(2000):
        writer.put(line)
    assert writer.dropped > 0
    got: list[bytes] = []

    def read() -> None:
        with os.fdopen(reading, "rb") as pipe:
            got.extend(pipe.read().splitlines())

    reader = threading.Thread(target=read)
    reader.start()
    writer.close()
    os.close(writing)
    reader.join()
    told = [json.loads(text) for text in got if text.startswith(b"{")]
    assert {t["event"] for t in told} == {"log.dropped"}
    assert sum(t["lines"] for t in told) == writer.dropped
    assert got.count(b"x" * 1023) + writer.dropped == 2000
