"""The last good rows on disk, for a start while the database is away.

One file, readable by its owner only, every line sealed with the edge's secret key: provisioning holds secrets and
personal data. The first line names the shape of the rows, so that another version's file is not taken for ours.
"""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from config.errors import ConfigError
from config.model import Account, Carrier, ExternalNumber, FaxBox, Ha1, NumberRow, Rows, Seat, Trunk
from config.secrets import SecretBox

_CHUNK = 2000
_END = b"end"


class CacheError(ConfigError):
    """The file cannot be used."""


def _shape() -> bytes:
    kinds = (Account, Carrier, ExternalNumber, FaxBox, Ha1, NumberRow, Rows, Seat, Trunk)
    return "1 ".join(f"{kind.__name__}({','.join(f.name for f in fields(kind))})" for kind in kinds).encode()


def save_rows(file: Path, rows: Rows, box: SecretBox) -> None:
    """Replace the file. Meant for a thread: pickles in pieces, so that other threads run between. Raises OSError."""
    aside = file.with_name(file.name + ".new")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        for piece in _pieces(rows):
            stream.write(box.seal_bytes(zlib.compress(piece, 1)) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(file)


def load_rows_from(file: Path, box: SecretBox) -> Rows:
    """The rows of the file. Raises CacheError, which says why there are none."""
    found: dict[str, list[object]] = {f.name: [] for f in fields(Rows)}
    try:
        with file.open("rb") as stream:
            pieces = (zlib.decompress(box.open_bytes(line.rstrip(b"\n"))) for line in stream)
            if next(pieces, b"") != _shape():
                raise CacheError(f"{file} was written by another version of the edge")
            for piece in pieces:
                if piece == _END:
                    return Rows(**{name: tuple(rows) for name, rows in found.items()})  # type: ignore[arg-type]
                name, rows = pickle.loads(piece)  # opened with our key: nobody else wrote it
                found[name].extend(rows)
    except (ConfigError, OSError, zlib.error, pickle.UnpicklingError, TypeError, ValueError) as error:
        raise CacheError(f"the last good provisioning in {file} cannot be used: {error}") from None
    raise CacheError(f"the last good provisioning in {file} is cut off")


def _pieces(rows: Rows) -> Iterator[bytes]:
    yield _shape()
    for field in fields(Rows):
        values = getattr(rows, field.name)
        for start in range(0, len(values), _CHUNK):
            yield pickle.dumps((field.name, list(values[start : start + _CHUNK])), protocol=5)
    yield _END
