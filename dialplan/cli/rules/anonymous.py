"""C1: is the number withheld? By a dialled code, by the seat's setting, or by the phone's or PBX's request
(RFC 3323); never towards emergency numbers, 116117 and 124124 (domain rule 2.6-18)."""

from __future__ import annotations

from dialplan.cli.ask import Ask

RULE = "C1"
_WITHHOLDING = frozenset({"id", "header", "user"})


def apply(ask: Ask) -> bool:
    """Whether the caller's number is withheld on this call."""
    wanted = _who(ask)
    if wanted is None:
        return False
    if ask.shows_number:
        ask.trace.add(RULE, f"{wanted} wants to withhold the number, which is not possible towards this destination")
        return False
    ask.trace.add(RULE, f"the number is withheld: {wanted} wants it")
    return True


def _who(ask: Ask) -> str | None:
    if ask.anonymous:
        return "the dialled code"
    if ask.passes_on is not None and ask.passes_on.party.anonymous:
        return "the party that is passed on"
    if ask.seat is not None and ask.seat.present == "anonymous":
        return "the seat's setting"
    if ask.caller.from_anonymous or not _WITHHOLDING.isdisjoint(ask.caller.privacy):
        return "the calling device"
    return None
