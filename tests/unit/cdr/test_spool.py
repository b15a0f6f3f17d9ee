"""The spool: what was appended comes out in order, also after a crash."""

import os
from pathlib import Path

import pytest

from edge.cdr.spool import Spool, SpoolInUse


def lines(*names: str) -> list[bytes]:
    """Records as the spool sees them."""
    return [b'C{"id":"%b"}' % n.encode() for n in names]


def drained(spool: Spool) -> list[bytes]:
    """Everything that waits, taken out."""
    got: list[bytes] = []
    batch = spool.advance(None)
    while batch is not None:
        got += batch.lines
        batch = spool.advance(batch)
    return got


def test_records_come_out_in_order_and_leave_nothing_behind(tmp_path: Path) -> None:
    """Oldest first; a drained spool has no bytes on disk and, closed, no file."""
    spool = Spool(tmp_path)
    spool.append(lines("1", "2"))
    spool.append(lines("3"))
    assert spool.waiting == 3
    assert drained(spool) == lines("1", "2", "3")
    assert spool.waiting == 0
    assert sum(p.stat().st_size for p in tmp_path.glob("*.records")) == 0
    spool.append(lines("4"))
    assert drained(spool) == lines("4")
    spool.close()
    assert list(tmp_path.glob("*.records")) == []


def test_what_was_not_stored_is_given_again(tmp_path: Path) -> None:
    """A batch that nobody reported as stored comes again."""
    spool = Spool(tmp_path)
    spool.append(lines("1"))
    assert spool.advance(None) == spool.advance(None)
    spool.close()


def test_a_new_process_finds_what_waited(tmp_path: Path) -> None:
    """After a crash (no close) the next start reads the old segments, then its own."""
    first = Spool(tmp_path)
    first.append(lines("1", "2"))
    os.close(first._lock)
    second = Spool(tmp_path)
    assert second.waiting == 2
    second.append(lines("3"))
    assert drained(second) == lines("1", "2", "3")
    assert second.waiting == 0
    second.close()


def test_a_line_that_a_crash_tore_is_set_aside(tmp_path: Path) -> None:
    """Half a line at the end, or blocks of zeros in the middle, cost themselves and nothing else."""
    (tmp_path / "0000000001.records").write_bytes(b'C{"id":"1"}\n' + b"\0" * 10 + b'\nC{"id":"2"}\nC{"id":"3","outc')
    spool = Spool(tmp_path)
    assert drained(spool) == lines("1", "2")
    assert spool.unreadable == 2
    assert spool.waiting == 0
    kept = (tmp_path / "rejected.records").read_bytes()
    assert b'C{"id":"3","outc' in kept and b"a crash left this line incomplete" in kept
    spool.close()


def test_a_long_outage_makes_segments_and_they_go_one_by_one(tmp_path: Path) -> None:
    """Disk is given back while the backlog drains."""
    spool = Spool(tmp_path, segment_bytes=100)
    names = [f"{n:03d}" for n in range(50)]
    for name in names:
        spool.append(lines(name))
    files = len(list(tmp_path.glob("*.records")))
    assert files >= 5
    got: list[bytes] = []
    batch = spool.advance(None)
    while batch is not None:
        got += batch.lines
        batch = spool.advance(batch)
        assert len(list(tmp_path.glob("*.records"))) <= files
        files = len(list(tmp_path.glob("*.records")))
    assert got == lines(*names)
    assert files == 1
    spool.close()


def test_a_failed_write_keeps_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the call raises, half a line does not stay, and later records are whole."""
    spool = Spool(tmp_path)
    spool.append(lines("1"))
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 20:
            return write(fd, bytes(data)[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "write", full)
        spool.append(lines("2", "3", "4"))
    spool.append(lines("5"))
    assert drained(spool) == lines("1", "5")
    spool.close()


def test_a_failed_sync_counts_as_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be synced is not claimed to be kept."""
    spool = Spool(tmp_path)

    def broken(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
        patch.setattr(os, "fdatasync", broken)
        spool.append(lines("1"))
    assert spool.waiting == 0
    assert drained(spool) == []
    spool.close()


def test_two_processes_cannot_share_a_spool(tmp_path: Path) -> None:
    """Two edges with one data folder would store and remove each other's records: refused with the remedy."""
    spool = Spool(tmp_path)
    with pytest.raises(SpoolInUse, match="data_dir of its own"):
        Spool(tmp_path)
    spool.close()
    Spool(tmp_path).close()


def test_batches_are_bounded_and_a_long_line_still_passes(tmp_path: Path) -> None:
    """A backlog of gigabytes is read in pieces; a line longer than a piece is not cut."""
    spool = Spool(tmp_path)
    big = [b'C{"id":"%d","x":"%b"}' % (n, b"y" * 100_000) for n in range(12)]
    huge = b'C{"id":"h","x":"%b"}' % (b"y" * 700_000)
    spool.append([*big, huge, *lines("after")])
    first = spool.advance(None)
    assert first is not None and 1 <= len(first.lines) < 12
    assert drained(spool) == [*big, huge, *lines("after")]
    spool.close()
