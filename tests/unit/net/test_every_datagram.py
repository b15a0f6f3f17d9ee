"""Each datagram of each flow lost, doubled, late and out of order: both sides end right, and nothing is left behind.

RFC 3261 sections 9, 13, 14, 15 and 17, RFC 3262, RFC 3311 and RFC 4028 through endpoints, legs and reducer.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from .parties import Script, Setting

FLOWS = {
    "call": Script(),
    "call-hung-up-by-the-called": Script(bye="called"),
    "call-hung-up-by-both": Script(bye="both"),
    "call-answered-at-once": Script(answer_after=0.0),
    "cancel": Script(answer_after=20.0, cancel_after=3.0),
    "cancel-crosses-answer": Script(answer_after=2.0, cancel_after=2.01),
    "cancel-at-once": Script(answer_after=20.0, cancel_after=0.0),
    "refused": Script(answer=486),
    "refused-at-once": Script(answer=603, answer_after=0.0),
    "early-media": Script(early=True),
    "late-offer": Script(late_offer=True),
    "reliable": Script(early=True, reliable=True),
    "reliable-cancel": Script(early=True, reliable=True, answer_after=20.0, cancel_after=3.0),
    "reliable-answered-at-once": Script(early=True, reliable=True, answer_after=0.31),
    "hold": Script(change="caller"),
    "hold-by-the-called": Script(change="called", bye="called"),
    "update": Script(change="caller", update=True),
    "update-by-the-called": Script(change="called", update=True),
    "changes-cross": Script(change="both"),
    "refer": Script(refer=True),
}
LATE = 0.7
"""Seconds: after the first retransmission, and after whatever was sent next."""


def lost(number: int) -> Callable[[int], list[float]]:
    return lambda n: [] if n == number else [0.01]


def doubled(number: int) -> Callable[[int], list[float]]:
    return lambda n: [0.01, 0.012] if n == number else [0.01]


def again_much_later(number: int) -> Callable[[int], list[float]]:
    return lambda n: [0.01, 4.5] if n == number else [0.01]


def late(number: int) -> Callable[[int], list[float]]:
    return lambda n: [LATE] if n == number else [0.01]


def swapped(number: int) -> Callable[[int], list[float]]:
    return lambda n: [0.025] if n == number else [0.01]


FAULTS = (lost, doubled, again_much_later, late, swapped)
RACES = {"call-hung-up-by-both", "changes-cross", "cancel-crosses-answer", "cancel-at-once"}
"""Flows whose outcome is decided by who comes first."""


@pytest.mark.parametrize("flow", FLOWS)
def test_flow_without_faults(flow: str) -> None:
    """What the others are compared with: no message more than needed."""
    setting = Setting(FLOWS[flow]).run()
    setting.assert_at_rest()
    script = FLOWS[flow]
    if flow not in RACES:
        expected = 487 if script.cancel_after is not None else script.answer
        assert setting.a.statuses == [expected] == setting.b.statuses
    if script.change and flow not in RACES:
        assert sorted(setting.a.modified + setting.b.modified) == ["agreed", "heard"]
    fragments = [body.split()[1] for body in setting.a.notified]
    assert fragments == ([b"100", b"486"] if script.refer else [])
    methods = {s.line.split()[0] for s in setting.network.log}
    assert ("UPDATE" in methods) == script.update and ("PRACK" in methods) == script.early
    sent = [s.data for s in setting.network.log]
    assert len(sent) == len(set(sent)), "something was sent twice for no reason"


@pytest.mark.parametrize("flow", FLOWS)
def test_one_fault_changes_nothing(flow: str) -> None:
    """Whichever datagram is lost, doubled, late or overtaken: the same outcome on all sides, nothing left."""
    script = FLOWS[flow]
    clean = Setting(script).run()
    for fault in FAULTS:
        for number in range(len(clean.network.log)):
            setting = Setting(script)
            setting.network.fate = fault(number)
            setting.run()
            try:
                setting.assert_at_rest()
                if flow not in RACES:
                    assert setting.outcome() == clean.outcome()
                    assert sorted(setting.a.modified) == sorted(clean.a.modified)
                    assert sorted(setting.b.modified) == sorted(clean.b.modified)
            except AssertionError as error:
                log = "\n".join(map(str, setting.network.log))
                raise AssertionError(f"{fault.__name__} {clean.network.log[number]!r}: {error}\n{log}") from error


@pytest.mark.parametrize("gone", ["A", "B", "E"])
@pytest.mark.parametrize("flow", FLOWS)
def test_party_that_vanishes(flow: str, gone: str) -> None:
    """From any datagram on a party is never heard again: the others find out, and nothing is left with them."""
    script = Script(**{**vars(FLOWS[flow]), "session_expires": 1800})
    clean = Setting(script).run()
    for number in range(len(clean.network.log)):
        setting = Setting(script)
        silent(setting, gone, number)
        setting.run(2500)
        if gone != "E":
            # the session timer finds it out, long before the longest call would end
            assert all(len(call.finished) == 1 for call in setting.edge.calls), f"from {number}: the call goes on"
        for port in setting.ports:
            assert len(port.host.endpoint) == 0, f"from {number}: {port.host.name} has transactions left"
            if port.host.name != gone:
                assert not port.timers, f"from {number}: {port.host.name} has timers left"


def silent(setting: Setting, gone: str, number: int) -> None:
    """What `gone` sends, and what is sent to it, is lost from datagram `number` on."""
    network = setting.network
    for source in network.hosts.values():
        for target in network.hosts.values():
            if gone in (source.name, target.name):
                network.link(source, target).lose = lambda line, n: len(network.log) >= number


@pytest.mark.parametrize("flow", FLOWS)
def test_bad_network(flow: str) -> None:
    """A fifth of all datagrams lost, a tenth doubled, all late by chance: nothing is left, whatever comes of it."""
    for seed in range(25):
        draw = random.Random(f"{flow} {seed}")

        def fate(number: int, draw: random.Random = draw) -> list[float]:
            if draw.random() < 0.2:
                return []
            arrivals = [draw.choice((0.01, 0.02, 0.05, 0.3, 1.2))]
            return [*arrivals, draw.random() * 4] if draw.random() < 0.1 else arrivals

        setting = Setting(Script(**{**vars(FLOWS[flow]), "session_expires": 1800}))
        setting.network.fate = fate
        setting.run(5 * 3600)
        try:
            setting.assert_at_rest()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
