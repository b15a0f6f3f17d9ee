"""SIP status, Q.850 cause and refusal reason (RFC 3398, RFC 3326, domain rules 5.7 and 5.1.9)."""

from __future__ import annotations

import pytest

from dialplan.model import Reason
from edge.sip.causes import (
    CAUSE_NAMES,
    REFUSALS,
    cause_of_status,
    parse_reason,
    reason_header,
    status_of_cause,
)
from edge.sip.status import REASONS


def test_every_refusal_has_an_answer() -> None:
    """Principle 6: each reason of the dial plan has a SIP status and a cause that exist, and nothing else is listed."""
    assert set(REFUSALS) == {reason.value for reason in Reason}
    for status, q850 in REFUSALS.values():
        assert 400 <= status < 600 and status in REASONS
        assert q850 in CAUSE_NAMES


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.NUMBER_LIMIT, (486, 17)),
        (Reason.ACCOUNT_LIMIT, (486, 17)),
        (Reason.CARRIER_LIMIT, (503, 34)),
        (Reason.NUMBER_PENDING, (404, 1)),
        (Reason.NUMBER_OF_OTHER_CARRIER, (404, 1)),
        (Reason.TRUNK_PLANNED, (403, 21)),
        (Reason.ANONYMOUS_REJECTED, (433, 24)),
        (Reason.ADDRESS_INCOMPLETE, (484, 28)),
        (Reason.CLI_NOT_AVAILABLE, (403, 21)),
    ],
)
def test_answers_that_rules_name(reason: Reason, expected: tuple[int, int]) -> None:
    """Domain rules 5.1.9, N2, T1.12, B10, 2.5, 3.2.16, T3.5."""
    assert REFUSALS[reason.value] == expected


@pytest.mark.parametrize(
    ("q850", "status"),
    [
        (1, 404),
        (17, 486),
        (18, 408),
        (19, 480),
        (20, 480),
        (21, 603),
        (27, 502),
        (28, 484),
        (31, 480),
        (34, 503),
        (38, 503),
        (41, 503),
        (42, 503),
        (65, 488),
        (102, 504),
        (127, 500),
        (99, 500),
        (16, 480),
    ],
)
def test_status_of_cause(q850: int, status: int) -> None:
    """RFC 3398 7.2.4.1 and domain rule 5.7."""
    assert status_of_cause(q850) == status


@pytest.mark.parametrize(
    ("status", "q850"),
    [
        (404, 1),
        (486, 17),
        (600, 17),
        (480, 18),
        (403, 21),
        (603, 21),
        (484, 28),
        (483, 25),
        (408, 102),
        (500, 41),
        (503, 41),
        (502, 38),
        (410, 22),
        (488, 65),
        (433, 24),
        (200, 16),
        (487, 16),
        (499, 31),
    ],
)
def test_cause_of_status(status: int, q850: int) -> None:
    """RFC 3398 8.2.6.1; RFC 5079 for 433; 16 for calls that ended well or were given up."""
    assert cause_of_status(status) == q850


def test_reason_header() -> None:
    """RFC 3326: protocol, cause, quoted text."""
    assert reason_header(17) == 'Q.850;cause=17;text="User busy"'
    assert reason_header(34, 'no "line"') == 'Q.850;cause=34;text="no \\"line\\""'
    assert reason_header(126) == "Q.850;cause=126"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Q.850;cause=17;text="User busy"', 17),
        ('q.850 ; CAUSE = 16 ;text="a,b;cause=3"', 16),
        ('SIP;cause=200;text="Call completed elsewhere"', None),
        ("SIP ;cause=600, Q.850;cause=31", 31),
        ("Q.850;cause=x", None),
        ("Q.850;cause=128", None),
        ("Q.850;cause=-1", None),
        ("Q.850;cause=" + "9" * 5000, None),
        ("Q.850", None),
        ("", None),
        (None, None),
    ],
)
def test_parse_reason(header: str | None, expected: int | None) -> None:
    """RFC 3326: the Q.850 value of a list; what cannot be read is no cause."""
    assert parse_reason(header) == expected
