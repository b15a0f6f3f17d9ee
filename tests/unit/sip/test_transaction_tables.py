"""RFC 3261 section 17 and RFC 6026, machine by machine: each state with each input, the ignored ones too.

Verified: figures 5 to 8 as RFC 6026 changed them, section 9.1 for the client, 17.2.1 for 100 Trying. Timer lengths are
in test_transaction_timers.py, matching in test_transaction_key.py.
"""

from __future__ import annotations

import pytest

from edge.sip.transaction import client_invite, client_noninvite, server_invite, server_noninvite
from edge.sip.transaction.model import Input as I
from edge.sip.transaction.model import State as S
from edge.sip.transaction.model import Table

from .transaction_bench import TCP, UDP, Bench

Expected = dict[tuple[str, I | int], tuple[S, list[str], list[str]]]
"""(name of the way there, input) -> state, sent, told. What is missing must change, send and tell nothing."""

INPUTS: list[I | int] = [100, 180, 199, 200, 202, 302, 486, 503, 603] + [
    i for i in I if i not in (I.START, I.PROVISIONAL, I.SUCCESS, I.FAILURE)
]


def client_failures(name: str) -> Expected:
    return {(name, s): (S.COMPLETED, ["ACK"], [str(s)]) for s in (302, 486, 503, 603)}


def client_successes(name: str) -> Expected:
    return {(name, s): (S.ACCEPTED, [], [str(s)]) for s in (200, 202)}


def each(name: str, statuses: tuple[int, ...], state: S, sends: bool = False) -> Expected:
    """The same for some statuses: servers send them, clients tell them."""
    return {(name, s): (state, [str(s)] if sends else [], [] if sends else [str(s)]) for s in statuses}


PROVISIONAL = (100, 180, 199)
SUCCESS = (200, 202)
FAILURE = (302, 486, 503, 603)

INVITE_CLIENT_WAYS: dict[str, list[I | int]] = {
    "calling": [],
    "cancel wanted": [I.CANCEL],
    "proceeding": [180],
    "cancelling": [180, I.CANCEL],
    "accepted": [200],
    "completed": [486],
    "terminated": [I.TIMER_B],
}
INVITE_CLIENT: Expected = {
    ("calling", I.TIMER_A): (S.CALLING, ["INVITE"], []),
    ("calling", I.TIMER_B): (S.TERMINATED, [], ["TransactionTimedOut"]),
    ("calling", I.TRANSPORT_ERROR): (S.TERMINATED, [], ["TransportFailed"]),
    ("calling", I.CANCEL): (S.CANCEL_WANTED, [], []),
    **each("calling", PROVISIONAL, S.PROCEEDING),
    **client_successes("calling"),
    **client_failures("calling"),
    ("cancel wanted", I.TIMER_A): (S.CANCEL_WANTED, ["INVITE"], []),
    ("cancel wanted", I.TIMER_B): (S.TERMINATED, [], ["TransactionTimedOut"]),
    ("cancel wanted", I.TRANSPORT_ERROR): (S.TERMINATED, [], ["TransportFailed"]),
    **{("cancel wanted", s): (S.CANCELLING, ["CANCEL"], [str(s)]) for s in PROVISIONAL},
    **client_successes("cancel wanted"),
    **client_failures("cancel wanted"),
    ("proceeding", I.TIMER_C): (S.CANCELLING, ["CANCEL"], []),
    ("proceeding", I.CANCEL): (S.CANCELLING, ["CANCEL"], []),
    ("proceeding", I.TRANSPORT_ERROR): (S.TERMINATED, [], ["TransportFailed"]),
    **each("proceeding", PROVISIONAL, S.PROCEEDING),
    **client_successes("proceeding"),
    **client_failures("proceeding"),
    ("cancelling", I.TIMER_GIVE_UP): (S.TERMINATED, [], ["TransactionTimedOut"]),
    ("cancelling", I.TRANSPORT_ERROR): (S.TERMINATED, [], ["TransportFailed"]),
    **each("cancelling", PROVISIONAL, S.CANCELLING),
    **client_successes("cancelling"),
    **client_failures("cancelling"),
    **each("accepted", SUCCESS, S.ACCEPTED),
    ("accepted", I.TIMER_M): (S.TERMINATED, [], []),
    **{("completed", s): (S.COMPLETED, ["ACK"], []) for s in FAILURE},
    ("completed", I.TIMER_D): (S.TERMINATED, [], []),
    ("completed", I.TRANSPORT_ERROR): (S.TERMINATED, [], []),
}

