"""Emergency calls (rules M1 and M2; domain rule 2.6): matched exactly, sent bare, with the site's number, over any
carrier, never withheld, counted, limited or barred. Nothing here refuses."""

from __future__ import annotations

from config.model import Account, Carrier, NumberRow, Seat, Trunk
from config.snapshot import Snapshot
from dialplan import number
from dialplan.model import Caller, Direction, Identity, RoutePlan, Target, TargetKind, Trace
from dialplan.numbering import ANY_EMERGENCY, EMERGENCY
from dialplan.routing import carriers_in_order


def numbers_for(account: Account, borrowed: Account | None) -> frozenset[str]:
    """The emergency numbers of the caller's site. Where the caller uses a number lent by another account, whose site
    may be abroad, those of both countries."""
    own = EMERGENCY.get(account.country, ANY_EMERGENCY)
    if borrowed is None or borrowed.country == account.country:
        return own
    return own | EMERGENCY.get(borrowed.country, ANY_EMERGENCY)


def borrowed_number(
    account: Account, seat: Seat | None, trunk: Trunk | None, caller: Caller, snapshot: Snapshot
) -> NumberRow | None:
    """The number of another account that this call is made with (cross-account numbers, domain rule F1), if any."""
    if account.id not in snapshot.borrowers:
        return None
    e164 = _made_with(account, seat, trunk, caller, snapshot)
    row = snapshot.number(e164) if e164 is not None else None
    return row if row is not None and row.served_account == account.id and row.account != account.id else None


def plan(
    digits: str,
    account: Account,
    seat: Seat | None,
    trunk: Trunk | None,
    caller: Caller,
    snapshot: Snapshot,
    pick: float,
    trace: Trace,
) -> RoutePlan:
    """The plan of an emergency call to the bare `digits`."""
    site, billed = _site_number(account, seat, trunk, caller, snapshot, trace)
    identity = Identity(presented=site, network=site)
    row = snapshot.number(site) if site is not None else None
    home = row.carrier if row is not None else None
    order = sorted(carriers_in_order(snapshot, pick), key=lambda c: c.name != home)
    targets = tuple(_target(carrier, digits, identity) for carrier in order)
    names = ", ".join(t.name for t in targets) or "none at all"
    trace.add("M2", f"{digits} goes out bare, uncounted, over any carrier that works: {names}")
    return RoutePlan(Direction.EMERGENCY, targets, digits, account.id, billed, identity, trace=trace)


def _target(carrier: Carrier, digits: str, identity: Identity) -> Target:
    return Target(TargetKind.CARRIER, carrier.name, "", digits, identity)


def _site_number(
    account: Account, seat: Seat | None, trunk: Trunk | None, caller: Caller, snapshot: Snapshot, trace: Trace
) -> tuple[str | None, str]:
    """The number to send and the account that is billed."""
    lent = borrowed_number(account, seat, trunk, caller, snapshot)
    made_with = _made_with(account, seat, trunk, caller, snapshot)
    if lent is not None and made_with is not None:
        trace.add("M1", f"{made_with} is a number of account {lent.account}: its own site counts")
        return made_with, lent.account
    if account.emergency_number is not None:
        trace.add("M1", f"{account.emergency_number} is the number of the account's site")
        return account.emergency_number, account.id
    if made_with is not None:
        trace.add("M1", f"the account names no number of its site: {made_with} is shown")
        return made_with, account.id
    for group in snapshot.carrier_groups:
        for carrier in group:
            row = snapshot.number_at_carrier(account.id, carrier.name)
            if row is not None:
                e164 = row.prefix + "0" * row.digits
                trace.add("M1", f"the caller has no number: {e164} of the account is shown")
                return e164, row.account
    trace.add("M1", "the account has no number at all: the carrier's own is what the emergency centre sees")
    return None, account.id


def _made_with(
    account: Account, seat: Seat | None, trunk: Trunk | None, caller: Caller, snapshot: Snapshot
) -> str | None:
    """The number that the caller shows on any call: the seat's, or one that the PBX presents and the account has."""
    if seat is not None:
        if seat.primary_number is not None:
            return seat.primary_number
        if seat.trunk is not None:
            home = snapshot.trunks.get((account.id, seat.trunk))
            return home.default_number if home is not None else None
        return None
    if trunk is None:
        return None
    for user in (caller.from_user, *caller.asserted, *caller.preferred):
        e164 = number.caller_number(number.clean(user, True), account.country) if user != trunk.username else None
        if e164 is not None:
            row = snapshot.number(e164)
            if row is not None and row.serving == account.id:
                return e164
    return trunk.default_number
