"""Where calls go: the order of carriers, and the targets behind a number's route (rules R1 to R6)."""

from __future__ import annotations

from config.model import Account, Carrier, NumberRow
from config.snapshot import Snapshot
from dialplan.model import ChannelClaim

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
        total = sum(c.weight for c in rest)
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


def carrier_out(carrier: Carrier) -> tuple[ChannelClaim, ...]:
    """What a call out over a carrier takes of it."""
    return (
        ChannelClaim("carrier", carrier.name, "out", carrier.max_calls_out),
        ChannelClaim("carrier", carrier.name, "total", carrier.max_calls),
    )


def carrier_in(carrier: Carrier) -> tuple[ChannelClaim, ...]:
    """What a call in over a carrier takes of it."""
    return (
        ChannelClaim("carrier", carrier.name, "in", carrier.max_calls_in),
        ChannelClaim("carrier", carrier.name, "total", carrier.max_calls),
    )


def account_leg(account: Account) -> ChannelClaim:
    """One external leg of the account's booked parallel calls."""
    return ChannelClaim("account", account.id, "total", account.parallel_calls)


def number_in(row: NumberRow, e164: str) -> ChannelClaim:
    """An inbound channel of a number; each DDI of a range has the range's channels to itself."""
    return ChannelClaim("number", e164, "in", row.channels)
