"""Faxes on disk while they are received and until the database has them.

One folder per fax, named by its id:

    meta.json        before the call is answered
    page-0001.tif    before the page is confirmed to the sender (T.30's MCF): complete, or not there
    result.json      when the exchange is over
    fax.pdf          when it was made

Each file appears under its name only when it is on the disk (written aside, fsync, rename, fsync of the folder). The
process that works on a folder holds a lock on its meta.json, so after a restart nobody takes a fax that still runs.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from media.fax.page import Page, PageError, read_page
from media.fax.record import (
    CRASHED,
    OWN_TEXTS,
    FaxMeta,
    FaxResult,
    PageQuality,
    meta_from_json,
    result_from_json,
    to_json,
)

_META: Final = "meta.json"
_RESULT: Final = "result.json"
_PDF: Final = "fax.pdf"


class SpoolError(Exception):
    """Something could not be stored or read; the text names the file and the reason."""


class Folder:
    """The folder of one fax."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def id(self) -> str:
        """The fax's id."""
        return self.path.name

    def lock(self) -> bool:
        """Take the folder for this process, until it ends or calls `unlock`. False where another has it."""
        try:
            descriptor = os.open(self.path / _META, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    @property
    def lock_descriptor(self) -> int:
        """The lock, which can be handed to another process: the folder is free when both have closed it."""
        assert self._lock is not None
        return self._lock

    def unlock(self) -> None:
        """Give the folder back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def meta(self) -> FaxMeta:
        """What was known at the start. Raises SpoolError."""
        try:
            return meta_from_json(self._read(_META))
        except (ValueError, TypeError) as error:
            raise SpoolError(f"{self.path / _META}: {error}") from None

    def result(self) -> FaxResult | None:
        """How the exchange ended; None where it did not, or its end was not written. Raises SpoolError."""
        try:
            return result_from_json(self._read(_RESULT)) if (self.path / _RESULT).exists() else None
        except (ValueError, TypeError) as error:
            raise SpoolError(f"{self.path / _RESULT}: {error}") from None

    def store_page(self, number: int, page: Page) -> int:
        """Put page `number` (from 1) onto the disk; its size in octets. Raises SpoolError."""
        data = page.to_bytes()
        self._store(f"page-{number:04}.tif", data)
        return len(data)

    def store_result(self, result: FaxResult) -> None:
        """Put the end of the exchange onto the disk. Raises SpoolError."""
        self._store(_RESULT, to_json(result))

    def store_pdf(self, pdf: bytes) -> None:
        """Put the document onto the disk. Raises SpoolError."""
        self._store(_PDF, pdf)

    def pdf(self) -> bytes | None:
        """The document, where it was made."""
        try:
            return (self.path / _PDF).read_bytes()
        except FileNotFoundError:
            return None

    def pages(self) -> Iterator[Page]:
        """The stored pages in order. Raises SpoolError."""
        for name in self.page_names():
            try:
                yield read_page(self._read(name))
            except PageError as error:
                raise SpoolError(f"{self.path / name}: {error}") from None

    def page_names(self) -> list[str]:
        """File names of the stored pages, in order. Raises SpoolError."""
        try:
            names = os.listdir(self.path)
        except OSError as error:
            raise SpoolError(f"{self.path}: {error.strerror}") from None
        return sorted(name for name in names if name.startswith("page-") and name.endswith(".tif"))

    def forget_pages(self) -> None:
        """Delete the plain images: what is left of an encrypted fax is its PDF."""
        for name in self.page_names():
            (self.path / name).unlink()
        _sync_folder(self.path)

    def remove(self) -> None:
        """Delete the fax."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.unlock()

    def end(self, ended_at: float, sip_reason: str = "") -> FaxResult:
        """The result; where the process died before it wrote one: what the stored pages tell. Raises SpoolError."""
        result = self.result()
        if result is None:
            result = result_of_pages(list(self.pages()), ended_at, sip_reason)
            self.store_result(result)
        return result

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise SpoolError(f"{self.path / name}: {error.strerror}") from None

    def _store(self, name: str, data: bytes) -> None:
        os.close(self._put(name, data))

    def _store_locked(self, name: str, data: bytes) -> None:
        """Locked before it has its name: nobody can come in between and take the folder for one left behind."""
        self._lock = self._put(name, data, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _put(self, name: str, data: bytes, lock: int = 0) -> int:
        """Store a file; its descriptor, still open."""
        aside = self.path / f".{name}.part"
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                if lock:
                    fcntl.flock(descriptor, lock)
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
                os.rename(aside, self.path / name)
                _sync_folder(self.path)
            except OSError:
                os.close(descriptor)
                raise
        except OSError as error:
            raise SpoolError(f"{self.path / name} could not be stored: {error.strerror}") from None
        return descriptor


@dataclass(frozen=True, slots=True)
class Spool:
    """All faxes that are not in the database yet."""

    path: Path

    def create(self, meta: FaxMeta) -> Folder:
        """A folder for a new fax, on the disk with its meta, and locked by us. Raises SpoolError."""
        if not meta.id or "/" in meta.id or meta.id.startswith("."):
            raise SpoolError(f"{meta.id!r} is no id for a fax: it names a folder")
        folder = Folder(self.path / meta.id)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.path.mkdir(mode=0o700)
            _sync_folder(self.path)
        except OSError as error:
            raise SpoolError(f"{folder.path} could not be made: {error.strerror}") from None
        try:
            folder._store_locked(_META, to_json(meta))
        except SpoolError:
            folder.remove()
            raise
        return folder

    def folder(self, fax_id: str) -> Folder:
        """The folder of a fax, which need not exist."""
        return Folder(self.path / fax_id)

    def count(self) -> int:
        """Faxes that are here."""
        try:
            return len(list(self.path.iterdir()))
        except OSError:
            return 0

    def thin(self, wanted: Callable[[Path, FaxMeta | None], bool]) -> int:
        """Delete faxes on which nobody works and that are not `wanted` (its folder, and its meta where that can be
        read); how many. Does not raise."""
        gone = 0
        try:
            paths = list(self.path.iterdir())
        except OSError:
            return 0
        for path in paths:
            folder = Folder(path)
            has_meta = (path / _META).exists()
            if has_meta and not folder.lock():
                continue
            try:
                meta = folder.meta() if has_meta else None
            except SpoolError:
                meta = None
            if wanted(path, meta):
                folder.unlock()
            else:
                folder.remove()
                gone += 1
        return gone

    def unfinished(self) -> list[Folder]:
        """Faxes on which nobody works (locked by this process now), oldest first: after a restart, all of them."""
        try:
            paths = sorted(self.path.iterdir(), key=lambda p: p.stat().st_mtime)
        except OSError:
            return []
        folders = (Folder(path) for path in paths if (path / _META).exists())
        return [folder for folder in folders if folder.lock()]


def quality_of(page: Page) -> PageQuality:
    """A page's line in the record."""
    q = page.quality
    return PageQuality(
        page.rows, q.bad_rows, q.longest_bad_run, q.bit_rate, q.ecm, q.ecm_retries, q.encoding, q.transport
    )


def result_of_pages(pages: list[Page], ended_at: float, sip_reason: str = "") -> FaxResult:
    """The result of a fax whose process died: its pages are delivered, marked incomplete."""
    last = pages[-1].quality if pages else None
    return FaxResult(
        CRASHED,
        OWN_TEXTS[CRASHED],
        len(pages),
        ended_at,
        transport=last.transport if last else "g711",
        bit_rate=last.bit_rate if last else 0,
        ecm=last.ecm if last else False,
        ecm_retries=sum(page.quality.ecm_retries for page in pages),
        encoding=last.encoding if last else "",
        octets=sum(len(page.image) for page in pages),
        sip_reason=sip_reason,
        page_quality=tuple(map(quality_of, pages)),
    )


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
