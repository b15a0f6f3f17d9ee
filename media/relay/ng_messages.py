"""The ng control protocol of rtpengine: a cookie, a blank and a bencoded dictionary per datagram. Pure.

Bencode as rtpengine speaks it: strings are bytes, dictionaries need not be sorted (which general libraries refuse), and
there is nothing but strings, integers, lists and dictionaries. What comes in is read with limits on depth and numbers,
for anybody may send a datagram to our port.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from media.relay.port import RelayError

Value = bytes | int | list["Value"] | dict[bytes, "Value"]
"""What a message holds once it is read."""
Plain = bytes | str | int | Sequence["Plain"] | Mapping[str, "Plain"]
"""What a message may be made of."""

MAX_DATAGRAM: Final = 65_507
_DEPTH: Final = 16
_DIGITS: Final = 20


class BadMessage(RelayError):
    """A datagram that is no message of rtpengine."""


def command(cookie: bytes, name: str, **fields: Plain) -> bytes:
    """A command; underscores in the names of fields become hyphens. Raises BadMessage where it fits no datagram."""
    out: list[bytes] = [cookie, b" "]
    _encode({"command": name, **{key.replace("_", "-"): value for key, value in fields.items()}}, out)
    data = b"".join(out)
    if len(data) > MAX_DATAGRAM:
        raise BadMessage(f"a command of {len(data)} bytes fits no datagram")
    return data


def read(datagram: bytes) -> tuple[bytes, dict[bytes, Value]]:
    """Cookie and dictionary of an answer. Raises BadMessage."""
    cookie, blank, body = datagram.partition(b" ")
    if not blank or not cookie or len(cookie) > 64:
        raise BadMessage("no cookie")
    value, end = _decode(body, 0, 0)
    if end != len(body) or not isinstance(value, dict):
        raise BadMessage("no dictionary, or something behind it")
    return cookie, value


def text(message: Mapping[bytes, Value], key: bytes) -> str:
    """A string of a message; empty where there is none."""
    value = message.get(key, b"")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def number(message: Mapping[bytes, Value], *path: bytes) -> int:
    """An integer that may lie deeper in a message; 0 where there is none."""
    value: Value = dict(message)
    for key in path:
        value = value.get(key, 0) if isinstance(value, dict) else 0
    return value if isinstance(value, int) else 0


def _encode(value: Plain, out: list[bytes]) -> None:
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        out.append(b"%d:" % len(value))
        out.append(value)
    elif isinstance(value, int):
        out.append(b"i%de" % value)
    elif isinstance(value, Mapping):
        out.append(b"d")
        for key, inner in value.items():
            _encode(key, out)
            _encode(inner, out)
        out.append(b"e")
    else:
        out.append(b"l")
        for inner in value:
            _encode(inner, out)
        out.append(b"e")


def _decode(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    kind = data[at : at + 1]
    if kind.isdigit():
        size, at = _number(data, at, b":")
        end = at + size
        if size < 0 or end > len(data):
            raise BadMessage("a string that is longer than the datagram")
        return data[at:end], end
    if kind == b"i":
        return _number(data, at + 1, b"e")
    if kind not in (b"l", b"d") or depth == _DEPTH:
        raise BadMessage("no bencode, or too deep")
    at += 1
    found: list[Value] = []
    while data[at : at + 1] != b"e":
        value, at = _decode(data, at, depth + 1)
        found.append(value)
    if kind == b"l":
        return found, at + 1
    keys, values = found[::2], found[1::2]
    if len(keys) != len(values):
        raise BadMessage("a key without a value")
    entries: dict[bytes, Value] = {}
    for key, value in zip(keys, values, strict=True):
        if not isinstance(key, bytes):
            raise BadMessage("a key that is no string")
        entries[key] = value
    return entries, at + 1


def _number(data: bytes, at: int, stop: bytes) -> tuple[int, int]:
    end = data.find(stop, at, at + _DIGITS + 2)
    digits = data[at:end] if end > at else b""
    # `int` alone would take blanks, underscores and signs as well.
    if not digits.removeprefix(b"-").isdigit():
        raise BadMessage("no number")
    return int(digits), end + 1
