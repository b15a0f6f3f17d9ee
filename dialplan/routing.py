"""The order of carriers, and which channels a leg takes (rule R7, domain rule 5.1)."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from config.model import Account, Carrier, NumberRow, Trunk
from config.snapshot import Snapshot
from dialplan.cli.ask import Own, Shown
from dialplan.cli.at_carrier import Presentation
from dialplan.model import ChannelClaim, Reason, Refusal, Target, TargetKind, Trace
from dialplan.number import to_wire

MAX_CARRIERS = 8
"""How many carriers one call tries."""

_BELOW_ONE = 1 - 2**-53


def carriers_in_order(snapshot: Snapshot, pick: float) -> list[Carrier]:
    """All carriers, lower priority first; equal ones drawn by weight, weight 0 last.

    `pick` (0 <= pick < 1) decides every draw, so that the same pick gives the same order.
    """
    order: list[Carrier] = []
    for group in snapshot.carrier_groups:
        if len(group) == 1:
            order.append(group[0])
            continue
        rest = list(group)
        total = 0
        for carrier in rest:
            total += carrier.weight
        while len(rest) > 1 and total > 0:
            point = pick * total
            drawn = 0
            while drawn < len(rest) - 1 and point >= rest[drawn].weight:
                point -= rest[drawn].weight
                drawn += 1
            carrier = rest.pop(drawn)
            # the place of the pick within the drawn share is as evenly spread as the pick was: it decides the next draw
            pick = min(point / carrier.weight, _BELOW_ONE) if carrier.weight else 0.0
            total -= carrier.weight
            order.append(carrier)
        order.extend(rest)
    return order


@lru_cache(4096)
def _both(level: str, key: str, direction: str, limit: int | None, total: int | None) -> tuple[ChannelClaim, ...]:
    """A channel in one direction and in total; the same rows ask for the same channels on every call."""
    return ChannelClaim(level, key, direction, limit), ChannelClaim(level, key, "total", total)


def carrier_out(carrier: Carrier) -> tuple[ChannelClaim, ...]:
    """What a call out over a carrier takes of it."""
    claims = _both("carrier", carrier.name, "out", carrier.max_calls_out, carrier.max_calls)
    if carrier.max_cps is None:
        return claims
    return *claims, ChannelClaim("carrier", carrier.name, "cps", carrier.max_cps)


def carrier_in(carrier: Carrier) -> tuple[ChannelClaim, ...]:
    """What a call in over a carrier takes of it."""
    return _both("carrier", carrier.name, "in", carrier.max_calls_in, carrier.max_calls)


def trunk_in(trunk: Trunk) -> tuple[ChannelClaim, ...]:
    """What a call to a customer's PBX takes of its trunk."""
    return _both("trunk", f"{trunk.account}/{trunk.name}", "in", trunk.parallel_calls_in, trunk.parallel_calls)


def trunk_out(trunk: Trunk) -> tuple[ChannelClaim, ...]:
    """What a call from a customer's PBX takes of its trunk."""
    return _both("trunk", f"{trunk.account}/{trunk.name}", "out", trunk.parallel_calls_out, trunk.parallel_calls)


def account_leg(account: Account) -> ChannelClaim:
    """One external leg of the account's booked parallel calls."""
    return ChannelClaim("account", account.id, "total", account.parallel_calls)


def number_in(row: NumberRow, e164: str) -> ChannelClaim:
    """An inbound channel of a number; each DDI of a range has the range's channels to itself."""
    return ChannelClaim("number", e164, "in", row.channels)


def carrier_targets(
    snapshot: Snapshot,
    own: Own,
    shown: Shown,
    destination: str,
    account: Account,
    now: datetime,
    pick: float,
    trace: Trace,
    diversion_reason: str = "unconditional",
    extra: tuple[ChannelClaim, ...] = (),
) -> tuple[Target, ...] | Refusal:
    """The carriers to try: first those that show the wanted number, each group by priority and weight (rule R7)."""
    good: list[Target] = []
    stand_in: list[Target] = []
    presentation = Presentation(own, shown, destination, account, snapshot, now, trace, diversion_reason)
    for carrier in carriers_in_order(snapshot, pick):
        at = presentation.at(carrier)
        if at is not None:
            identity, wanted = at
            user = to_wire(destination, carrier.number_format, carrier.home_country)
            target = Target(TargetKind.CARRIER, carrier.name, "", user, identity, extra + carrier_out(carrier))
            (good if wanted else stand_in).append(target)
    targets = (*good, *stand_in)[:MAX_CARRIERS]
    if not targets:
        if snapshot.carriers:
            trace.add("R7", "no carrier can show this number, and the account refuses rather than shows another")
            return Refusal(Reason.CLI_NOT_ALLOWED, "no carrier can show the wanted number", trace=trace)
        trace.add("R7", "there are no carriers")
        return Refusal(Reason.NO_CARRIER, "no carrier is provisioned", trace=trace)
    trace.add("R7", f"carriers in order: {', '.join(t.name for t in targets)}")
    return targets
