"""The dialling truth table, a row per line for a reader to check.

Account UK, bare numbers are E.164, prefixes 23 -> +442088198786 and 14 -> +442070000014, extensions 201 and 231, the
seat's own number +442079460001, the site's number +442079460000.
"""

from __future__ import annotations

import pytest

from dialplan.model import Direction, Reason, Refusal, TargetKind
from tests.unit.dialplan.world import SEAT_UK, UK_14, UK_23, UK_DEFAULT, dial, plan, refusal

OWN, SITE = UK_DEFAULT, "+442079460000"

# dialled                called            network number  withheld
CALLS = [
    ("23442036427900",   "+442036427900",  UK_23,  False),
    ("442036427900",     "+442036427900",  OWN,    False),
    ("141442036427900",  "+442036427900",  OWN,    True),
    ("14123442036427900", "+442036427900", UK_23,  True),
    ("14442036427900",   "+442036427900",  UK_14,  False),
    ("+14155550123",     "+14155550123",   OWN,    False),
    ("0014155550123",    "+14155550123",   OWN,    False),
    ("2314155550123",    "+14155550123",   UK_23,  False),
    ("00442036427900",   "+442036427900",  OWN,    False),
    ("02036427900",      "+442036427900",  OWN,    False),
    ("2300442036427900", "+442036427900",  UK_23,  False),
    ("2302036427900",    "+442036427900",  UK_23,  False),
    ("*31#02079460000",  "+442079460000",  OWN,    True),
    ("#31#02079460000",  "+442079460000",  OWN,    True),
    ("*31#+442079460000", "+442079460000", OWN,    True),
    ("+2348021234567",   "+2348021234567", OWN,    False),
    ("2342212345678",    "+2342212345678", OWN,    False),  # +422 is no country: not prefix 23
]  # fmt: skip

# dialled           refused as                  the rule that refuses
REFUSED = [
    ("1412125550123",  Reason.ADDRESS_INCOMPLETE, "E12"),
    ("14155550123",    Reason.ADDRESS_INCOMPLETE, "E12"),
    ("141",            Reason.ADDRESS_INCOMPLETE, "E8"),
    ("*31#",           Reason.ADDRESS_INCOMPLETE, "E5"),
    ("23201",          Reason.ADDRESS_INCOMPLETE, "E12"),
    ("23",             Reason.ADDRESS_INCOMPLETE, "E12"),
    ("2320",           Reason.ADDRESS_INCOMPLETE, "E12"),
    ("23" + "4" * 16,  Reason.ADDRESS_INCOMPLETE, "E12"),
    ("23+442036427900", Reason.ADDRESS_INCOMPLETE, "E12"),
    ("141+442036427900", Reason.ADDRESS_INCOMPLETE, "E8"),
    ("44203+6427900",  Reason.ADDRESS_INCOMPLETE, "E12"),
    ("",               Reason.ADDRESS_INCOMPLETE, "E0"),
    ("4" * 33,         Reason.ADDRESS_INCOMPLETE, "E0"),
    ("020/3642",       Reason.ADDRESS_INCOMPLETE, "E0"),
    ("nobody",         Reason.UNKNOWN_NUMBER,     "E0"),
    ("a.mueller",      Reason.UNKNOWN_NUMBER,     "E0"),
    ("*99",            Reason.UNKNOWN_CODE,       "E5"),
    ("*67442036427900", Reason.UNKNOWN_CODE,      "E5"),
    ("141141442036427900", Reason.UNKNOWN_CODE,   "E8"),
    ("141*31#02036427900", Reason.UNKNOWN_CODE,   "E5"),
    ("+999123456789",  Reason.UNKNOWN_NUMBER,     "E6"),
    ("+",              Reason.ADDRESS_INCOMPLETE, "E6"),
    ("00",             Reason.ADDRESS_INCOMPLETE, "E7"),
    ("0",              Reason.ADDRESS_INCOMPLETE, "E11"),
]  # fmt: skip

