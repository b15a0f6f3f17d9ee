"""Properties of every decision, over generated calls and provisioning: T3.1 to T3.4, T2.5, domain 2.6."""

from __future__ import annotations

from dataclasses import replace

import phonenumbers
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model import Account, AccountStatus, NumberRow, NumberStatus, Route, RouteKind, Rows, Seat
from config.snapshot import Snapshot
from dialplan.engine import decide, next_route
from dialplan.explain import explain
from dialplan.grammar import Dialled, Grammar, Kind
from dialplan.model import (
    CallAttempt,
    Called,
    Caller,
    Direction,
    Outcome,
    Refusal,
    RoutePlan,
    Source,
    SourceKind,
    Trace,
)
from dialplan.number import flaw
from dialplan.numbering import EMERGENCY, is_short_code
from edge.b2bua.identity_headers import customer_headers, identity_headers
from tests.unit.dialplan.world import ACCOUNTS, BLOCKS, CARRIERS, DE, NOW, NUMBERS, ROWS, SEATS, TRUNKS, UK, WORLD

DIGITS = st.text("0123456789", min_size=1, max_size=16)
NUMBER_LIKE = st.one_of(
    DIGITS,
    st.sampled_from(sorted(n.prefix for n in NUMBERS)),
    st.sampled_from(["110", "112", "999", "anonymous", "", "+499001234567", "201", "+4915112345678", "022838607"]),
    st.builds("{}{}".format, st.sampled_from(["+", "00", "0", "141", "*31#", "23", "14", "141112", "+49"]), DIGITS),
    st.text("0123456789+*#AD.;%a ", max_size=40),
)
CALLERS = st.builds(
    Caller,
    from_user=NUMBER_LIKE,
    display=st.text(max_size=10),
    asserted=st.lists(NUMBER_LIKE, max_size=2).map(tuple),
    preferred=st.lists(NUMBER_LIKE, max_size=1).map(tuple),
    privacy=st.frozensets(st.sampled_from(["id", "user", "header", "none", "critical", "session"]), max_size=2),
    from_anonymous=st.booleans(),
    diversion=st.lists(NUMBER_LIKE, max_size=7).map(tuple),
)
SOURCES = st.sampled_from(
    [Source(SourceKind.CARRIER, c.name) for c in CARRIERS]
    + [Source(SourceKind.SEAT, s.username, s.account) for s in SEATS]
    + [Source(SourceKind.TRUNK, t.name, t.account) for t in TRUNKS]
    + [Source(SourceKind.CARRIER, "gone"), Source(SourceKind.SEAT, "gone", "gone"), Source(SourceKind.TRUNK, "x", DE)]
)
ATTEMPTS = st.builds(
    CallAttempt,
    source=SOURCES,
    called=st.lists(
        st.builds(Called, st.sampled_from(["request-uri", "to", "p-called-party-id"]), NUMBER_LIKE, st.booleans()),
        max_size=3,
    ).map(tuple),
    caller=CALLERS,
    pick=st.floats(0, 1, exclude_max=True),
)
ROUTES = st.one_of(
    st.none(),
    st.builds(
        Route,
        st.sampled_from(list(RouteKind)),
        st.sampled_from(
            ["a.mueller", "j.smith", "hq", "new", "office", "201", "+436601234567", "+4922838650", "404", ""]
        ),
    ),
)


@st.composite
def worlds(draw: st.DrawFn) -> Snapshot:
    """The shared world with accounts, numbers, seats and carriers bent in many ways."""

    def bent(row: NumberRow) -> NumberRow:
        return replace(
            row,
            status=draw(st.sampled_from([NumberStatus.ACTIVE, NumberStatus.ACTIVE, *NumberStatus])),
            carrier=draw(st.sampled_from([row.carrier, row.carrier, "telekom", "gone"])),
            served_account=draw(st.sampled_from([None, None, None, DE, UK, "gone"])),
            cli_prefix=draw(st.sampled_from([row.cli_prefix, None, "23", "14", "00"])),
            route=draw(ROUTES) or row.route,
            on_busy=draw(ROUTES),
            on_unreachable=draw(ROUTES),
        )

    def account(row: Account) -> Account:
        return replace(
            row,
            status=draw(st.sampled_from(list(AccountStatus))),
            country=draw(st.sampled_from(["DE", "GB", "AT", "IT", "US", "XX"])),
            bare_numbers=draw(st.sampled_from(["e164", "local", "reject"])),
            clip_fallback=draw(st.sampled_from(["own", "refuse"])),
            allowed_destinations=draw(st.sampled_from([None, (), ("*",), ("+49",)])),
            emergency_number=draw(st.sampled_from([row.emergency_number, None])),
        )

    def seat(row: Seat) -> Seat:
        return replace(
            row,
            primary_number=draw(st.sampled_from([row.primary_number, None, "+499001234567", "+442088198786"])),
            present=draw(st.sampled_from(["primary", "anonymous", "+4922129191999"])),
            external_numbers=("+4922129191999",),
            reject_anonymous=draw(st.booleans()),
        )

    return Snapshot(
        replace(
            ROWS,
            carriers=tuple(
                replace(c, clip_no_screening=draw(st.booleans()), priority=draw(st.integers(1, 3))) for c in CARRIERS
            ),
            accounts=tuple(account(a) for a in ACCOUNTS),
            numbers=tuple(bent(n) for n in NUMBERS),
            seats=tuple(seat(s) for s in SEATS),
        )
    )


