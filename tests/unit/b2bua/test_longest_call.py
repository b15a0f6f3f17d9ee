"""How long a call may be: the account's limit, the edge's, and emergencies (domain rules 7.4h, 7.4k)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from config.model import Account
from dialplan.model import Direction
from edge.b2bua.call import CallTimers
from edge.b2bua.runner import _call_timers


@pytest.mark.parametrize(
    ("minutes", "direction", "seconds"),
    [
        (None, Direction.OUTBOUND, 14400),
        (30, Direction.OUTBOUND, 1800),
        (30, Direction.INBOUND, 1800),
        (600, Direction.OUTBOUND, 14400),
        (30, Direction.EMERGENCY, 14400),
    ],
)
def test_the_shorter_limit_holds_but_not_for_an_emergency(
    minutes: int | None, direction: Direction, seconds: float
) -> None:
    """The account's limit shortens that of the edge and never lengthens it; an emergency call has the edge's."""
    account = Account("K1", max_call_minutes=minutes)
    engine = SimpleNamespace(
        call_timers=CallTimers(longest=14400.0), snapshot=lambda: SimpleNamespace(accounts={"K1": account})
    )
    plan = SimpleNamespace(account="K1", direction=direction)
    assert _call_timers(cast(Any, engine), cast(Any, plan)).longest == seconds
