"""The ng protocol of rtpengine, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.relay import ng_messages as ng

VALUES = st.recursive(
    st.one_of(st.binary(max_size=40), st.integers(-(2**62), 2**62)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("abc-", min_size=1, max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)


def as_read(value: object) -> object:
    """What was written, as it is read: keys are bytes."""
    if isinstance(value, dict):
        return {key.encode(): as_read(inner) for key, inner in value.items()}
    return [as_read(inner) for inner in value] if isinstance(value, list) else value


def test_a_command_as_rtpengine_reads_it() -> None:
    """Cookie, blank, dictionary; underscores are hyphens."""
    made = ng.command(b"c1", "offer", call_id="x/1", flags=["a", "bc"], codec={"transcode": ["PCMA"]}, limit=-3)
    assert made == b"c1 d7:command5:offer7:call-id3:x/15:flagsl1:a2:bce5:codecd9:transcodel4:PCMAee5:limiti-3ee"


def test_what_does_not_fit_a_datagram_is_refused_here() -> None:
    """65507 bytes are what UDP carries."""
    with pytest.raises(ng.BadMessage, match="fits no datagram"):
        ng.command(b"c", "offer", sdp=b"x" * 65_600)


@given(st.dictionaries(st.text("abc-", min_size=1, max_size=6), VALUES, max_size=5))
def test_what_is_written_is_read(fields: dict[str, object]) -> None:
    """Any tree of values survives."""
    fields.pop("command", None)
    made = ng.command(b"k_1", "ping", **fields)  # type: ignore[arg-type]
    assert ng.read(made) == (b"k_1", {b"command": b"ping", **as_read(fields)})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"c",
        b"c ",
        b" d1:ai1ee",
        b"c i1e",
        b"c d1:ai1e",
        b"c d1:ae",
        b"c di1e1:ae",
        b"c d1:ai1ee ",
        b"c d9999:a",
        b"c d99999999999999999999999:a1:be",
        b"c d1:ai1_0ee",
        b"c d1:ai 1ee",
        b"c d1:ai--1ee",
        b"c d1:ai+1ee",
        b"c d1:aiee",
        b"c d-1:ai1ee",
        "c d1:ai١ee".encode(),
        b"c d1:a" + b"l" * 5000,
        b"c d1:a" + b"d1:a" * 5000,
        b"x" * 65 + b" de",
    ],
)
def test_hostile_datagrams_are_refused(datagram: bytes) -> None:
    """Lengths, nesting and number fields at every edge: one error, no recursion without end."""
    with pytest.raises(ng.BadMessage):
        ng.read(datagram)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    """Nothing but BadMessage comes of noise, alone or in place of a message."""
    for datagram in (noise, b"c d" + noise + b"e", b"c d1:a" + noise + b"e"):
        try:
            ng.read(datagram)
        except ng.BadMessage:
            pass


def test_fields_that_may_be_missing() -> None:
    """A number deeper in, a text: 0 and empty where there is something else."""
    message = {b"a": {b"b": 7}, b"t": b"ok", b"n": 3}
    assert (ng.number(message, b"a", b"b"), ng.number(message, b"a", b"x"), ng.number(message, b"t")) == (7, 0, 0)
    assert (ng.text(message, b"t"), ng.text(message, b"n"), ng.text(message, b"z")) == ("ok", "", "")
