"""The order of carriers: priority, weight, and what does not go to whom (rule R7, T5.9)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from config.model import Carrier, Rows
from config.snapshot import Snapshot
from dialplan.model import TargetKind
from dialplan.routing import MAX_CARRIERS, carriers_in_order
from tests.unit.dialplan.world import ROWS, SEAT_DE, SEAT_UK, UK_23, dial, plan


def world(*carriers: tuple[str, int, int]) -> Snapshot:
    return Snapshot(Rows(carriers=tuple(Carrier(n, priority=p, weight=w) for n, p, w in carriers)))


def order(snapshot: Snapshot, pick: float) -> str:
    return "".join(c.name for c in carriers_in_order(snapshot, pick))


def test_lower_priority_number_first() -> None:
    """Provisioning: lower first, whatever the pick."""
    snapshot = world(("c", 30, 1), ("a", 10, 1), ("b", 20, 100))
    assert {order(snapshot, pick / 10) for pick in range(10)} == {"abc"}


def test_weights_share_among_equals() -> None:
    """Equal priorities share by weight: 3 to 1 as first, over evenly spread picks."""
    snapshot = world(("a", 10, 3), ("b", 10, 1), ("z", 20, 9))
    first = Counter(order(snapshot, pick / 400)[0] for pick in range(400))
    assert first == {"a": 300, "b": 100}
    assert {order(snapshot, pick / 400) for pick in range(400)} == {"abz", "baz"}


def test_second_choice_is_drawn_by_weight_too() -> None:
    """Where the first of three fails, the other two share by their weights."""
    snapshot = world(("a", 10, 2), ("b", 10, 1), ("c", 10, 1))
    orders = Counter(order(snapshot, (pick + 0.5) / 1200) for pick in range(1200))
    expected = {"abc": 300, "acb": 300, "bac": 200, "bca": 100, "cab": 200, "cba": 100}
    assert all(abs(orders[o] - n) <= 2 for o, n in expected.items()), orders


def test_weight_zero_is_a_spare() -> None:
    """A carrier of weight 0 is tried last within its priority."""
    snapshot = world(("a", 10, 0), ("b", 10, 1), ("c", 10, 1), ("d", 20, 1))
    assert {order(snapshot, pick / 100) for pick in range(100)} == {"bcad", "cbad"}
    assert set(order(world(("a", 10, 0), ("b", 10, 0)), 0.5)) == {"a", "b"}


@pytest.mark.parametrize("pick", [0.0, 0.1, 1 / 3, 0.5, 0.999999, 1 - 2**-53])
def test_every_carrier_is_there_once(pick: float) -> None:
    """Whatever the pick, the order is a permutation."""
    snapshot = world(*((name, 10, weight) for name, weight in zip("abcdefg", (1, 3, 0, 7, 100, 1, 2), strict=True)))
    assert sorted(order(snapshot, pick)) == list("abcdefg")


def test_same_pick_same_plan() -> None:
    """Randomness is an input."""
    assert dial("02036427900", SEAT_UK, pick=0.3) == dial("02036427900", SEAT_UK, pick=0.3)


def test_number_of_carriers_is_bounded() -> None:
    """A call tries at most eight carriers."""
    many = tuple(Carrier(f"c{i}", priority=i) for i in range(30))
    decided = plan(dial("+4930123456", SEAT_DE, Snapshot(replace(ROWS, carriers=many))))
    assert [t.name for t in decided.targets] == [f"c{i}" for i in range(MAX_CARRIERS)]


def test_own_number_dialled_externally_leaves_over_the_carrier() -> None:
    """A DDI of the own account, dialled in full, is an external call: counted, billed and routed as any other."""
    decided = plan(dial(UK_23, SEAT_UK))
    assert {t.kind for t in decided.targets} == {TargetKind.CARRIER}
    assert decided.claims != ()


def test_number_formats_of_the_carriers() -> None:
    """The called number leaves as each carrier wants it."""
    decided = plan(dial("02036427900", SEAT_UK))
    assert {t.name: t.user for t in decided.targets} == {
        "telekom": "+442036427900", "sipgate": "442036427900", "nfon": "00442036427900", "simwood": "442036427900",
    }  # fmt: skip
