"""Which destinations an account may call: rule B1 (domain 7-4f)."""

from __future__ import annotations

import pytest

from config.snapshot import Snapshot
from dialplan.model import Reason
from tests.unit.dialplan.world import DE, SEAT_DE, dial, plan, refusal, with_row

HOME_ONLY: None = None


@pytest.mark.parametrize(
    ("allowed", "dialled", "may"),
    [
        (HOME_ONLY, "030123456", True),
        (HOME_ONLY, "0012125550123", False),
        (HOME_ONLY, "+436601234567", False),
        (HOME_ONLY, "09001234567", False),
        (HOME_ONLY, "01371234567", False),
        (HOME_ONLY, "115", True),
        (HOME_ONLY, "116117", True),
        (HOME_ONLY, "11833", False),
        (("+49", "+43"), "+436601234567", True),
        (("+49", "+43"), "+43900123456", False),
        (("+49", "+43"), "09001234567", False),
        (("+49", "+49900"), "09001234567", True),
        (("+499001",), "09001234567", True),
        (("+499002",), "09001234567", False),
        (("+49900",), "030123456", False),
        (("+49", "118"), "11833", True),
        (("+49", "11833"), "11833", True),
        (("+49", "11880"), "11833", False),
        (("+1",), "+12125550123", True),
        (("+1",), "+18765550123", False),
        (("+1", "+1876"), "+18765550123", True),
        (("+8",), "+881600123456", False),
        (("*",), "+881600123456", True),
        (("*",), "09001234567", True),
        (("*",), "11833", True),
        (("+49", "*"), "+12125550123", True),
        ((), "030123456", False),
        ((), "115", True),
    ],
    ids=str,
)
def test_destinations(allowed: tuple[str, ...] | None, dialled: str, may: bool) -> None:
    """The home country by default; premium and abused ranges only where an entry is as narrow as they are, or `*`."""
    decided = dial(dialled, SEAT_DE, Snapshot(with_row("accounts", DE, allowed_destinations=allowed)))
    if may:
        assert plan(decided)
    else:
        refused = refusal(decided)
        assert (refused.reason, refused.trace.steps[-1].rule) == (Reason.DESTINATION_NOT_ALLOWED, "B1")


def test_internal_calls_are_not_barred() -> None:
    """Barring is for calls to outside."""
    assert plan(dial("202", SEAT_DE, Snapshot(with_row("accounts", DE, allowed_destinations=()))))
