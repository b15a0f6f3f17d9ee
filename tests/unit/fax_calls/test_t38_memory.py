"""Domain rule 4.8.37: two T.38 faxes in a row without a packet, and a carrier's faxes go over G.711 for a day."""

from edge.fax.t38_memory import OFF_SECONDS, T38Memory


def test_two_in_a_row_for_a_day() -> None:
    """The second switches off; after 24 hours T.38 is tried anew, with two more chances."""
    memory = T38Memory()
    assert memory.usable("a", 0.0)
    assert not memory.note("a", 0, 0.0) and memory.usable("a", 1.0)
    assert memory.note("a", 0, 1.0)
    assert not memory.usable("a", 2.0) and memory.usable("b", 2.0)
    assert not memory.usable("a", 1.0 + OFF_SECONDS - 1) and memory.usable("a", 1.0 + OFF_SECONDS)
    assert not memory.note("a", 0, OFF_SECONDS + 2) and memory.usable("a", OFF_SECONDS + 3)


def test_a_good_fax_in_between() -> None:
    """One packet is enough: the count begins anew."""
    memory = T38Memory()
    memory.note("a", 0, 0.0)
    memory.note("a", 812, 1.0)
    assert not memory.note("a", 0, 2.0) and memory.usable("a", 3.0)
