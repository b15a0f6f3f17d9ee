"""Text that PostgreSQL can store: it takes neither NUL nor half a surrogate pair, and peers send both."""

from __future__ import annotations

from typing import TypeVar

_T = TypeVar("_T")


def storable(value: _T) -> _T:
    """A text without NUL, with bytes that are no UTF-8 written out (`\\udcff`); lists likewise; the rest as it is.

    One row that the database refuses would hold up all that is to be written with it.
    """
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        return value.replace("\0", "").encode("utf-8", "backslashreplace").decode()  # type: ignore[return-value]
    if isinstance(value, list):
        return [storable(part) for part in value]  # type: ignore[return-value]
    return value
