"""C5: a PBX forwards a call and shows the original caller (domain rule 2.3-4, the exception of §120(2) TKG). It must
name the forwarding number in Diversion or History-Info, that number must be the account's, and the trunk must be
allowed CLIP no screening."""

from __future__ import annotations

from dialplan.cli.ask import Ask, Kind, Own, Shown
from dialplan.numbering import may_be_shown

RULE = "C5"


def apply(ask: Ask) -> Shown | None:
    """The original caller, shown with the forwarding number as Diversion."""
    if ask.trunk is None or not ask.caller.diversion:
        return None
    forwarding = _forwarding(ask)
    if forwarding is None:
        ask.trace.add(RULE, "the PBX says that it forwards a call, but names no number of this account as forwarding")
        return None
    ask.own = forwarding
    if ask.anonymous:
        ask.trace.add(RULE, "the PBX forwards a call whose number is withheld")
        return Shown(Kind.ANONYMOUS, None, (forwarding.number,))
    original = ask.named(ask.caller.from_user)
    if original is None or original == forwarding.number:
        return None
    if not ask.trunk.clip_no_screening:
        ask.say(RULE, "the PBX forwards a call from {}, but the trunk may not show numbers of others", original)
        return Shown(Kind.OWN, forwarding.number, (forwarding.number,))
    if not may_be_shown(original):
        ask.say(RULE, "{} is of a class that may never be shown", original)
        return Shown(Kind.OWN, forwarding.number, (forwarding.number,))
    ask.say(RULE, f"forwarded by {forwarding.number}: shows the original caller {{}}", original)
    return Shown(Kind.DIVERTED, original, (forwarding.number,))


def _forwarding(ask: Ask) -> Own | None:
    for user in ask.caller.diversion:
        e164 = ask.named(user)
        if e164 is not None:
            found = ask.ours(e164)
            if isinstance(found, Own):
                return found
    return None