OTHER_CLIENT_WAYS: dict[str, list[I | int]] = {
    "trying": [],
    "proceeding": [100],
    "completed": [200],
    "terminated": [I.TIMER_F],
}
OTHER_CLIENT: Expected = {
    ("trying", I.TIMER_E): (S.TRYING, ["OPTIONS"], []),
    ("trying", I.TIMER_F): (S.TERMINATED, [], ["TransactionTimedOut"]),
    ("trying", I.TRANSPORT_ERROR): (S.TERMINATED, [], ["TransportFailed"]),
    **each("trying", PROVISIONAL, S.PROCEEDING),
    **each("trying", SUCCESS + FAILURE, S.COMPLETED),
    ("proceeding", I.TIMER_E): (S.PROCEEDING, ["OPTIONS"], []),
    ("proceeding", I.TIMER_F): (S.TERMINATED, [], ["TransactionTimedOut"]),
    ("proceeding", I.TRANSPORT_ERROR): (S.TERMINATED, [], ["TransportFailed"]),
    **each("proceeding", PROVISIONAL, S.PROCEEDING),
    **each("proceeding", SUCCESS + FAILURE, S.COMPLETED),
    ("completed", I.TIMER_K): (S.TERMINATED, [], []),
    ("completed", I.TRANSPORT_ERROR): (S.TERMINATED, [], []),
}

INVITE_SERVER_WAYS: dict[str, list[I | int]] = {
    "proceeding": [],
    "proceeding, 100 sent": [I.TIMER_TRYING],
    "proceeding, 180 sent": [180],
    "ignoring": [I.IGNORE],
    "accepted": [200],
    "completed": [486],
    "confirmed": [486, I.ACK],
    "terminated": [486, I.TIMER_H],
}
INVITE_SERVER: Expected = {
    **{
        row: value
        for name, last in (
            ("proceeding", []),
            ("proceeding, 100 sent", ["100"]),
            ("proceeding, 180 sent", ["180"]),
        )
        for row, value in {
            (name, I.REQUEST): (S.PROCEEDING, last, []),
            (name, I.TIMER_TRYING): (S.PROCEEDING, ["100"], []),
            (name, I.TRANSPORT_ERROR): (S.PROCEEDING, [], ["TransportFailed"]),
            (name, I.IGNORE): (S.IGNORING, [], []),
            **each(name, PROVISIONAL, S.PROCEEDING, sends=True),
            **each(name, SUCCESS, S.ACCEPTED, sends=True),
            **each(name, FAILURE, S.COMPLETED, sends=True),
        }.items()
    },
    ("ignoring", I.TIMER_GIVE_UP): (S.TERMINATED, [], []),
    **each("accepted", SUCCESS, S.ACCEPTED, sends=True),
    ("accepted", I.ACK): (S.ACCEPTED, [], ["ACK"]),
    ("accepted", I.TIMER_L): (S.TERMINATED, [], []),
    ("accepted", I.TRANSPORT_ERROR): (S.ACCEPTED, [], ["TransportFailed"]),
    ("completed", I.REQUEST): (S.COMPLETED, ["486"], []),
    ("completed", I.TIMER_G): (S.COMPLETED, ["486"], []),
    ("completed", I.TIMER_H): (S.TERMINATED, [], ["TransactionTimedOut"]),
    ("completed", I.ACK): (S.CONFIRMED, [], []),
    ("completed", I.TRANSPORT_ERROR): (S.COMPLETED, [], ["TransportFailed"]),
    ("confirmed", I.TIMER_I): (S.TERMINATED, [], []),
}

