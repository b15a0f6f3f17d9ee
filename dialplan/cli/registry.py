"""The CLI rules in their order. A new rule is one file in `rules/` and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dialplan.cli.ask import Ask, Kind, Own, Shown
from dialplan.cli.rules import anonymous, chosen, diverted, external, own, passed_on, presented
from dialplan.model import Refusal

NUMBER_RULES: tuple[Callable[[Ask], Own | Refusal | None], ...] = (chosen.apply, presented.apply, own.apply)
"""Which number we answer for."""

SHOWN_RULES: tuple[Callable[[Ask], Shown | Refusal | None], ...] = (passed_on.apply, diverted.apply, external.apply)
"""What is shown instead of it."""


@dataclass(frozen=True, slots=True)
class Cli:
    """The caller's identity before a carrier is chosen."""

    own: Own
    shown: Shown


def choose(ask: Ask) -> Cli | Refusal:
    """Ask the rules in their order. The steps are in the ask's trace."""
    ask.anonymous = anonymous.apply(ask)
    for number_rule in NUMBER_RULES:
        answer = number_rule(ask)
        if isinstance(answer, Refusal):
            return answer
        if answer is not None:
            ask.own = answer
            break
    shown: Shown | None = None
    for shown_rule in SHOWN_RULES:
        result = shown_rule(ask)
        if isinstance(result, Refusal):
            return result
        if result is not None:
            shown = result
            break
    if ask.own is None:
        raise AssertionError("the last number rule always answers")
    if shown is None:
        shown = Shown(Kind.ANONYMOUS) if ask.anonymous else Shown(Kind.OWN, ask.own.number)
    return Cli(ask.own, shown)
