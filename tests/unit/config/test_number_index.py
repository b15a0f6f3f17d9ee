"""A changed index of numbers is the same as one built anew: what routing sees does not depend on how it came there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from config.model import NumberRow, NumberStatus
from config.snapshot import NumberIndex

_PREFIXES = st.sampled_from([f"+4930{n}" for n in range(8)] + ["+493", "+49301234"])
_ACCOUNTS = st.sampled_from(["A", "B", "C"])


@st.composite
def _rows(draw: st.DrawFn) -> NumberRow:
    account = draw(_ACCOUNTS)
    served = draw(st.none() | _ACCOUNTS.filter(lambda a: a != account))
    cli_prefix = draw(st.none() | st.sampled_from(["23", "24"]))
    status, carrier = draw(st.sampled_from(NumberStatus)), draw(st.sampled_from(["t", "u"]))
    return NumberRow(
        draw(_PREFIXES), 0, account, carrier, status, cli_prefix=cli_prefix, served_account=served
    )  # fmt: skip


_TABLES = st.lists(_rows(), max_size=10, unique_by=lambda row: row.prefix)


@given(_TABLES, st.dictionaries(_PREFIXES, st.none() | _rows(), max_size=6))
def test_changed_is_built_anew(before: list[NumberRow], changes: dict[str, NumberRow | None]) -> None:
    """Any change of any rows: the same rows, CLI prefixes, first numbers at carriers, and borrowers."""
    wanted = {prefix: row for prefix, row in changes.items() if row is None or row.prefix == prefix}
    after = {row.prefix: row for row in before}
    for prefix, row in wanted.items():
        after.pop(prefix, None)
        if row is not None:
            after[prefix] = row
    original = NumberIndex(before)
    changed, fresh = original.changed(wanted), NumberIndex(after.values())
    assert changed.rows == fresh.rows
    assert changed.at_carrier == fresh.at_carrier
    assert changed.cli_prefixes == fresh.cli_prefixes
    assert changed.borrowers == fresh.borrowers
    assert set(fresh.lengths) <= set(changed.lengths) and list(changed.lengths) == sorted(changed.lengths, reverse=True)
    assert original.rows == {row.prefix: row for row in before}
