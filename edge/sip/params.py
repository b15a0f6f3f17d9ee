"""Parameters of URIs and header fields (RFC 3261 section 25.1, `generic-param`).

Order and quoting are kept as they came, so that what we do not touch leaves as it arrived.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_PARTS: Final = {
    sep: re.compile(rf'(?:[^"<{sep}]++|"(?:[^"\\]++|\\.)*+"|<[^>]*+>)*+', re.DOTALL) for sep in (",", ";")
}  # text up to the next separator; possessive, so that its time is linear whatever comes


def split_quoted(text: str, separator: str) -> list[str]:
    """Split at `separator` (comma or semicolon) outside of double quotes and angle brackets.

    Parts keep their quoting, blanks around them are cut. A quote or bracket that is never closed takes all that
    follows.
    """
    if separator not in text:
        return [text.strip()]
    if '"' not in text and "<" not in text:
        return [part.strip() for part in text.split(separator)]
    parts: list[str] = []
    match = _PARTS[separator].match
    start = 0
    end = len(text)
    while True:
        found = match(text, start)
        stop = found.end() if found else end
        if stop >= end or text[stop] != separator:
            parts.append(text[start:].strip())
            return parts
        parts.append(text[start:stop].strip())
        start = stop + 1


def first_value(text: str) -> str:
    """The first of a comma-separated list, blanks cut."""
    return split_quoted(text, ",")[0] if "," in text else text.strip()


def unquote(value: str) -> str:
    """The text of a quoted-string (RFC 3261 section 25.1); a token comes back as it is."""
    if len(value) >= 2 and value[0] == '"' and value[-1] == '"':
        inner = value[1:-1]
        return _QUOTED_PAIR.sub(r"\1", inner) if "\\" in inner else inner
    return value


_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)


def quote(text: str) -> str:
    """`text` as a quoted-string (RFC 3261 section 25.1)."""
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


class Params:
    """An ordered list of `name[=value]`, names compared without case; an immutable value.

    A flag (`;lr`) has the value None. `get` gives the unquoted text, `items` the raw one.
    """

    __slots__ = ("_items",)

    def __init__(self, items: tuple[tuple[str, str | None], ...] = ()) -> None:
        self._items = items

    @classmethod
    def parse(cls, text: str) -> Params:
        """Parse `a=b;c;d="e;f"` (a leading `;` is allowed, empty parts are skipped)."""
        if not text:
            return EMPTY
        if text[0] == ";":
            text = text[1:]
        items: list[tuple[str, str | None]] = []
        for part in text.split(";") if '"' not in text else split_quoted(text, ";"):
            name, eq, value = part.partition("=")
            name = name.strip()
            if name:
                items.append((name, value.strip() if eq else None))
        return cls(tuple(items))

    def __contains__(self, name: str) -> bool:
        for n, _ in self._items:  # noqa: SIM110 (`any` over a generator takes three times as long)
            if n == name or (len(n) == len(name) and n.lower() == name.lower()):
                return True
        return False

    def get(self, name: str, default: str | None = None) -> str | None:
        """The unquoted value of `name`; "" for a flag; `default` where it is absent."""
        for n, v in self._items:
            if n == name or (len(n) == len(name) and n.lower() == name.lower()):
                if v is None:
                    return ""
                return unquote(v) if v.startswith('"') else v
        return default

    def items(self) -> tuple[tuple[str, str | None], ...]:
        """Raw names and values in their order."""
        return self._items

    def __iter__(self) -> Iterator[str]:
        return (n for n, _ in self._items)

    def with_(self, name: str, value: str | None) -> Params:
        """A copy with `name` set in its place, or added at the end; `value` is raw (quoted where it must be)."""
        low = name.lower()
        if low in self:
            return Params(tuple([(n, value) if n.lower() == low else (n, v) for n, v in self._items]))
        return Params((*self._items, (name, value)))

    def without(self, *names: str) -> Params:
        """A copy without `names`."""
        low = {n.lower() for n in names}
        return Params(tuple((n, v) for n, v in self._items if n.lower() not in low))

    def __str__(self) -> str:
        return "".join([f";{n}" if v is None else f";{n}={v}" for n, v in self._items])

    def __bool__(self) -> bool:
        return bool(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Params) and self._items == other._items

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"Params({str(self)!r})"


EMPTY = Params()
