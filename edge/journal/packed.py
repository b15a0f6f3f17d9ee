"""Values of dataclasses, named tuples and enums as short bytes, by their type hints; `values.decode` reads them. Pure.

A dataclass is a list of its fields. Their names are written once for many values (`fields_of`), so that another version
still reads by name. A `bytes` is a number: its text stands once behind the JSON, as it is, however often the value has
it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import lru_cache
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from edge.journal.values import Form, encode, parse

_Texts: TypeAlias = dict[bytes, int]
_Pack: TypeAlias = Callable[[Any, _Texts], Any]


def packer(kind: type) -> Callable[[Any], bytes]:
    """The function that writes values of type `kind`: a line, then the texts."""
    to_list = _packer(kind)
    assert to_list is not None, f"{kind} is as it is"

    def pack(value: Any) -> bytes:
        texts: _Texts = {}
        plain = to_list(value, texts)
        return b"".join((encode([plain, [len(text) for text in texts]]), b"\n", *texts))

    return pack


def unpack(content: bytes, names: dict[str, list[str]]) -> tuple[Any, Form]:
    """What `packer` wrote, as plain values and their form for `values.decode`; `names` are those of `fields_of` then.
    Raises ValueError."""
    line, _, rest = content.partition(b"\n")
    plain, lengths = parse(line)
    texts: list[bytes] = []
    at = 0
    for length in lengths:
        texts.append(rest[at : at + length])
        at += length
    return plain, Form(names, texts)


def fields_of(*kinds: type) -> dict[str, list[str]]:
    """The names of the fields of all dataclasses in `kinds`, in their order. Raises TypeError."""
    names: dict[str, list[str]] = {}
    waiting: list[Any] = list(kinds)
    while waiting:
        kind = waiting.pop()
        if not isinstance(kind, type) or get_origin(kind) is not None:
            waiting += get_args(kind)
        elif is_dataclass(kind):
            known = [field.name for field in fields(kind)]
            if names.setdefault(kind.__name__, known) is known:
                waiting += get_type_hints(kind).values()
            elif names[kind.__name__] != known:
                raise TypeError(f"two classes are called {kind.__name__}")
        elif issubclass(kind, tuple) and hasattr(kind, "_fields"):
            waiting += get_type_hints(kind).values()
    return names


@lru_cache(maxsize=512)
def _packer(kind: Any) -> _Pack | None:
    """The function that makes a plain value of one of type `kind`; None where it is one."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        (inner,) = (_packer(one) for one in get_args(kind) if one is not NoneType)
        return inner and _optional(inner)
    if origin is Literal or kind in (str, int, float, bool, object, Any, datetime):
        return None
    if kind is bytes:
        return lambda value, texts: texts.setdefault(value, len(texts))
    if origin in (tuple, list, frozenset, set):
        return _sequence(origin, get_args(kind))
    if origin is dict:
        return _dict(*get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value, texts: value._value_
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        get = attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),)
        return _parts(get, [hints[name] for name in names])
    if isinstance(kind, type) and issubclass(kind, tuple):
        hints = get_type_hints(kind)
        return _parts(tuple, [hints[name] for name in kind._fields])  # type: ignore[attr-defined]
    raise TypeError(f"values of {kind} cannot be written")


def _optional(inner: _Pack) -> _Pack:
    return lambda value, texts: None if value is None else inner(value, texts)


def _parts(get: Callable[[Any], tuple[Any, ...]], kinds: list[Any]) -> _Pack:
    """`None` is left alone, so that the parts that are seldom there cost little."""
    special = [(n, pack) for n, pack in enumerate(map(_bare, kinds)) if pack is not None]
    if not special:
        return lambda value, texts: get(value)

    def pack(value: Any, texts: _Texts) -> list[Any]:
        out = list(get(value))
        for n, one in special:
            part = out[n]
            if part is not None:
                out[n] = one(part, texts)
        return out

    return pack


def _bare(kind: Any) -> _Pack | None:
    """The packer of what may be None."""
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
    return _packer(kind)


def _sequence(origin: Any, arguments: tuple[Any, ...]) -> _Pack | None:
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is ...):
        parts = [_packer(one) for one in arguments]
        if all(part is None for part in parts):
            return None
        return lambda value, texts: [part(one, texts) if part else one for part, one in zip(parts, value, strict=True)]
    item = _packer(arguments[0])
    if item is None:
        return None if origin in (tuple, list) else lambda value, texts: list(value)
    return lambda value, texts: [item(one, texts) for one in value] if value else ()


def _dict(key: Any, content: Any) -> _Pack | None:
    pack = _packer(content)
    if pack is None:
        return None
    return lambda value, texts: {k: pack(v, texts) for k, v in value.items()} if value else value
