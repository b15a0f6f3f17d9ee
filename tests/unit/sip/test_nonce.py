"""Nonces without memory, each nonce count once, in bounded space (RFC 7616 5.4 and 5.5, domain rule 7.5)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.sip.auth.nonce import Nonces, NonceVerdict

FRESH, STALE, REPLAYED = NonceVerdict.FRESH, NonceVerdict.STALE, NonceVerdict.REPLAYED
PEER = "192.0.2.4"


def nonces(lifetime: float = 300, capacity: int = 100) -> Nonces:
    return Nonces(b"s" * 32, lifetime, capacity)


def nc(count: int) -> str:
    return f"{count:08x}"


def test_each_count_once() -> None:
    """RFC 7616 5.5: a nonce may be used again with another count, never with the same."""
    source = nonces()
    nonce = source.issue(PEER, 10.0)
    assert [source.accept(nonce, PEER, nc(n), 11.0) for n in (1, 2, 2, 1, 5, 3, 3, 4, 5)] == [
        FRESH,
        FRESH,
        REPLAYED,
        REPLAYED,
        FRESH,
        FRESH,
        REPLAYED,
        FRESH,
        REPLAYED,
    ]


def test_far_counts() -> None:
    """A count more than 64 behind is taken for used."""
    source = nonces()
    nonce = source.issue(PEER, 0.0)
    assert source.accept(nonce, PEER, nc(1), 1.0) is FRESH
    assert source.accept(nonce, PEER, nc(1000), 1.0) is FRESH
    assert source.accept(nonce, PEER, nc(1000 - 63), 1.0) is FRESH
    assert source.accept(nonce, PEER, nc(1000 - 64), 1.0) is REPLAYED
    assert source.accept(nonce, PEER, "ffffffff", 1.0) is FRESH


def test_without_qop() -> None:
    """A peer without nonce count may use a nonce once."""
    source = nonces()
    nonce = source.issue(PEER, 0.0)
    assert [source.accept(nonce, PEER, None, 1.0) for _ in range(2)] == [FRESH, REPLAYED]


def test_lifetime() -> None:
    """RFC 7616 3.3: after its lifetime a nonce is stale, used before or not."""
    source = nonces(lifetime=60)
    unused, used = source.issue(PEER, 100.0), source.issue(PEER, 100.0)
    assert source.accept(used, PEER, nc(1), 160.0) is FRESH
    assert source.accept(used, PEER, nc(2), 160.01) is STALE
    assert source.accept(unused, PEER, nc(1), 160.01) is STALE
    assert source.accept(source.issue(PEER, 200.0), PEER, nc(1), 199.0) is STALE


def test_not_ours() -> None:
    """A nonce of another peer, of another secret, changed or invented is stale."""
    source = nonces()
    nonce = source.issue(PEER, 0.0)
    flipped = nonce[:-1] + ("A" if nonce[-1] != "A" else "B")
    for other, peer in (
        (nonce, "192.0.2.5"),
        (flipped, PEER),
        ("", PEER),
        ("é", PEER),
        ("A" * 36, PEER),
        (nonce + "A", PEER),
    ):
        assert source.accept(other, peer, nc(1), 1.0) is STALE
    assert Nonces(b"t" * 32).accept(nonce, PEER, nc(1), 1.0) is STALE
    assert source.accept(nonce, PEER, nc(1), 1.0) is FRESH


def test_every_nonce_is_new() -> None:
    """Two requests in the same millisecond do not share a nonce."""
    source = nonces()
    assert len({source.issue(PEER, 5.0) for _ in range(1000)}) == 1000


def test_bounded() -> None:
    """RFC 7616 5.4: memory is bounded, and what was pushed out of it is stale, not usable again."""
    source = nonces(capacity=3)
    given_out = [source.issue(PEER, float(i)) for i in range(5)]
    assert [source.accept(n, PEER, nc(1), 5.0) for n in given_out] == [FRESH] * 5
    assert [source.accept(n, PEER, nc(1), 5.0) for n in given_out] == [STALE, STALE, REPLAYED, REPLAYED, REPLAYED]
    assert source.accept(source.issue(PEER, 6.0), PEER, nc(1), 6.0) is FRESH


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(1, 100), st.floats(0, 3)), max_size=60),
    st.integers(1, 6),
)
def test_nothing_is_accepted_twice(uses: list[tuple[int, int, float]], capacity: int) -> None:
    """Whatever the order, the times and the capacity: no (nonce, count) is fresh twice, and none after its lifetime."""
    source = nonces(lifetime=20, capacity=capacity)
    issued = [(source.issue(PEER, float(i)), float(i)) for i in range(8)]
    now = 8.0
    fresh: set[tuple[int, int]] = set()
    for which, count, later in uses:
        now += later
        nonce, born = issued[which]
        if source.accept(nonce, PEER, nc(count), now) is FRESH:
            assert (which, count) not in fresh
            assert now - born <= 20.001
            fresh.add((which, count))
