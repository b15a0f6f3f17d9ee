"""C6: CLIP no screening, a verified number that the customer owns elsewhere (domain rule 2.3-7).

The gates in their order: the seat or trunk is allowed to; the account is not in trial; the number is verified and has
not expired; its class may be shown. The gates that depend on the carrier (country, CLIP no screening) are C7's.
"""

from __future__ import annotations

from config.model import AccountStatus
from dialplan.cli.ask import Ask, Kind, Shown
from dialplan.model import Reason, Refusal
from dialplan.numbering import may_be_shown

RULE = "C6"


def apply(ask: Ask) -> Shown | Refusal | None:
    """The external number; None where none is wanted or the own number is to stand in; a refusal where the account
    refuses rather than falls back."""
    wanted = None if ask.anonymous else _wanted(ask)
    if wanted is None:
        return None
    closed = _closed_gate(ask, wanted)
    if closed is None:
        ask.say(RULE, "shows the external number {}", wanted)
        return Shown(Kind.EXTERNAL, wanted)
    if ask.account.clip_fallback == "refuse":
        return ask.refuse(RULE, Reason.CLI_NOT_ALLOWED, f"{{}} may not be shown: {closed}", wanted)
    ask.say(RULE, f"{{}} may not be shown: {closed}; the own number is shown", wanted)
    return None


def _wanted(ask: Ask) -> str | None:
    if ask.seat is not None:
        present = ask.seat.present
        return None if present in ("primary", "anonymous") or ask.chosen is not None else present
    user = ask.caller.from_user
    if ask.trunk is None or not user or user == ask.trunk.username or ask.chosen is not None:
        return None
    e164 = ask.named(user)
    if e164 is None or (ask.own is not None and ask.own.number == e164):
        return None
    return e164


def _closed_gate(ask: Ask, e164: str) -> str | None:
    if ask.seat is not None and e164 not in ask.seat.external_numbers:
        return "it is not among the seat's external numbers"
    if ask.trunk is not None and not ask.trunk.clip_no_screening:
        return "the trunk may not show numbers of others"
    if ask.account.status is AccountStatus.TRIAL:
        return "the account is in its trial phase"
    row = ask.snapshot.external_number(ask.account.id, e164)
    if row is None:
        return "it is not an external number of this account"
    if row.status != "verified":
        return f"it is {row.status}"
    if row.expires_at is not None and ask.now >= row.expires_at:
        return "its verification has expired"
    if not may_be_shown(e164):
        return "it is of a class that may never be shown"
    return None
