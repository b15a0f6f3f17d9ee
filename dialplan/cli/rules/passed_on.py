"""C8: a seat or PBX transfers a call, or forwards it by a 3xx answer. Who called is shown, as on any diversion (domain
rule 2.3-4); the number that passes it on answers for the call and stands in Diversion."""

from __future__ import annotations

from dialplan.cli.ask import Ask, Kind, Shown
from dialplan.numbering import may_be_shown

RULE = "C8"


def apply(ask: Ask) -> Shown | None:
    """The caller that is passed on; None where the source had called that party itself."""
    passed, own = ask.passes_on, ask.own
    if passed is None or own is None or not passed.called_us:
        return None
    hides = ask.seat is not None and ask.seat.present == "anonymous"
    diversion = passed.party.diversion if hides else (own.number, *passed.party.diversion)
    if ask.anonymous:
        ask.trace.add(RULE, "passes a call on whose number is withheld")
        return Shown(Kind.ANONYMOUS, None, diversion)
    original = number_of(ask)
    if original is None or original == own.number:
        return Shown(Kind.OWN, own.number, diversion)
    if not may_be_shown(original):
        ask.say(RULE, "{} is of a class that may never be shown", original)
        return Shown(Kind.OWN, own.number, diversion)
    if ask.trunk is not None and not ask.trunk.clip_no_screening:
        ask.say(RULE, "the PBX passes a call from {} on, but the trunk may not show numbers of others", original)
        return Shown(Kind.OWN, own.number, diversion)
    ask.say(RULE, f"passed on by {own.number}: shows the original caller {{}}", original)
    return Shown(Kind.DIVERTED, original, diversion)


def number_of(ask: Ask) -> str | None:
    """The E.164 number of the party that is passed on; a colleague's is that of the seat."""
    shown = ask.passes_on.party.presented if ask.passes_on is not None else None
    if shown is None or shown.startswith("+"):
        return shown
    seat = ask.snapshot.seat_by_extension(ask.account.id, shown) or ask.snapshot.seats.get(shown)
    return seat.primary_number if seat is not None and seat.account == ask.account.id else None
