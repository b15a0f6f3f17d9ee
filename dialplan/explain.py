"""A decision in plain words, for a support agent: what was asked step by step, and what came of it. Pure."""

from __future__ import annotations

from dialplan.model import ChannelClaim, Decision, Direction, Identity, Refusal, RoutePlan, Target, TargetKind

_DIRECTIONS = {
    Direction.INBOUND: "a call from outside",
    Direction.OUTBOUND: "a call to outside",
    Direction.INTERNAL: "an internal call",
    Direction.EMERGENCY: "an emergency call",
}


def explain(decision: Decision | None) -> str:
    """Lines of text, ending with a line break; rule numbers are those of docs/dialplan.md. None: no next route."""
    if decision is None:
        return "There is no next route: the failure stands.\n"
    lines = ["How it was decided"]
    lines += [f"  {step.rule:<4} {step.text}" for step in decision.trace.steps]
    lines.append("")
    lines += _refusal(decision) if isinstance(decision, Refusal) else _plan(decision)
    return "\n".join(lines) + "\n"


def _refusal(refusal: Refusal) -> list[str]:
    lines = [f"Refused: {refusal.reason.value}" + (f" (docs/refusals.md), {refusal.detail}" if refusal.detail else "")]
    if refusal.status is not None:
        lines.append(f"  answered with SIP {refusal.status}, as the number's route demands")
    if refusal.level is not None:
        lines.append(f"  {refusal.level} limit: {refusal.used} of {refusal.limit} channels in use")
    return lines


def _plan(plan: RoutePlan) -> list[str]:
    billed = "" if plan.billed_account == plan.account else f", billed to account {plan.billed_account}"
    lines = [f"Put through: {_DIRECTIONS[plan.direction]} to {plan.called}, for account {plan.account}{billed}"]
    for place, target in enumerate(plan.targets, 1):
        lines.append(f"  {place}. {_target(target)}")
    if not plan.targets:
        lines.append("  but there is no carrier at all")
    if plan.no_answer_after is not None:
        lines.append(f"  after {plan.no_answer_after} seconds without answer the number's next route is taken")
    lines.append(f"  channels: {_claims(plan.claims)}")
    return lines


def _target(target: Target) -> str:
    where = f"{target.kind.value} {target.name}"
    if target.user:
        where += f", sent to {target.user}"
    extra = f"; channels: {_claims(target.claims)}" if target.claims else ""
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
        text += f", forwarded by {', '.join(identity.diversion)} ({identity.diversion_reason})"
    return text


def _claims(claims: tuple[ChannelClaim, ...]) -> str:
    if not claims:
        return "none, the call is not counted"
    return ", ".join(
        f"{c.level} {c.key} {c.direction} {c.units}" + (f" of {c.limit}" if c.limit is not None else " (no limit)")
        for c in claims
    )
