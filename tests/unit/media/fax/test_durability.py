"""A confirmed page is on the disk: `kill -9` at any moment, and the order of fsync and confirmation (rule 4.4.22)."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from media.fax.record import CRASHED, Outcome
from media.fax.spandsp import Frame, Statistics
from media.fax.spool import Spool
from media.fax.station import Station
from tests.unit.media.fax.rig import Call, meta, picture, received, same, tiff

PICTURES = [picture(n, rows=200, marks=30) for n in range(60)]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 pages."""
    return tiff(tmp_path_factory.mktemp("document") / "sixty.tif", PICTURES)


@pytest.mark.parametrize("transport", ["audio", "t38"])
def test_kill_at_any_moment(tmp_path: Path, document: Path, transport: str) -> None:
    """After kill -9 every page that the sender heard confirmed is there, whole, and is found by the next process."""
    chance = random.Random(transport)
    caught = set()
    for attempt in range(12):
        path = tmp_path / str(attempt)
        path.mkdir()
        command = [sys.executable, "-m", "tests.unit.media.fax.fast_fax", str(path), str(document), transport]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            pages = chance.randrange(1, 58)
            confirmed = len(os.read(process.stdout.fileno(), 1)) + sum(
                len(os.read(process.stdout.fileno(), 1)) for _ in range(pages - 1)
            )
            # Anywhere within the next page: a page takes a few milliseconds here.
            end = time.perf_counter() + chance.random() * 0.01
            while time.perf_counter() < end:
                pass
            process.kill()
            confirmed += len(process.stdout.read())
        (left,) = (folder for folder in Spool(path / "spool").unfinished() if folder.id == "rx")
        found = received(left)
        assert confirmed <= len(found) <= confirmed + 1, "a confirmed page is missing"
        assert all(same(a, b) for a, b in zip(found, PICTURES, strict=False))
        result = left.end(0.0)
        assert (result.code, result.pages, result.outcome) == (CRASHED, len(found), Outcome.PARTIAL)
        assert [page.rows for page in result.page_quality] == [200] * len(found)
        caught.add(len(found))
    assert len(caught) > 5, "the kills all fell into one place"


def test_the_disk_has_the_page_before_the_sender_hears(
    tmp_path: Path, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsync of the file, rename, fsync of the folder, only then MCF: what kill -9 cannot show, a power cut would."""
    seen: list[str] = []
    fsync, rename, page, frame = os.fsync, os.rename, Station.page, Station.frame

    def spy_fsync(descriptor: int) -> None:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
        seen.append("sync file" if target.endswith(".part") else "sync folder")
        fsync(descriptor)

    def spy_rename(source: Path, target: Path) -> None:
        seen.append("rename")
        rename(source, target)

    def spy_page(self: Station, run: object, statistics: Statistics) -> None:
        page(self, run, statistics)  # type: ignore[arg-type]

    def spy_frame(self: Station, run: object, sent: bool, field: int) -> None:
        if sent and field == Frame.MCF:
            seen.append("MCF")
        frame(self, run, sent, field)  # type: ignore[arg-type]

    call = Call(tmp_path, document)
    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "rename", spy_rename)
    monkeypatch.setattr(Station, "page", spy_page)
    monkeypatch.setattr(Station, "frame", spy_frame)
    call.t38()
    assert call.confirmed == 60
    assert seen == ["sync file", "rename", "sync folder", "MCF"] * 60


def test_half_a_page_file_is_no_page(tmp_path: Path) -> None:
    """What a crash leaves aside is not taken for a page; a folder without meta is not taken for a fax."""
    spool = Spool(tmp_path)
    folder = spool.create(meta("one"))
    folder.unlock()
    (folder.path / ".page-0001.tif.part").write_bytes(b"II*\0")
    (tmp_path / "two").mkdir()
    (left,) = spool.unfinished()
    assert (left.id, left.page_names()) == ("one", [])
    assert left.end(1.0).outcome is Outcome.FAILED


def test_a_running_fax_is_left_alone(tmp_path: Path) -> None:
    """A folder that a process works on is not unfinished, however that process got it."""
    spool = Spool(tmp_path)
    folder = spool.create(meta("one"))
    assert spool.unfinished() == []
    folder.unlock()
    (left,) = spool.unfinished()
    assert left.id == "one"
    assert not spool.folder("one").lock()


def test_a_folder_is_never_seen_unlocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outbox looks for faxes left behind at any moment: a new one is locked before it can be found."""
    spool, found = Spool(tmp_path), []
    rename, fsync = os.rename, os.fsync

    def sweep(call: Callable[..., None]) -> Callable[..., None]:
        def swept(*arguments: object) -> None:
            found.extend(spool.unfinished())
            call(*arguments)
            found.extend(spool.unfinished())

        return swept

    monkeypatch.setattr(os, "rename", sweep(rename))
    monkeypatch.setattr(os, "fsync", sweep(fsync))
    folder = spool.create(meta("one"))
    assert (found, spool.unfinished()) == ([], [])
    folder.unlock()
    assert [left.id for left in spool.unfinished()] == ["one"]
