"""Calls from a seat or a customer's PBX: to an extension, a short code, or out over a carrier."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from config.model import Account, AccountStatus, Seat, Trunk
from config.snapshot import Snapshot
from dialplan import barring, emergency, number
from dialplan.cli.ask import Ask, Kind, Own
from dialplan.cli.registry import choose
from dialplan.cli.rules import anonymous
from dialplan.grammar import Dialled, Grammar
from dialplan.grammar import Kind as DialledKind
from dialplan.model import (
    CallAttempt,
    ChannelClaim,
    Decision,
    Direction,
    Identity,
    Reason,
    Refusal,
    RoutePlan,
    SourceKind,
    Target,
    TargetKind,
    Trace,
)
from dialplan.routing import account_leg, carrier_targets, trunk_out


def decide(attempt: CallAttempt, snapshot: Snapshot, now: datetime, trace: Trace) -> Decision:
    """Route a call from a seat or a trunk."""
    source = attempt.source
    seat: Seat | None = None
    trunk: Trunk | None = None
    if source.kind is SourceKind.SEAT:
        seat = snapshot.seats.get(source.name)
        account = snapshot.accounts.get(seat.account) if seat is not None else None
    else:
        trunk = snapshot.trunks.get((source.account, source.name))
        account = snapshot.accounts.get(source.account) if trunk is not None else None
    if account is None:
        return Refusal(Reason.UNKNOWN_SOURCE, f"{source.kind.value} {source.name} is not provisioned", trace=trace)
    lent = emergency.borrowed_number(account, seat, trunk, attempt.caller, snapshot)
    lender = snapshot.accounts.get(lent.account) if lent is not None else None
    grammar = Grammar(account, emergency.numbers_for(account, lender), snapshot, trace)
    dialled = grammar.parse(_dialled(attempt))
    if isinstance(dialled, Refusal):
        return replace(dialled, account=account.id)
    if dialled.kind is DialledKind.EMERGENCY:
        return emergency.plan(dialled.number, account, seat, trunk, attempt.caller, snapshot, attempt.pick, trace)
    refused = _may_call(account, trunk, now, trace)
    if refused is not None:
        return replace(refused, account=account.id, number=dialled.number)
    ask = Ask(
        account,
        seat,
        trunk,
        attempt.caller,
        dialled.chosen,
        dialled.shows_number,
        snapshot,
        now,
        trace,
        dialled.anonymous,
        passes_on=attempt.passes_on,
    )
    internal = dialled.kind is DialledKind.INTERNAL
    decided = _internal(ask, dialled) if internal else _external(ask, dialled, attempt.pick)
    return replace(decided, account=account.id, number=dialled.number) if isinstance(decided, Refusal) else decided


def _dialled(attempt: CallAttempt) -> str:
    for called in attempt.called:
        if called.place == "request-uri":
            return number.clean(called.user, called.is_phone)
    return number.clean(attempt.called[0].user, attempt.called[0].is_phone) if attempt.called else ""


def _may_call(account: Account, trunk: Trunk | None, now: datetime, trace: Trace) -> Refusal | None:
    if account.status is AccountStatus.SUSPENDED:
        trace.add("A1", f"account {account.id} is suspended")
        return Refusal(Reason.ACCOUNT_SUSPENDED, f"account {account.id} is suspended", trace=trace)
    if trunk is not None and trunk.valid_from is not None and now < trunk.valid_from:
        text = f"trunk {trunk.name} is planned for {trunk.valid_from:%Y-%m-%d %H:%M} UTC"
        trace.add("A3", text)
        return Refusal(Reason.TRUNK_PLANNED, text, trace=trace)
    return None


def _internal(ask: Ask, dialled: Dialled) -> Decision:
    """A call inside the account: never counted, shown with the extension (rule R2)."""
    called = dialled.seat
    if called is None:
        raise AssertionError("an internal number always has its seat")
    withheld = anonymous.apply(ask)
    if withheld and called.reject_anonymous:
        ask.trace.add("I4", f"seat {called.username} takes no calls without a number")
        return Refusal(Reason.ANONYMOUS_REJECTED, f"seat {called.username} refuses withheld callers", trace=ask.trace)
    identity = Identity(anonymous=True) if withheld else _internal_identity(ask)
    if ask.passes_on is not None and not withheld:
        identity = replace(ask.passes_on.party, network=None, diversion_reason=ask.passes_on.reason)
    ask.trace.add("R2", f"stays inside the account: seat {called.username}")
    return RoutePlan(
        Direction.INTERNAL,
        (Target(TargetKind.SEAT, called.username, called.account, "", identity),),
        dialled.number,
        ask.account.id,
        ask.account.id,
        identity,
        trace=ask.trace,
    )


def _internal_identity(ask: Ask) -> Identity:
    seat = ask.seat
    if seat is not None:
        return Identity(seat.extension or seat.primary_number or seat.username, None, seat.name)
    trunk = ask.trunk
    user = ask.caller.from_user
    e164 = ask.named(user)
    if e164 is not None and isinstance(ask.ours(e164), Own):
        return Identity(e164)
    return Identity(trunk.default_number if trunk is not None else None)


def _external(ask: Ask, dialled: Dialled, pick: float) -> Decision:
    account, trace, trunk = ask.account, ask.trace, ask.trunk
    barred = barring.check(account, dialled.number, trace)
    if barred is not None:
        return barred
    cli = choose(ask)
    if isinstance(cli, Refusal):
        return cli
    own, shown = cli.own, cli.shown
    billed = ask.snapshot.accounts.get(own.row.account)
    if billed is None or billed.status is AccountStatus.SUSPENDED:
        text = f"account {own.row.account}, which has the number and is billed, is suspended"
        trace.add("A1", text)
        return Refusal(Reason.ACCOUNT_SUSPENDED, text, trace=trace)
    why = ask.passes_on.reason if ask.passes_on is not None else "unconditional"
    targets = carrier_targets(ask.snapshot, own, shown, dialled.number, account, ask.now, pick, trace, why)
    if isinstance(targets, Refusal):
        return targets
    claims: tuple[ChannelClaim, ...] = (account_leg(account),)
    if trunk is not None:
        claims = (*trunk_out(trunk), *claims)
    withheld = shown.kind is Kind.ANONYMOUS
    caller = Identity(anonymous=True) if withheld else Identity(shown.number, own.number)
    if own.row.account != account.id:
        trace.add("A2", f"billed to account {own.row.account}, which has the number")
    return RoutePlan(
        Direction.OUTBOUND, targets, dialled.number, account.id, own.row.account, caller, claims, trace=trace
    )
