"""C2: a two-digit prefix chose the number (domain rule 3.1-1). A number that may not be used now refuses the call
instead of falling back silently (T3.5)."""

from __future__ import annotations

from dialplan.cli.ask import Ask, Own
from dialplan.model import Reason, Refusal

RULE = "C2"


def apply(ask: Ask) -> Own | Refusal | None:
    """The chosen number."""
    row = ask.chosen
    if row is None:
        return None
    e164 = row.prefix + "0" * row.digits
    found = ask.ours(e164)
    if isinstance(found, str):
        return ask.refuse(RULE, Reason.CLI_NOT_AVAILABLE, f"the prefix chooses {{}}, which {found}", e164)
    ask.say(RULE, "the prefix chooses {}", e164)
    return found
