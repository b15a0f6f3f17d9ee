"""What would become of a call, in plain words, with the header fields as they would leave. Nothing is called.

A running edge also tells who is registered and which carriers are up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from difflib import get_close_matches

from config.snapshot import Snapshot
from dialplan.engine import decide, next_route
from dialplan.explain import Question, explain, explain_next
from dialplan.model import (
    CallAttempt,
    Called,
    Caller,
    Outcome,
    RoutePlan,
    Source,
    SourceKind,
    Target,
    TargetKind,
)
from edge.b2bua.outgoing import called_number, country_of, to_carrier, to_customer


def answer(
    question: Question,
    snapshot: Snapshot,
    now: datetime,
    domain: str,
    state: Callable[[Target], str] = lambda target: "",
) -> str:
    """The decision step by step. `domain` stands in From and To towards phones and PBXs; `state` says how a target
    stands now, empty where that is not known. Raises ValueError where the source is not provisioned."""
    attempt, who = _attempt(question, snapshot)

    def more(target: Target) -> Sequence[str]:
        standing = state(target)
        return ([f"({standing})"] if standing else []) + list(_headers(target, snapshot, domain))

    decision = decide(attempt, snapshot, now)
    text = f"{who}\n\n{explain(decision, more)}"
    if isinstance(decision, RoutePlan):
        for outcome in Outcome:
            following = next_route(decision, outcome, attempt, snapshot, now)
            if following is not None:
                text += "\n" + explain_next(decision.trace, outcome, following, more)
    return text


def _attempt(question: Question, snapshot: Snapshot) -> tuple[CallAttempt, str]:
    name, to = question.source, question.to
    privacy = frozenset({"id"}) if question.anonymous else frozenset[str]()
    asks = ", without a number" if question.anonymous else f", as {question.caller}" if question.caller else ""
    if question.kind is SourceKind.CARRIER:
        carrier = snapshot.carriers.get(name)
        if carrier is None:
            raise ValueError(_unknown("carrier", name, snapshot.carriers))
        place = carrier.ddi_source[0]
        caller = Caller(question.caller, from_anonymous=question.anonymous, privacy=privacy)
        said = f"Carrier {name} calls {to} (in {place}){asks or ', with no number of a caller'}."
        return CallAttempt(Source(SourceKind.CARRIER, name), (Called(place, to),), caller), said
    called = (Called("request-uri", to),)
    if question.kind is SourceKind.SEAT:
        seat = snapshot.seats.get(name)
        if seat is None:
            raise ValueError(_unknown("seat", name, snapshot.seats))
        source = Source(SourceKind.SEAT, name, seat.account)
        said = f"Seat {name} of account {seat.account} dials {to}{asks}."
        return CallAttempt(source, called, Caller(question.caller or name, privacy=privacy)), said
    account, _, trunk_name = name.partition("/")
    trunk = snapshot.trunks.get((account, trunk_name))
    if trunk is None:
        raise ValueError(_unknown("trunk", name, [f"{a}/{n}" for a, n in snapshot.trunks]))
    source = Source(SourceKind.TRUNK, trunk_name, account)
    said = f"Trunk {trunk_name} of account {account} dials {to}{asks}."
    return CallAttempt(source, called, Caller(question.caller or trunk.username or "", privacy=privacy)), said


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"there is no {what} {name}" + (f"; did you mean {near[0]}?" if near else "")


def _headers(target: Target, snapshot: Snapshot, domain: str) -> tuple[str, ...]:
    if target.kind is TargetKind.CARRIER:
        return to_carrier(snapshot.carriers[target.name], target).lines()
    if target.kind is TargetKind.SEAT:
        return to_customer(target, target.name, domain, "each registered contact").lines()
    if target.kind is TargetKind.TRUNK:
        trunk = snapshot.trunks[target.account, target.name]
        called = called_number(target, trunk, country_of(snapshot, trunk), domain)
        uri = f"sip:{called.in_uri or trunk.username or trunk.name}@the PBX's address"
        return to_customer(target, trunk.username or trunk.name, domain, uri, called).lines()
    return ()
