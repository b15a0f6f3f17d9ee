"""Parameters of URIs and header fields (RFC 3261 section 25.1, `generic-param`).

Order and quoting are kept as they came, so that what we do not touch leaves as it arrived.
"""

from __future__ import annotations

from collections.abc import Iterator


def split_quoted(text: str, separator: str) -> list[str]:
    """Split at `separator` outside of double quotes and angle brackets; parts keep their quoting, spaces cut."""
    if '"' not in text and "<" not in text:
        return [part.strip() for part in text.split(separator)]
    parts: list[str] = []
    start = 0
    quoted = False
    depth = 0
    i = 0
    n = len(text)
    while i < n:
        c = text[i]
        if quoted:
            if c == "\\":
                i += 1
            elif c == '"':
                quoted = False
        elif c == '"':
            quoted = True
        elif c == "<":
            depth += 1
        elif c == ">":
            depth = max(0, depth - 1)
        elif c == separator and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
        i += 1
    parts.append(text[start:].strip())
    return parts


def unquote(value: str) -> str:
    """The text of a quoted-string (RFC 3261 section 25.1); a token comes back as it is."""
    if len(value) >= 2 and value[0] == '"' and value[-1] == '"':
        inner = value[1:-1]
        if "\\" not in inner:
            return inner
        out: list[str] = []
        escaped = False
        for c in inner:
            if escaped or c != "\\":
                out.append(c)
                escaped = False
            else:
                escaped = True
        return "".join(out)
    return value


def quote(text: str) -> str:
    """`text` as a quoted-string (RFC 3261 section 25.1)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Params:
    """An ordered list of `name[=value]`, names compared without case; an immutable value.

    A flag (`;lr`) has the value None. `get` gives the unquoted text, `items` the raw one.
    """

    __slots__ = ("_items",)

    def __init__(self, items: tuple[tuple[str, str | None], ...] = ()) -> None:
        self._items = items

    @classmethod
    def parse(cls, text: str) -> Params:
        """Parse `a=b;c;d="e;f"` (a leading `;` is allowed)."""
        if not text:
            return EMPTY
        items: list[tuple[str, str | None]] = []
        for part in split_quoted(text, ";"):
            if not part:
                continue
            name, eq, value = part.partition("=")
            items.append((name.strip(), value.strip() if eq else None))
        return cls(tuple(items))

    def __contains__(self, name: str) -> bool:
        name = name.lower()
        return any(n.lower() == name for n, _ in self._items)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The unquoted value of `name`; "" for a flag; `default` where it is absent."""
        name = name.lower()
        for n, v in self._items:
            if n.lower() == name:
                return "" if v is None else unquote(v)
        return default

    def items(self) -> tuple[tuple[str, str | None], ...]:
        """Raw names and values in their order."""
        return self._items

    def __iter__(self) -> Iterator[str]:
        return (n for n, _ in self._items)

    def with_(self, name: str, value: str | None) -> Params:
        """A copy with `name` set in its place, or added at the end."""
        low = name.lower()
        if name in self:
            return Params(tuple((n, value) if n.lower() == low else (n, v) for n, v in self._items))
        return Params((*self._items, (name, value)))

    def without(self, *names: str) -> Params:
        """A copy without `names`."""
        low = {n.lower() for n in names}
        return Params(tuple((n, v) for n, v in self._items if n.lower() not in low))

    def __str__(self) -> str:
        return "".join(f";{n}" if v is None else f";{n}={v}" for n, v in self._items)

    def __bool__(self) -> bool:
        return bool(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Params) and self._items == other._items

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"Params({str(self)!r})"


EMPTY = Params()
