"""An ordered multimap of header fields that keeps the text it was given (RFC 3261 section 7.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from edge.sip.errors import LocalProtocolError

COMPACT = {
    "a": "accept-contact", "b": "referred-by", "c": "content-type", "d": "request-disposition", "e": "content-encoding",
    "f": "from", "i": "call-id", "j": "reject-contact", "k": "supported", "l": "content-length", "m": "contact",
    "n": "identity-info", "o": "event", "r": "refer-to", "s": "subject", "t": "to", "u": "allow-events", "v": "via",
    "x": "session-expires", "y": "identity",
}  # fmt: skip
"""Compact forms (RFC 3261 section 7.3.3 and the IANA registry) → lower-case full name."""

_CANONICAL = {
    "call-id": "Call-ID", "cseq": "CSeq", "www-authenticate": "WWW-Authenticate", "mime-version": "MIME-Version",
    "rack": "RAck", "rseq": "RSeq", "min-se": "Min-SE",
}  # fmt: skip


def field_key(name: str) -> str:
    """The key of a field name: lower case, compact form expanded."""
    low = name.lower()
    return COMPACT.get(low, low) if len(low) == 1 else low


def field_name(key: str) -> str:
    """The customary spelling of a key: `p-asserted-identity` → `P-Asserted-Identity`."""
    return _CANONICAL.get(key) or "-".join(part.capitalize() for part in key.split("-"))


def _field(name: str, value: str) -> tuple[str, str, str]:
    if "\n" in value or "\r" in value:
        raise LocalProtocolError(f"line break in header field {name[:40]!r}")
    return _own_key(name), name, value


@lru_cache(maxsize=256)
def _own_key(name: str) -> str:
    """The key of a name that we write: there are few of them."""
    if "\n" in name or "\r" in name:
        raise LocalProtocolError(f"line break in header field {name[:40]!r}")
    return field_key(name)


class Headers:
    """Header fields in their order. Keys are lower-case full names; names and values stay as they came.

    What is put in may hold no line break (LocalProtocolError), so that text from outside never becomes a header.
    """

    __slots__ = ("_fields", "changes")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        """`fields` are (name, value) pairs."""
        self._fields: list[tuple[str, str, str]] = [_field(n, v) for n, v in fields]
        self.changes = 0
        """Rises with every change, so that what was read from the fields need not be looked for again."""

    @classmethod
    def of_raw(cls, fields: list[tuple[str, str, str]]) -> Headers:
        """From (key, name, value) triples, as the parser makes them; the list is taken over, not copied."""
        headers = cls.__new__(cls)
        headers._fields = fields
        headers.changes = 0
        return headers

    def get(self, key: str) -> str | None:
        """The first value of `key`, or None."""
        for k, _, v in self._fields:
            if k == key:
                return v
        return None

    def get_all(self, key: str) -> list[str]:
        """All values of `key`, a value per field line (not split at commas)."""
        return [v for k, _, v in self._fields if k == key]

    def tokens(self, key: str) -> list[str]:
        """All comma-separated tokens of `key` in lower case (Supported, Require, Allow ...)."""
        return [t for v in self.get_all(key) for t in (p.strip().lower() for p in v.split(",")) if t]

    def __contains__(self, key: object) -> bool:
        for k, _, _ in self._fields:  # noqa: SIM110 (as in `Params`)
            if k == key:
                return True
        return False

    def add(self, name: str, value: str) -> None:
        """Append a field."""
        self.changes += 1
        self._fields.append(_field(name, value))

    def insert_first(self, name: str, value: str) -> None:
        """Put a field before all others (Via)."""
        self.changes += 1
        self._fields.insert(0, _field(name, value))

    def set(self, name: str, value: str) -> None:
        """Replace the first field of this name in its place and drop the others; append where there is none."""
        self.changes += 1
        new = _field(name, value)
        key = new[0]
        out: list[tuple[str, str, str]] = []
        done = False
        for field in self._fields:
            if field[0] != key:
                out.append(field)
            elif not done:
                out.append(new)
                done = True
        if not done:
            out.append(new)
        self._fields = out

    def replace_first(self, key: str, value: str) -> None:
        """Replace the value of the first field of this key, leaving the others (the top Via). KeyError if absent."""
        self.changes += 1
        for i, (k, n, _) in enumerate(self._fields):
            if k == key:
                self._fields[i] = _field(n, value)
                return
        raise KeyError(key)

    def remove(self, key: str) -> None:
        """Drop all fields of this key."""
        self.changes += 1
        self._fields = [f for f in self._fields if f[0] != key]

    def remove_first(self, key: str) -> None:
        """Drop the first field of this key, if any."""
        self.changes += 1
        for i, f in enumerate(self._fields):
            if f[0] == key:
                del self._fields[i]
                return

    def copy(self) -> Headers:
        """A copy that can be changed on its own."""
        return Headers.of_raw(self._fields.copy())

    def items(self) -> Iterator[tuple[str, str]]:
        """(name, value) in order."""
        return ((n, v) for _, n, v in self._fields)

    def raw(self) -> list[tuple[str, str, str]]:
        """(key, name, value) in order; not to be changed."""
        return self._fields

    def __iter__(self) -> Iterator[str]:
        """Keys in order, repeated where a field repeats."""
        return (k for k, _, _ in self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._fields == other._fields

    def __repr__(self) -> str:
        return f"Headers({[(n, v) for _, n, v in self._fields]!r})"
