"""C4: the seat's primary number, or the default number of its trunk; for a PBX that presents nothing of its own the
trunk's default number."""

from __future__ import annotations

from dialplan.cli.ask import Ask, Own
from dialplan.model import Reason, Refusal

RULE = "C4"


def apply(ask: Ask) -> Own | Refusal:
    """The own number, or a refusal where there is none that may be used."""
    seat = ask.seat
    if seat is not None and seat.primary_number is not None:
        e164, what = seat.primary_number, "the seat's primary number"
    else:
        trunk = ask.trunk
        if seat is not None and seat.trunk is not None:
            trunk = ask.snapshot.trunks.get((ask.account.id, seat.trunk))
        if trunk is None or trunk.default_number is None:
            remedy = "set primary_number of the seat" if seat is not None else "set default_number of the trunk"
            return ask.refuse(RULE, Reason.CLI_NOT_AVAILABLE, f"there is no number of its own to show; {remedy}")
        e164, what = trunk.default_number, "the trunk's default number"
    found = ask.ours(e164)
    if isinstance(found, str):
        return ask.refuse(RULE, Reason.CLI_NOT_AVAILABLE, f"{what} {{}} {found}", e164)
    ask.say(RULE, f"{what} is {{}}", e164)
    return found