OTHER_SERVER_WAYS: dict[str, list[I | int]] = {
    "trying": [],
    "proceeding": [100],
    "ignoring": [I.IGNORE],
    "completed": [200],
    "terminated": [I.TIMER_GIVE_UP],
}
OTHER_SERVER: Expected = {
    **each("trying", PROVISIONAL, S.PROCEEDING, sends=True),
    **each("trying", SUCCESS + FAILURE, S.COMPLETED, sends=True),
    ("trying", I.IGNORE): (S.IGNORING, [], []),
    ("trying", I.TIMER_GIVE_UP): (S.TERMINATED, [], []),
    ("proceeding", I.REQUEST): (S.PROCEEDING, ["100"], []),
    ("proceeding", I.TRANSPORT_ERROR): (S.PROCEEDING, [], ["TransportFailed"]),
    ("proceeding", I.TIMER_GIVE_UP): (S.TERMINATED, [], []),
    **each("proceeding", PROVISIONAL, S.PROCEEDING, sends=True),
    **each("proceeding", SUCCESS + FAILURE, S.COMPLETED, sends=True),
    ("ignoring", I.TIMER_GIVE_UP): (S.TERMINATED, [], []),
    ("completed", I.REQUEST): (S.COMPLETED, ["200"], []),
    ("completed", I.TIMER_J): (S.TERMINATED, [], []),
    ("completed", I.TRANSPORT_ERROR): (S.COMPLETED, [], ["TransportFailed"]),
}

MACHINES = [
    ("INVITE", True, INVITE_CLIENT_WAYS, INVITE_CLIENT),
    ("OPTIONS", True, OTHER_CLIENT_WAYS, OTHER_CLIENT),
    ("INVITE", False, INVITE_SERVER_WAYS, INVITE_SERVER),
    ("OPTIONS", False, OTHER_SERVER_WAYS, OTHER_SERVER),
]
PAIRS = [
    pytest.param(method, client, way, what, expected.get((name, what)), id=f"{side} {method}: {name}, {what}")
    for method, client, ways, expected in MACHINES
    for side in ["client" if client else "server"]
    for name, way in ways.items()
    for what in INPUTS
]


@pytest.mark.parametrize(("method", "client", "way", "what", "expected"), PAIRS)
def test_pair(
    method: str, client: bool, way: list[I | int], what: I | int, expected: tuple[S, list[str], list[str]] | None
) -> None:
    """RFC 3261 figures 5 to 8, RFC 6026: the next state, what is sent, what the user is told; else nothing."""
    bench = Bench(method, client)
    for step in way:
        bench.feed(step)
    before = bench.state
    bench.take()
    bench.feed(what)
    sent, events = bench.take()
    assert (bench.state, sent, events) == (expected or (before, [], []))


@pytest.mark.parametrize(("method", "client", "ways", "expected"), MACHINES)
def test_expectations_are_all_used(
    method: str, client: bool, ways: dict[str, list[I | int]], expected: Expected
) -> None:
    """The table of this test names no state that is never reached and no input that is never given."""
    assert {name for name, _ in expected} <= set(ways)
    assert {what for _, what in expected} <= set(INPUTS)
    reached = set()
    for way in ways.values():
        bench = Bench(method, client)
        for step in way:
            bench.feed(step)
        reached.add(bench.state)
    table = _table(method, client)
    assert reached == {state for state, _ in table} | {S.TERMINATED}


@pytest.mark.parametrize("table", [m.TABLE for m in (client_invite, client_noninvite, server_invite, server_noninvite)])
def test_nothing_leaves_terminated(table: Table) -> None:
    """Section 17: a transaction is destroyed the instant it enters Terminated."""
    assert not [pair for pair in table if pair[0] is S.TERMINATED]


@pytest.mark.parametrize("flow", [UDP, TCP], ids=["udp", "tcp"])
@pytest.mark.parametrize(
    ("method", "client"), [("INVITE", True), ("OPTIONS", True), ("INVITE", False), ("OPTIONS", False)]
)
def test_start(method: str, client: bool, flow: object) -> None:
    """17.1.1.2, 17.1.2.2: a client sends its request at once. 17.2.1, 17.2.2: a server hands it to its user."""
    assert isinstance(flow, type(UDP))
    assert Bench(method, client, flow).take() == (([method], []) if client else ([], [method]))


def _table(method: str, client: bool) -> Table:
    if client:
        return client_invite.TABLE if method == "INVITE" else client_noninvite.TABLE
    return server_invite.TABLE if method == "INVITE" else server_noninvite.TABLE
