"""A decision in plain words, for a support agent: what was asked step by step, and what came of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dialplan.model import (
    ChannelClaim,
    Decision,
    Direction,
    Identity,
    Outcome,
    Refusal,
    RoutePlan,
    SourceKind,
    Target,
    TargetKind,
    Trace,
)

_DIRECTIONS = {
    Direction.INBOUND: "a call from outside",
    Direction.OUTBOUND: "a call to outside",
    Direction.INTERNAL: "an internal call",
    Direction.EMERGENCY: "an emergency call",
}
_OUTCOMES = {
    Outcome.BUSY: "When busy",
    Outcome.NO_ANSWER: "Without answer",
    Outcome.UNREACHABLE: "When unreachable",
    Outcome.LIMIT: "When its channels are in use",
}


@dataclass(frozen=True, slots=True)
class Question:
    """A call that somebody asks about. `source`: a seat's username, `ACCOUNT/NAME` of a trunk, or a carrier's name."""

    kind: SourceKind
    source: str
    to: str
    """As it would be dialled, or as the carrier would name the number."""
    caller: str = ""
    """The number in From: of the caller who comes in over a carrier, or what a PBX presents."""
    anonymous: bool = False
    """The caller, the PBX or the phone withholds the number."""


def _nothing(target: Target) -> Sequence[str]:
    return ()


def explain(decision: Decision | None, more: Callable[[Target], Sequence[str]] = _nothing) -> str:
    """Lines of text, ending with a line break; rule numbers are those of docs/dialplan.md. None: no next route.

    `more` gives lines that stand below a target: its header fields, its state.
    """
    if decision is None:
        return "There is no next route: the failure stands.\n"
    lines = ["How it was decided", *steps(decision.trace), ""]
    lines += _refusal(decision) if isinstance(decision, Refusal) else _plan(decision, more)
    return "\n".join(lines) + "\n"


def explain_next(
    before: Trace, outcome: Outcome, decision: Decision, more: Callable[[Target], Sequence[str]] = _nothing
) -> str:
    """The same of a next route: only what was decided beyond the trace `before`."""
    lines = [f"{_OUTCOMES[outcome]}", *steps(Trace(decision.trace.steps[len(before.steps) :]))]
    if isinstance(decision, Refusal):
        lines += [f"  {line}" for line in _refusal(decision)]
    else:
        lines += _targets(decision.targets, more)
    return "\n".join(lines) + "\n"


def steps(trace: Trace) -> list[str]:
    """The steps of a decision, each behind the number of its rule."""
    return [f"  {step.rule:<4} {step.text}" for step in trace.steps]


def channels(claims: Iterable[ChannelClaim]) -> str:
    """What a call takes, in words: `number +4930... in 1 of 2`."""
    said = ", ".join(
        f"{c.level} {c.key} {c.direction} {c.units}" + (f" of {c.limit}" if c.limit is not None else " (no limit)")
        for c in claims
    )
    return said or "none, the call is not counted"


def _refusal(refusal: Refusal) -> list[str]:
    lines = [f"Refused: {refusal.reason.value}" + (f" (docs/refusals.md), {refusal.detail}" if refusal.detail else "")]
    if refusal.status is not None:
        lines.append(f"  answered with SIP {refusal.status}, as the number's route demands")
    if refusal.level is not None:
        lines.append(f"  {refusal.level} limit: {refusal.used} of {refusal.limit} channels in use")
    return lines


def _plan(plan: RoutePlan, more: Callable[[Target], Sequence[str]]) -> list[str]:
    billed = "" if plan.billed_account == plan.account else f", billed to account {plan.billed_account}"
    lines = [f"Put through: {_DIRECTIONS[plan.direction]} to {plan.called}, for account {plan.account}{billed}"]
    lines += _targets(plan.targets, more)
    if not plan.targets:
        lines.append("  but there is no carrier at all")
    if plan.no_answer_after is not None:
        lines.append(f"  after {plan.no_answer_after} seconds without answer the number's next route is taken")
    lines.append(f"  channels: {channels(plan.claims)}")
    return lines


def _targets(targets: Sequence[Target], more: Callable[[Target], Sequence[str]]) -> list[str]:
    lines: list[str] = []
    for place, target in enumerate(targets, 1):
        lines.append(f"  {place}. {_target(target)}")
        lines += [f"       {line}" for line in more(target)]
    return lines


def _target(target: Target) -> str:
    where = f"{target.kind.value} {target.name}"
    if target.user:
        where += f", sent to {target.user}"
    extra = f"; channels: {channels(target.claims)}" if target.claims else ""
    return f"{where}; {_identity(target)}{extra}"


def _identity(target: Target) -> str:
    identity: Identity = target.identity
    if identity.anonymous:
        text = "the caller's number is withheld"
        if identity.network is not None and target.kind is TargetKind.CARRIER:
            text += ", the carrier alone learns who is billed"
    elif identity.presented is None:
        text = "without a number"
    else:
        text = f"shows {identity.presented}"
        if identity.network is not None and identity.network != identity.presented:
            text += f" (network number {identity.network})"
    if identity.diversion:
        forwarders = ", ".join(e164 or "a private number" for e164 in identity.diversion)
        text += f", forwarded by {forwarders} ({identity.diversion_reason})"
    return text
