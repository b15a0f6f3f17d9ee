"""Values of dataclasses, named tuples and enums as JSON and back, by their type hints. Pure.

Fields are written by name, so that a later version may add fields (with a default) and still read what an earlier one
wrote; what it does not know any more it passes over.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import orjson

T = TypeVar("T")


class Form(NamedTuple):
    """How a value was written."""

    names: dict[str, list[str]]
    """Of the dataclasses that are lists of their fields: what these are called."""
    texts: list[bytes]
    """Each `bytes` that is a number."""


_BY_NAME = Form({}, [])
Decode = Callable[[Any, Form], Any]


def _default(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be written")


def _slow_default(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    return _default(value)


_slowly = json.JSONEncoder(separators=(",", ":"), check_circular=False, default=_slow_default).encode


def encode(value: object) -> bytes:
    """JSON of a value, in one line."""
    try:
        return orjson.dumps(value, _default, orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # texts of peers with bytes that are no UTF-8 are not for orjson
        return _slowly(value).encode("ascii")


def parse(text: bytes | memoryview) -> Any:
    """What `encode` wrote, as plain values for `decode`. Raises ValueError."""
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(bytes(text))


def decode(kind: type[T], value: object, form: Form = _BY_NAME) -> T:
    """A value of type `kind` from what `parse` gave. Raises ValueError, TypeError, KeyError."""
    return cast(T, decoder(kind)(value, form))  # type: ignore[arg-type]


@lru_cache(maxsize=512)
def decoder(kind: Any) -> Decode:
    """The function that makes a value of type `kind`."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _union(get_args(kind))
    if kind is str:
        return _text
    if origin is Literal or kind in (int, float, bool, object, Any):
        return _same
    if kind is bytes:
        return _bytes
    if kind is datetime:
        return lambda value, form: datetime.fromisoformat(value)
    if origin in (tuple, list, frozenset, set):
        return _sequence(origin, get_args(kind))
    if origin is dict:
        key, item = get_args(kind)
        if key is int:
            return _dict(lambda value, form: int(value), decoder(item))
        return _dict(decoder(key), decoder(item))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value, form: kind(value)
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass(kind)
    if isinstance(kind, type) and issubclass(kind, tuple):
        hints = get_type_hints(kind)
        parts = [decoder(hints[name]) for name in kind._fields]  # type: ignore[attr-defined]
        return lambda value, form: kind(*[part(v, form) for part, v in zip(parts, value, strict=False)])
    raise TypeError(f"values of {kind} cannot be read")


def _same(value: Any, form: Form) -> Any:
    return value


def _bytes(value: Any, form: Form) -> bytes:
    if type(value) is int:
        if 0 <= value < len(form.texts):
            return form.texts[value]
        raise ValueError(f"there is no text {value}")
    return cast(bytes, value.encode("latin-1"))


# Of each text and set one, as long as it comes again and again: ten thousand calls name the same accounts, addresses
# and methods, and each call its own tags several times.


def _text(value: Any, form: Form) -> Any:
    return _one_text(value)


@lru_cache(maxsize=4096)
def _one_text(value: Any) -> Any:
    return value


@lru_cache(maxsize=256)
def _one_set(value: frozenset[Any]) -> frozenset[Any]:
    return value


def _union(kinds: tuple[Any, ...]) -> Decode:
    others = [kind for kind in kinds if kind is not NoneType]
    if len(others) != 1:
        raise TypeError(f"one of {kinds} cannot be told from another")
    inner = decoder(others[0])
    if inner is _same:
        return _same
    return lambda value, form: None if value is None else inner(value, form)


def _dict(key: Decode, item: Decode) -> Decode:
    return lambda value, form: {key(k, form): item(v, form) for k, v in value.items()}


def _sequence(origin: Any, arguments: tuple[Any, ...]) -> Decode:
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is ...):
        parts = [decoder(a) for a in arguments]
        return lambda value, form: tuple(part(v, form) for part, v in zip(parts, value, strict=True))
    item = decoder(arguments[0])
    if origin is frozenset:
        return lambda value, form: _one_set(frozenset([item(v, form) for v in value]))
    if item is _same:
        return lambda value, form: origin(value)
    return lambda value, form: origin([item(v, form) for v in value])


def _dataclass(kind: Any) -> Decode:
    parts: dict[str, Decode] | None = None

    def read(value: Any, form: Form) -> Any:
        nonlocal parts
        if parts is None:
            hints = get_type_hints(kind)
            parts = {field.name: decoder(hints[field.name]) for field in fields(kind)}
        known = parts
        named = zip(form.names[kind.__name__], value, strict=True) if type(value) is list else value.items()
        return kind(**{name: known[name](content, form) for name, content in named if name in known})

    return read
