"""A received page as a file of its own: a TIFF of one G4 image (TIFF 6.0 sections 2 and 11, RFC 2301 for the fax tags).

spandsp writes a TIFF of all pages; `Pages` takes each out of it as soon as it is complete. What is told of a page that
TIFF has no tag for stands in ImageDescription as JSON, so a page and its quality are one file and appear at once.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from typing import Final

_REVERSED: Final = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))
_T6: Final = 4
# Tags
_WIDTH, _ROWS, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_DESCRIPTION, _STRIP, _SAMPLES, _ROWS_PER_STRIP, _STRIP_SIZE = 270, 273, 277, 278, 279
_X_RESOLUTION, _Y_RESOLUTION, _T6_OPTIONS, _RESOLUTION_UNIT = 282, 283, 293, 296
_BAD_ROWS, _CLEAN, _LONGEST_RUN = 326, 327, 328
_SHORT, _LONG, _RATIONAL, _ASCII = 3, 4, 5, 2
_MOST_ENTRIES: Final = 200


class PageError(Exception):
    """A page cannot be read: not a page file, or spandsp's TIFF is not what it should be."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How a page arrived. `bad_rows` and `longest_bad_run`: lines; `bit_rate`: bit/s; `encoding`: MH, MR or MMR."""

    bad_rows: int = 0
    longest_bad_run: int = 0
    bit_rate: int = 0
    ecm: bool = False
    ecm_retries: int = 0
    encoding: str = ""
    transport: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A bilevel page. `image`: ITU-T T.6 data, most significant bit first; resolutions in pixels per metre."""

    width: int
    rows: int
    x_per_metre: int
    y_per_metre: int
    image: bytes
    quality: Quality = Quality()

    def to_bytes(self) -> bytes:
        """The page as a TIFF file."""
        q = self.quality
        told = json.dumps(
            {
                "bit_rate": q.bit_rate,
                "ecm": q.ecm,
                "ecm_retries": q.ecm_retries,
                "encoding": q.encoding,
                "transport": q.transport,
            }
        ).encode("ascii")
        told += b"\0" * (2 - len(told) % 2)
        at = 8 + len(self.image) + len(self.image) % 2
        # 254/10000 makes inches of metres without rounding.
        extra = told + struct.pack("<4I", self.x_per_metre * 254, 10000, self.y_per_metre * 254, 10000)
        entries = [
            (_WIDTH, _LONG, 1, self.width),
            (_ROWS, _LONG, 1, self.rows),
            (_BITS, _SHORT, 1, 1),
            (_COMPRESSION, _SHORT, 1, _T6),
            (_PHOTOMETRIC, _SHORT, 1, 0),
            (_FILL_ORDER, _SHORT, 1, 1),
            (_DESCRIPTION, _ASCII, len(told), at),
            (_STRIP, _LONG, 1, 8),
            (_SAMPLES, _SHORT, 1, 1),
            (_ROWS_PER_STRIP, _LONG, 1, self.rows),
            (_STRIP_SIZE, _LONG, 1, len(self.image)),
            (_X_RESOLUTION, _RATIONAL, 1, at + len(told)),
            (_Y_RESOLUTION, _RATIONAL, 1, at + len(told) + 8),
            (_T6_OPTIONS, _LONG, 1, 0),
            (_RESOLUTION_UNIT, _SHORT, 1, 2),
            (_BAD_ROWS, _LONG, 1, q.bad_rows),
            (_CLEAN, _SHORT, 1, 1 if q.bad_rows else 0),
            (_LONGEST_RUN, _LONG, 1, q.longest_bad_run),
        ]
        directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        head = struct.pack("<2sHI", b"II", 42, at + len(extra))
        padding = b"\0" * (len(self.image) % 2)
        return head + self.image + padding + extra + directory + b"\0\0\0\0"


def read_page(data: bytes) -> Page:
    """A page from what `to_bytes` made. Raises PageError."""
    try:
        tags = _tags(data, struct.unpack_from("<I", data, 4)[0])[0]
        told = data[tags[_DESCRIPTION][1] :][: tags[_DESCRIPTION][0]].rstrip(b"\0")
        rest = json.loads(told)
        quality = Quality(
            tags[_BAD_ROWS][1],
            tags[_LONGEST_RUN][1],
            int(rest["bit_rate"]),
            bool(rest["ecm"]),
            int(rest["ecm_retries"]),
            str(rest["encoding"]),
            str(rest["transport"]),
        )
        start, size = tags[_STRIP][1], tags[_STRIP_SIZE][1]
        image = data[start : start + size]
        if len(image) != size:
            raise PageError(f"page file of {len(data)} octets ends within its image")
        x = struct.unpack_from("<I", data, tags[_X_RESOLUTION][1])[0] // 254
        y = struct.unpack_from("<I", data, tags[_Y_RESOLUTION][1])[0] // 254
        return Page(tags[_WIDTH][1], tags[_ROWS][1], x, y, image, quality)
    except (struct.error, KeyError, ValueError, TypeError) as error:
        raise PageError(f"not a page file: {error!r}") from None


class Pages:
    """The pages of a TIFF that spandsp is still writing, one after the other."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: of the file, open for reading; it stays the caller's."""
        self._descriptor = descriptor
        # Where the offset of the next directory stands.
        self._link = 4

    def next(self, x_per_metre: int, y_per_metre: int, quality: Quality) -> Page:
        """The next page. Raises PageError where the file has no further complete one."""
        try:
            (directory,) = struct.unpack("<I", self._read(self._link, 4))
            if not directory:
                raise PageError("spandsp wrote no page")
            (count,) = struct.unpack("<H", self._read(directory, 2))
            if count > _MOST_ENTRIES:
                raise PageError(f"spandsp wrote a directory of {count} entries")
            block = self._read(directory, 2 + 12 * count)
            tags, _ = _tags(block, 0)
            if tags[_COMPRESSION][1] != _T6:
                raise PageError(f"spandsp wrote compression {tags[_COMPRESSION][1]} where 4 was asked for")
            offsets, sizes = self._list(tags[_STRIP]), self._list(tags[_STRIP_SIZE])
            if len(offsets) != 1 or len(sizes) != 1:
                raise PageError(f"spandsp wrote {len(offsets)} strips where one was asked for")
            image = self._read(offsets[0], sizes[0])
            if tags.get(_FILL_ORDER, (1, 1))[1] == 2:
                image = image.translate(_REVERSED)
            page = Page(tags[_WIDTH][1], tags[_ROWS][1], x_per_metre, y_per_metre, image, quality)
        except (struct.error, KeyError) as error:
            raise PageError(f"spandsp's TIFF cannot be read: {error!r}") from None
        self._link = directory + 2 + 12 * count
        return page

    def _list(self, tag: tuple[int, int]) -> list[int]:
        count, value = tag
        if count == 1:
            return [value]
        return list(struct.unpack(f"<{count}I", self._read(value, 4 * count))) if count < 65536 else []

    def _read(self, at: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, at)
        if len(data) != size:
            raise PageError(f"spandsp's TIFF ends within {size} octets at {at}")
        return data


def _tags(data: bytes, at: int) -> tuple[dict[int, tuple[int, int]], int]:
    """Entries of a directory: tag to (count, value or offset)."""
    (count,) = struct.unpack_from("<H", data, at)
    tags = {}
    for index in range(min(count, _MOST_ENTRIES)):
        tag, kind, number, value = struct.unpack_from("<HHII", data, at + 2 + 12 * index)
        tags[tag] = (number, value & 0xFFFF if kind == _SHORT and number == 1 else value)
    return tags, at + 2 + 12 * count
