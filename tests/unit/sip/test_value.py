"""Values that are made quickly are what their dataclass says."""

from dataclasses import dataclass, field, replace

import pytest

from edge.sip.address import NameAddr
from edge.sip.value import quick


@quick
@dataclass(frozen=True, slots=True)
class _Base:
    name: str
    parts: tuple[str, ...] = ()
    seen: list[str] = field(default_factory=list, compare=False)


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class _ByName:
    name: str = "x"
    number: int


def test_defaults_equality_and_copies_are_those_of_a_dataclass() -> None:
    one, other = _Base("a"), _Base("a", (), ["b"])
    assert one == other and hash(one) == hash(other) and one.seen == []
    assert _Base("a").seen is not one.seen
    assert replace(one, name="b") == _Base("b")
    assert repr(one) == "_Base(name='a', parts=(), seen=[])"
    assert _ByName(number=1) == _ByName(name="x", number=1)


def test_a_wrong_call_names_the_class_and_what_is_missing() -> None:
    with pytest.raises(TypeError, match=r"_Base\.__init__\(\) missing 1 required positional argument: 'name'"):
        _Base()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="takes 1 positional"):
        _ByName("x", 1)  # type: ignore[misc]


def test_nothing_can_be_added_to_a_value() -> None:
    address = NameAddr.parse("<sip:a@b.example>")
    with pytest.raises(AttributeError):
        address.tag_of_ours = "x"  # type: ignore[attr-defined]