@given(ATTEMPTS, worlds())
@settings(max_examples=200, deadline=None)
def test_decisions_are_total_and_deterministic(attempt: CallAttempt, world: Snapshot) -> None:
    """T3.2: every attempt has an answer, the same one each time, with a trace, and it can be explained."""
    first, second = decide(attempt, world, NOW), decide(attempt, world, NOW)
    assert first == second
    assert explain(first)
    if isinstance(first, RoutePlan):
        assert first.trace.steps
        assert first.targets or first.direction is Direction.EMERGENCY
    else:
        assert first.detail


@given(ATTEMPTS, worlds(), st.lists(st.sampled_from(list(Outcome)), min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_next_routes_end(attempt: CallAttempt, world: Snapshot, outcomes: list[Outcome]) -> None:
    """No route is taken twice and at most four follow the first, whatever fails in whatever order."""
    decided: object = decide(attempt, world, NOW)
    for outcome in outcomes * 3:
        if not isinstance(decided, RoutePlan):
            break
        assert len(set(decided.visited)) == len(decided.visited)
        decided = next_route(decided, outcome, attempt, world, NOW) or decided
    if isinstance(decided, RoutePlan):
        assert len(decided.visited) <= 6  # the first, its stand-in, and four outcomes


@given(ATTEMPTS, worlds())
@settings(max_examples=200, deadline=None)
def test_every_identity_has_a_row_behind_it(attempt: CallAttempt, world: Snapshot) -> None:
    """Issue 3: the network number of a call out is the account's; a stranger's is shown only on diversion."""
    decided = decide(attempt, world, NOW)
    if not isinstance(decided, RoutePlan) or decided.direction is Direction.EMERGENCY:
        return
    for target in decided.targets:
        identity = target.identity
        if target.kind.value != "carrier":
            assert identity.network is None
            continue
        assert identity.network is not None
        row = world.number(identity.network)
        assert row is not None and row.serving == decided.account
        shown = identity.presented
        if shown is not None and world.number(shown) is not row and not identity.diversion:
            other = world.number(shown)
            external = world.external_number(decided.account, shown)
            assert (other is not None and other.serving == decided.account) or external is not None


@given(ATTEMPTS, worlds())
@settings(max_examples=250, deadline=None)
def test_withheld_digits_are_in_no_header(attempt: CallAttempt, world: Snapshot) -> None:
    """T2.5: nothing that a withheld caller sent crosses, nor does its own number to an untrusted carrier."""
    decided = decide(attempt, world, NOW)
    if not isinstance(decided, RoutePlan):
        return
    for target in decided.targets:
        identity = target.identity
        if not identity.anonymous:
            continue
        assert (identity.presented, identity.display) == (None, "")
        if target.kind.value == "carrier":
            untrusted = replace(world.carriers[target.name], trusted=False, username="account")
            found = identity_headers(untrusted, replace(identity, diversion=()), "far.invalid")
        else:
            found = customer_headers(identity, "far.invalid")
        assert not any(c.isdigit() for c in str(found))


@given(ATTEMPTS, worlds(), st.sampled_from(["", "141", "*31#", "#31#"]), st.data())
@settings(max_examples=150, deadline=None)
def test_emergency_is_never_refused(attempt: CallAttempt, world: Snapshot, code: str, data: st.DataObject) -> None:
    """Domain 2.6-25: from every seat and trunk, in every state of the provisioning, to every number of the site."""
    source = attempt.source
    if source.kind is SourceKind.CARRIER or source.name in ("gone", "x"):
        return
    country = world.accounts[source.account].country
    digits = data.draw(st.sampled_from(sorted(EMERGENCY.get(country, {"112"}))))
    decided = decide(replace(attempt, called=(Called("request-uri", code + digits),)), world, NOW)
    assert isinstance(decided, RoutePlan)
    assert decided.direction is Direction.EMERGENCY
    assert {t.name for t in decided.targets} == {c.name for c in CARRIERS}
    for target in decided.targets:
        assert (target.user, target.claims, target.identity.anonymous) == (digits, (), False)
        assert "Privacy" not in dict(
            identity_headers(world.carriers[target.name], target.identity, "x.invalid").headers
        )


@given(ATTEMPTS, worlds())
@settings(max_examples=150, deadline=None)
def test_other_accounts_do_not_matter(attempt: CallAttempt, world: Snapshot) -> None:
    """T3.3: whatever the UK customer has or does, the German customer's decisions stay the same."""
    ours = Snapshot(
        Rows(
            CARRIERS,
            (ACCOUNTS[0],),
            TRUNKS,
            tuple(s for s in SEATS if s.account == DE),
            tuple(n for n in NUMBERS if n.account == DE),
            BLOCKS,
            ROWS.external_numbers,
            ROWS.fax_boxes,
        )
    )
    theirs = tuple(n for n in world._numbers.values() if n.account == UK and n.served_account != DE)
    both = Snapshot(
        Rows(
            CARRIERS,
            (ACCOUNTS[0], world.accounts[UK]),
            TRUNKS,
            (*ours.seats.values(), *(s for s in world.seats.values() if s.account == UK)),
            (*(n for n in NUMBERS if n.account == DE), *theirs),
            BLOCKS,
            ROWS.external_numbers,
            ROWS.fax_boxes,
        )
    )
    if attempt.source.account == DE:
        assert decide(attempt, ours, NOW) == decide(attempt, both, NOW)


def _valid_e164() -> st.SearchStrategy[str]:
    examples = [
        phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        for region in sorted(phonenumbers.SUPPORTED_REGIONS)
        for number in [phonenumbers.example_number(region)]
        if number is not None
    ]

    def tail(e164: str, digits: str) -> str:
        return e164[: -len(digits)] + digits

    return st.builds(tail, st.sampled_from(examples), st.text("0123456789", min_size=1, max_size=4)).filter(
        lambda n: flaw(n) is None
    )


PREFIXED = Snapshot(
    replace(
        ROWS,
        numbers=(
            *(replace(n, cli_prefix=None) for n in NUMBERS),
            *(
                NumberRow(
                    f"+4420794700{p}", 0, UK, "simwood", cli_prefix=str(p), route=Route(RouteKind.SEAT, "j.smith")
                )
                for p in range(10, 100)
            ),
        ),
    )
)


@given(st.integers(10, 99).map(str), _valid_e164())
@settings(max_examples=1000, deadline=None)
def test_prefix_and_number_are_told_apart(prefix: str, e164: str) -> None:
    """T3.1: prefix + number means (prefix, number), but for the listed digits that are caught before E10."""
    dialled = prefix + e164[1:]
    found = Grammar(PREFIXED.accounts[UK], EMERGENCY["GB"], PREFIXED, Trace()).parse(dialled)
    exceptions = dialled.startswith("141") or is_short_code(dialled, "GB") or dialled in EMERGENCY["GB"]
    if exceptions:
        assert not isinstance(found, Dialled) or found.chosen is None or found.anonymous
        return
    assert isinstance(found, Dialled), found
    assert (found.kind, found.number, found.anonymous) == (Kind.EXTERNAL, e164, False)
    assert found.chosen is not None and found.chosen.cli_prefix == prefix


@given(st.text("0123456789*#+ABCD", max_size=40))
@settings(max_examples=250, deadline=None)
def test_grammar_never_turns_an_emergency_number_into_another(digits: str) -> None:
    """Domain 2.6-21: what goes to a carrier is legal E.164, a short code or an emergency number, nothing else."""
    found = Grammar(WORLD.accounts[UK], EMERGENCY["GB"], WORLD, Trace()).parse(digits)
    if isinstance(found, Refusal) or found.kind is Kind.INTERNAL:
        return
    if found.kind is Kind.EXTERNAL:
        assert found.number[0] == "+" and flaw(found.number) is None
    elif found.kind is Kind.EMERGENCY:
        assert found.number in EMERGENCY["GB"] and digits.endswith(found.number)
    else:
        assert is_short_code(found.number, "GB") or found.number in ("116117", "124124")
