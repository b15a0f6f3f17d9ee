"""C3: a PBX presents a number in From, P-Asserted-Identity or P-Preferred-Identity. It is screened against the
numbers of its account, never copied (domain rule 2.1-3)."""

from __future__ import annotations

from dialplan.cli.ask import Ask, Own

RULE = "C3"


def apply(ask: Ask) -> Own | None:
    """The first number among From, asserted and preferred identities that the account has."""
    if ask.trunk is None:
        return None
    caller = ask.caller
    for user in (caller.from_user, *caller.asserted, *caller.preferred):
        if not user or user == ask.trunk.username:
            continue
        e164 = ask.named(user)
        if e164 is None:
            continue
        found = ask.ours(e164)
        if isinstance(found, Own):
            ask.say(RULE, "the PBX presents {}, a number of this account", e164)
            return found
        ask.say(RULE, f"the PBX presents {{}}, which {found}", e164)
    return None
