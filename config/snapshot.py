"""The provisioning snapshot: immutable indices over `config.model` rows, read on the path of every call.

Built once per change and swapped whole; nobody changes it. No I/O here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

from config.model import Account, Carrier, ExternalNumber, FaxBox, NumberRow, NumberStatus, Rows, Seat, Trunk


class NumberIndex:
    """Single numbers and ranges by what routing asks of them. Building one of a million rows takes a second; `changed`
    makes one of another in a small part of that."""

    __slots__ = ("at_carrier", "borrowers", "cli_prefixes", "lengths", "rows", "special")

    def __init__(self, numbers: Iterable[NumberRow]) -> None:
        self.rows: dict[str, NumberRow] = {}
        self.special: dict[str, NumberRow] = {}
        """Rows with a CLI prefix or lent to another account: few, so what follows from them is made anew each time."""
        self.at_carrier: dict[tuple[str, str], NumberRow] = {}
        rows, special, offer = self.rows, self.special, self._offer
        for row in numbers:
            rows[row.prefix] = row
            if row.cli_prefix is not None or row.served_account:
                special[row.prefix] = row
            offer(row)
        self.lengths = _prefix_lengths(rows)
        self.cli_prefixes = _by_cli_prefix(special.values())
        self.borrowers = _borrowers(special.values())

    def changed(self, changes: Mapping[str, NumberRow | None]) -> NumberIndex:
        """The same with other rows at these prefixes; None: the row is gone."""
        new = NumberIndex(())
        new.rows, new.special, new.at_carrier = self.rows.copy(), self.special.copy(), self.at_carrier.copy()
        bereft: set[tuple[str, str]] = set()
        for prefix, row in changes.items():
            old = new.rows.pop(prefix, None)
            new.special.pop(prefix, None)
            if old is not None and new.at_carrier.get((old.serving, old.carrier)) is old:
                del new.at_carrier[old.serving, old.carrier]
                bereft.add((old.serving, old.carrier))
            if row is not None:
                new.rows[prefix] = row
                if row.cli_prefix is not None or row.served_account:
                    new.special[prefix] = row
                new._offer(row)
        if bereft:
            for row in new.rows.values():
                if (row.served_account or row.account, row.carrier) in bereft:
                    new._offer(row)
        new.lengths = tuple(sorted({*self.lengths, *map(len, changes)}, reverse=True))
        new.cli_prefixes = _by_cli_prefix(new.special.values())
        new.borrowers = _borrowers(new.special.values())
        return new

    def _offer(self, row: NumberRow) -> None:
        if row.status is NumberStatus.ACTIVE:
            key = (row.served_account or row.account, row.carrier)
            first = self.at_carrier.get(key)
            if first is None or row.prefix < first.prefix:
                self.at_carrier[key] = row


class Snapshot:
    """Everything that routing asks for, each by its key in constant time; `version` rises with each swap."""

    def __init__(self, rows: Rows, version: int = 0, numbers: NumberIndex | None = None) -> None:
        """`numbers`: the index of `rows.numbers`, where it is there already."""
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
        self._blocks: dict[str, NumberRow] = {b.prefix: b for b in rows.blocks}
        self._block_lengths = _prefix_lengths(self._blocks)
        self.number_index = NumberIndex(rows.numbers) if numbers is None else numbers
        self.borrowers: frozenset[str] = self.number_index.borrowers
        """Accounts that use a number of another account."""
        self._numbers = self.number_index.rows
        self._prefix_lengths = self.number_index.lengths
        self._cli_prefixes = self.number_index.cli_prefixes
        self._at_carrier = self.number_index.at_carrier

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


def _by_cli_prefix(rows: Iterable[NumberRow]) -> dict[tuple[str, str], NumberRow]:
    found: dict[tuple[str, str], NumberRow] = {}
    # a cancelled number keeps its prefix until another gets it
    prefixed = sorted((r for r in rows if r.cli_prefix), key=lambda r: (r.status is NumberStatus.CANCELLED, r.prefix))
    # an account's own numbers before those lent to it, so that a lender cannot change what its digits mean
    for row in prefixed:
        if row.served_account is None and row.cli_prefix:
            found.setdefault((row.account, row.cli_prefix), row)
    for row in prefixed:
        if row.served_account is not None and row.cli_prefix:
            found.setdefault((row.served_account, row.cli_prefix), row)
            found.setdefault((row.account, row.cli_prefix), row)
    return found


def _borrowers(rows: Iterable[NumberRow]) -> frozenset[str]:
    return frozenset(r.served_account for r in rows if r.served_account)


def _prefix_lengths(prefixes: Iterable[str]) -> tuple[int, ...]:
    return tuple(sorted(set(map(len, prefixes)), reverse=True))


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
