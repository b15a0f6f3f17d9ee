"""Which destinations an account may call (rule B1). Emergency calls never come here."""

from __future__ import annotations

from config.model import Account
from dialplan import number
from dialplan.model import Reason, Refusal, Trace
from dialplan.numbering import PREMIUM_CODES, is_premium


def check(account: Account, destination: str, trace: Trace) -> Refusal | None:
    """A refusal if the account may not call `destination`: E.164 with +, or a bare short code."""
    allowed = account.allowed_destinations
    if allowed == ("*",):
        return None
    if not destination.startswith("+"):
        return _short_code(destination, allowed or (), trace)
    if allowed is None:
        allowed = ("+" + number.calling_code(account.country),)
    matching = [prefix for prefix in allowed if prefix == "*" or destination.startswith(prefix)]
    if not matching:
        return _refused(destination, "is not among the account's allowed destinations", trace)
    if is_premium(destination) and not any(p == "*" or is_premium(p) for p in matching):
        return _refused(destination, "is a premium or abused range, which the account has not opened by name", trace)
    return None


def _short_code(code: str, allowed: tuple[str, ...], trace: Trace) -> Refusal | None:
    if not code.startswith(PREMIUM_CODES) or any(p == "*" or code.startswith(p) for p in allowed):
        return None
    return _refused(code, "is a short code that costs extra, which the account has not opened by name", trace)


def _refused(destination: str, text: str, trace: Trace) -> Refusal:
    trace.add("B1", f"{destination} {text}")
    return Refusal(Reason.DESTINATION_NOT_ALLOWED, f"{destination} {text}", trace=trace)