EMERGENCY = [
    ("999", "999"), ("112", "112"), ("18000", "18000"),
    ("23999", "999"), ("23112", "112"), ("141999", "999"), ("141112", "112"),
    ("14112", "112"),         # prefix 14 is assigned: E3
    ("14123999", "999"),      # 141, then prefix 23
    ("*31#999", "999"),
    ("+44999", "999"), ("0044112", "112"),
]  # fmt: skip

INTERNAL = [("231", "a.jones"), ("141231", "a.jones"), ("a.jones", "a.jones"), ("*31#231", "a.jones")]

SHORT = [("101", "101"), ("111", "111"), ("116123", "116123"), ("118500", "118500"), ("141101", "101")]


@pytest.mark.parametrize(("dialled", "called", "network", "withheld"), CALLS, ids=[c[0] for c in CALLS])
def test_calls(dialled: str, called: str, network: str, withheld: bool) -> None:
    """Domain 3.4: what was dialled, whom it reaches, and the number that stands behind the call."""
    decided = plan(dial(dialled))
    identity = decided.targets[0].identity
    assert (decided.called, identity.network, identity.anonymous) == (called, network, withheld)
    assert identity.presented == (None if withheld else network)
    assert decided.direction is Direction.OUTBOUND


@pytest.mark.parametrize(("dialled", "reason", "rule"), REFUSED, ids=[r[0][:20] or "empty" for r in REFUSED])
def test_refused(dialled: str, reason: Reason, rule: str) -> None:
    """Domain 3.4: what means nothing is refused, with the rule that says so."""
    decided = refusal(dial(dialled))
    assert (decided.reason, decided.trace.steps[-1].rule) == (reason, rule)


@pytest.mark.parametrize(("dialled", "bare"), EMERGENCY, ids=[e[0] for e in EMERGENCY])
def test_emergency(dialled: str, bare: str) -> None:
    """Domain 3.4, T2.6, T2.9: they leave bare, with the site's number, never withheld, whatever stood before."""
    decided = plan(dial(dialled))
    assert decided.direction is Direction.EMERGENCY
    assert decided.targets
    for target in decided.targets:
        assert target.user == bare
        assert (target.identity.presented, target.identity.network, target.identity.anonymous) == (SITE, SITE, False)
        assert target.claims == ()
    assert decided.claims == ()


@pytest.mark.parametrize(("dialled", "seat"), INTERNAL)
def test_internal(dialled: str, seat: str) -> None:
    """E4: an exact extension wins over the prefix 23 with 1 behind it, and stays inside, uncounted."""
    decided = plan(dial(dialled))
    assert decided.direction is Direction.INTERNAL
    assert [(t.kind, t.name) for t in decided.targets] == [(TargetKind.SEAT, seat)]
    assert decided.claims == decided.targets[0].claims == ()
    withheld = dialled[0] in "1*"
    assert decided.targets[0].identity.presented == (None if withheld else "201")
    assert decided.targets[0].identity.display == ("" if withheld else "John Smith")


@pytest.mark.parametrize(("dialled", "bare"), SHORT)
def test_short_codes(dialled: str, bare: str) -> None:
    """E9: national short codes leave bare."""
    decided = plan(dial(dialled))
    assert (decided.called, decided.targets[0].user) == (bare, bare)


def test_14112_without_prefix_14() -> None:
    """Domain 3.4: without the prefix 14, 14112 is 141 before 12, which is no number."""
    decided = dial("14112", "a.mueller")
    assert isinstance(decided, Refusal)
    assert decided.reason is Reason.ADDRESS_INCOMPLETE


def test_two_codes_and_prefix_fit_22_digits_not_23() -> None:
    """T3.6: 141, a prefix, 00 and 15 digits are 22 and pass the length; a 23rd does not."""
    longest = "14123" + "00" + "494444444444444"[:14]
    assert plan(dial(longest)).called == "+" + longest[7:]
    assert refusal(dial("14123" + "00" + "4" * 16)).reason is Reason.ADDRESS_INCOMPLETE


def test_seat_is_not_confused_with_caller() -> None:
    """A seat may dial itself: the call is internal, the engine decides about busy."""
    assert plan(dial("201")).targets[0].name == SEAT_UK
