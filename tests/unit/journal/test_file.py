"""The journal file: whole frames are read back, torn ones end a segment, old segments go."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.journal.file import Frame, JournalFile, read

A, B = Frame(b"S", b"call-1", b"one"), Frame(b"R", b"call-2", bytes(range(256)) * 40)


def written(folder: Path, *frames: Frame) -> Path:
    file = JournalFile(folder)
    file.begin_segment()
    file.append(frames)
    file.close()
    return max(folder.iterdir())


def test_frames_come_back_in_order(tmp_path: Path) -> None:
    """Over segments and over processes."""
    written(tmp_path, A, B)
    written(tmp_path, Frame(b"H", b""), A)
    assert list(read(tmp_path)) == [A, B, Frame(b"H", b""), A]


@pytest.mark.parametrize("cut", [1, 5, 9, 13, 200])
def test_a_torn_frame_ends_its_segment_only(tmp_path: Path, cut: int) -> None:
    """The process died within a write: what was whole is kept."""
    path = written(tmp_path, A, B)
    path.write_bytes(path.read_bytes()[:-cut])
    written(tmp_path, A)
    assert list(read(tmp_path)) == [A, A]


def test_a_frame_that_rotted_is_not_believed(tmp_path: Path) -> None:
    """Its checksum does not fit."""
    path = written(tmp_path, A, B)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    assert list(read(tmp_path)) == [A]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """What is no segment of this format is no journal."""
    (tmp_path / "segment-notes").write_text("x")
    (tmp_path / "segment-00000007").write_text("a later format\n")
    assert list(read(tmp_path)) == []
    written(tmp_path, A)
    assert list(read(tmp_path)) == [A]


def test_old_segments_are_dropped(tmp_path: Path) -> None:
    """Once all that they said was written again."""
    written(tmp_path, A)
    file = JournalFile(tmp_path)
    file.begin_segment()
    file.append([B])
    file.drop_before(file.segment)
    file.close()
    assert list(read(tmp_path)) == [B]
