"""Values as short bytes and back: a text is written once, and fields are read by name, whichever version wrote them."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple

import pytest

from edge.journal.packed import fields_of, packer, unpack
from edge.journal.values import decode


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    colour: Colour = Colour.RED
    name: bytes | None = None


@dataclass(slots=True)
class Part:
    body: bytes
    pairs: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass(slots=True)
class Thing:
    colour: Colour
    at: datetime
    body: bytes = b""
    maybe: Part | None = None
    points: tuple[Point, ...] = ()
    parts: dict[str, Part] = field(default_factory=dict)
    names: dict[int, bytes | None] = field(default_factory=dict)
    colours: dict[str, Colour] = field(default_factory=dict)
    set_of: frozenset[str] = frozenset()
    anything: dict[str, object] = field(default_factory=dict)
    header: str = ""


NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n"


def again(thing: Thing) -> Thing:
    value, form = unpack(packer(Thing)(thing), fields_of(Thing))
    return decode(Thing, value, form)


def test_a_value_comes_back() -> None:
    """All that states are made of: bytes of any value, line breaks among them, and texts that are no UTF-8."""
    thing = Thing(
        Colour.RED,
        NOW,
        bytes(range(256)),
        Part(SDP, [("a", b"\n"), ("b", b"")]),
        (Point(1), Point(2, name=b"\n\n")),
        {"x": Part(SDP)},
        {7: SDP, 8: None},
        {"a": Colour.RED},
        frozenset(("b", "a")),
        {"0": [1, "a"], "b": {"c": None}},
        "Zo\u00eb \udc80",
    )
    assert again(thing) == thing
    assert again(Thing(Colour.RED, NOW)) == Thing(Colour.RED, NOW)


def test_a_text_is_written_once() -> None:
    """A description stands in a call's offer, its last word, its INVITE and its leg."""
    thing = Thing(Colour.RED, NOW, SDP, Part(bytes(bytearray(SDP))), names={1: SDP})
    assert packer(Thing)(thing).count(b"192.0.2.1") == 1


def test_another_version_reads_by_name() -> None:
    """Fields that it has in another order, does not know, or knows in addition."""

    part = make_dataclass("Part", [("pairs", list[tuple[str, bytes]]), ("new", int, 5)])
    later: Any = make_dataclass("Thing", [("maybe", part | None), ("colour", Colour), ("more", str, "more")])
    written = packer(Thing)(Thing(Colour.RED, NOW, maybe=Part(b"gone", [("a", SDP)])))
    value, form = unpack(written, fields_of(Thing))
    assert decode(later, value, form) == later(part([("a", SDP)]), Colour.RED)


@pytest.mark.parametrize(
    "broken", [b"", b"[[", b"[]\n", b"[[1],[]]\n", b'[["red",0,0],[]]\n', b'[["red",0,0,0,0,0,0,0,0,0,0],[]]\n', b"{}"]
)
def test_what_does_not_fit_is_an_error(broken: bytes) -> None:
    """Of the kinds that a reader expects, so that one broken call costs no other."""
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        value, form = unpack(broken, fields_of(Thing))
        decode(Thing, value, form)


def test_two_classes_of_one_name_are_noticed() -> None:
    """Their fields could not be told apart."""

    with pytest.raises(TypeError, match="Thing"):
        fields_of(Thing, make_dataclass("Thing", [("other", int)]))
