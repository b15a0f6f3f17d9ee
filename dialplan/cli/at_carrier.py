"""C7: the identity as one carrier may send it: which network number, and whether the shown number passes there."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from config.model import Account, Carrier, NumberRow
from config.snapshot import Snapshot
from dialplan import number
from dialplan.cli.ask import Kind, Own, Shown
from dialplan.ddi import unusable
from dialplan.model import Identity, Trace
from dialplan.numbering import CLI_COUNTRIES, may_be_shown

RULE = "C7"


class AtCarrier(NamedTuple):
    """An identity, and whether it is the wanted one (`good`) or a stand-in for lack of a better carrier."""

    identity: Identity
    good: bool


def identity_at(
    carrier: Carrier,
    own: Own,
    shown: Shown,
    destination: str,
    account: Account,
    snapshot: Snapshot,
    now: datetime,
    trace: Trace,
    diversion_reason: str = "unconditional",
) -> AtCarrier | None:
    """The identity of a call to `destination` (E.164, or a bare code) over `carrier`; None if it may not carry it."""
    home = own.row.carrier == carrier.name
    other = None if home else _number_there(carrier, own.row, snapshot, now)
    network = other or own.number
    diversion = shown.diversion
    kind = shown.kind
    if kind is Kind.ANONYMOUS:
        identity = Identity(None, network, "", True, diversion, diversion_reason)
        return AtCarrier(identity, home or other is not None or carrier.clip_no_screening)
    if kind is Kind.OWN:
        if home or _closed_gate(carrier, own.number, destination) is None:
            return AtCarrier(Identity(own.number, network, "", False, diversion, diversion_reason), True)
        return AtCarrier(Identity(network, network, "", False, diversion, diversion_reason), False)
    wanted = shown.number
    closed = _closed_gate(carrier, wanted or "", destination, kind is Kind.DIVERTED)
    if closed is None:
        return AtCarrier(Identity(wanted, network, "", False, diversion, diversion_reason), True)
    if kind is Kind.EXTERNAL and account.clip_fallback == "refuse":
        trace.add(RULE, f"carrier {carrier.name} cannot show {wanted}: {closed}")
        return None
    trace.add(RULE, f"carrier {carrier.name} cannot show {wanted}: {closed}; it would show the own number")
    return AtCarrier(Identity(network, network, "", False, diversion, diversion_reason), False)


def _number_there(carrier: Carrier, own: NumberRow, snapshot: Snapshot, now: datetime) -> str | None:
    """A number of the same customer at this carrier, so that the carrier knows whom the call is from."""
    row = snapshot.number_at_carrier(own.serving, carrier.name)
    if row is None or row.account != own.account or unusable(row, now) is not None:
        return None
    e164 = row.prefix + "0" * row.digits
    return e164 if may_be_shown(e164) else None


def _closed_gate(carrier: Carrier, e164: str, destination: str, diverted: bool = False) -> str | None:
    if not carrier.clip_no_screening:
        return "it takes no numbers of others"
    if diverted:
        return None
    code = number.country_code(e164)
    if code == number.calling_code(carrier.home_country):
        return None
    if code in CLI_COUNTRIES and destination.startswith(f"+{code}"):
        return None
    return f"+{code} is not a number of the carrier's country, nor is the call into a country of the EU that has it"
