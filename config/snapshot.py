"""The provisioning snapshot: immutable indices over `config.model` rows, read on the path of every call.

Built once per change and swapped whole; nobody changes it. No I/O here.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from config.model import Account, Carrier, ExternalNumber, FaxBox, NumberRow, NumberStatus, Rows, Seat, Trunk


class Snapshot:
    """Everything that routing asks for, each by its key in constant time; `version` rises with each swap."""

    def __init__(self, rows: Rows, version: int = 0) -> None:
        self.version = version
        self.carriers: dict[str, Carrier] = {c.name: c for c in rows.carriers}
        self.carrier_groups: tuple[tuple[Carrier, ...], ...] = _by_priority(rows.carriers)
        """Carriers of equal priority together, the lowest priority first, by name within."""
        self.accounts: dict[str, Account] = {a.id: a for a in rows.accounts}
        self.trunks: dict[tuple[str, str], Trunk] = {(t.account, t.name): t for t in rows.trunks}
        self.seats: dict[str, Seat] = {s.username: s for s in rows.seats}
        self.fax_boxes: dict[tuple[str, str], FaxBox] = {(f.account, f.name): f for f in rows.fax_boxes}
        self._trunk_by_username = {t.username: t for t in rows.trunks if t.username}
        self._extensions = {(s.account, s.extension): s for s in rows.seats if s.extension}
        self._external = {(e.account, e.number): e for e in rows.external_numbers}
        self._numbers: dict[str, NumberRow] = {}
        self._blocks: dict[str, NumberRow] = {b.prefix: b for b in rows.blocks}
        self._cli_prefixes: dict[tuple[str, str], NumberRow] = {}
        self._at_carrier: dict[tuple[str, str], NumberRow] = {}
        self.borrowers: frozenset[str] = frozenset()
        """Accounts that use a number of another account."""
        self._index_numbers(rows.numbers)
        self._prefix_lengths = _lengths(rows.numbers)
        self._block_lengths = _lengths(rows.blocks)

    def _index_numbers(self, numbers: tuple[NumberRow, ...]) -> None:
        """One pass over what may be a million rows."""
        index, at_carrier = self._numbers, self._at_carrier
        active = NumberStatus.ACTIVE
        prefixed: list[NumberRow] = []
        borrowers: set[str] = set()
        for row in numbers:
            index[row.prefix] = row
            if row.cli_prefix is not None:
                prefixed.append(row)
            serving = row.account
            if row.served_account:
                serving = row.served_account
                borrowers.add(serving)
            if row.status is active:
                key = (serving, row.carrier)
                first = at_carrier.get(key)
                if first is None or row.prefix < first.prefix:
                    at_carrier[key] = row
        self.borrowers = frozenset(borrowers)
        # an account's own numbers before those lent to it, so that a lender cannot change what its digits mean
        for row in prefixed:
            if row.served_account is None and row.cli_prefix:
                self._cli_prefixes[row.account, row.cli_prefix] = row
        for row in prefixed:
            if row.served_account is not None and row.cli_prefix:
                self._cli_prefixes.setdefault((row.served_account, row.cli_prefix), row)
                self._cli_prefixes.setdefault((row.account, row.cli_prefix), row)

    def number(self, e164: str) -> NumberRow | None:
        """The single number or range that `e164` (with +) belongs to, longest prefix first; None if free or unknown."""
        return _longest(self._numbers, self._prefix_lengths, e164)

    def block(self, e164: str) -> NumberRow | None:
        """The block that `e164` lies in, assigned or free."""
        return _longest(self._blocks, self._block_lengths, e164)

    def trunk_by_username(self, username: str) -> Trunk | None:
        """The trunk that registers with this username."""
        return self._trunk_by_username.get(username)

    def seat_by_extension(self, account: str, extension: str) -> Seat | None:
        """The seat with this internal number."""
        return self._extensions.get((account, extension))

    def number_by_cli_prefix(self, account: str, prefix: str) -> NumberRow | None:
        """The number that two dialled digits choose as CLI in the account that uses it.

        The row may be pending, cancelled, or meanwhile served elsewhere: whether it may be chosen is the dial plan's.
        """
        return self._cli_prefixes.get((account, prefix))

    def number_at_carrier(self, account: str, carrier: str) -> NumberRow | None:
        """The first active number that the account uses at this carrier, in the order of their digits."""
        return self._at_carrier.get((account, carrier))

    def external_number(self, account: str, e164: str) -> ExternalNumber | None:
        """The account's external number, whatever its status."""
        return self._external.get((account, e164))


def _by_priority(carriers: Iterable[Carrier]) -> tuple[tuple[Carrier, ...], ...]:
    ordered = sorted(carriers, key=lambda c: (c.priority, c.name))
    return tuple(tuple(group) for _, group in groupby(ordered, key=lambda c: c.priority))


def _lengths(rows: Iterable[NumberRow]) -> tuple[int, ...]:
    return tuple(sorted({len(r.prefix) for r in rows}, reverse=True))


def _longest(index: dict[str, NumberRow], lengths: tuple[int, ...], e164: str) -> NumberRow | None:
    size = len(e164)
    for length in lengths:
        if length <= size:
            row = index.get(e164[:length])
            if row is not None and length + row.digits == size:
                return row
    return None


EMPTY = Snapshot(Rows())
"""Before the first load: knows nobody."""
