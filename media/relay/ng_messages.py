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
_DIGITS: Final = 22
_ZERO, _NINE, _INTEGER, _LIST, _DICTIONARY, _END = b"09ilde"


class Encoded(bytes):
    """A value that is bencoded already, for what every command says."""


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


def encoded(value: Plain) -> Encoded:
    """A value made ready once."""
    out: list[bytes] = []
    _encode(value, out)
    return Encoded(b"".join(out))


def read(datagram: bytes) -> tuple[bytes, dict[bytes, Value]]:
    """Cookie and dictionary of an answer. Raises BadMessage."""
    cookie, blank, body = datagram.partition(b" ")
    if not blank or not cookie or len(cookie) > 64:
        raise BadMessage("no cookie")
    return cookie, _decode(body)


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
    if isinstance(value, Encoded):
        out.append(value)
    elif isinstance(value, bytes):
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


def _decode(data: bytes) -> dict[bytes, Value]:
    """A dictionary and nothing behind it. One loop without recursion: the figures of a call are hundreds of values."""
    size = len(data)
    if data[:1] != b"d":
        raise BadMessage("no dictionary")
    open_: list[tuple[list[Value], bool]] = []
    found: list[Value] = []
    is_dictionary = True
    at = 1
    while at < size:
        kind = data[at]
        if _ZERO <= kind <= _NINE:
            colon = data.find(b":", at, at + _DIGITS)
            digits = data[at:colon]
            if colon < 0 or not digits.isdigit():
                raise BadMessage("a string without its length")
            at = colon + 1 + int(digits)
            if at > size:
                raise BadMessage("a string that is longer than the datagram")
            found.append(data[colon + 1 : at])
        elif kind == _INTEGER:
            end = data.find(b"e", at, at + _DIGITS)
            digits = data[at + 1 : end]
            # `int` alone would take blanks, underscores and plus signs as well
            if end < 0 or not digits.removeprefix(b"-").isdigit():
                raise BadMessage("no number")
            found.append(int(digits))
            at = end + 1
        elif kind == _END:
            made: Value = _dictionary(found) if is_dictionary else found
            at += 1
            if not open_:
                if at != size or not isinstance(made, dict):
                    raise BadMessage("something behind the dictionary")
                return made
            found, is_dictionary = open_.pop()
            found.append(made)
        elif kind in (_LIST, _DICTIONARY) and len(open_) < _DEPTH:
            open_.append((found, is_dictionary))
            found, is_dictionary = [], kind == _DICTIONARY
            at += 1
        else:
            raise BadMessage("no bencode, or too deep")
    raise BadMessage("it ends before its end")


def _dictionary(found: list[Value]) -> dict[bytes, Value]:
    entries: dict[bytes, Value] = {}
    if len(found) % 2:
        raise BadMessage("a key without a value")
    for key, value in zip(found[::2], found[1::2], strict=True):
        if not isinstance(key, bytes):
            raise BadMessage("a key that is no string")
        entries[key] = value
    return entries
