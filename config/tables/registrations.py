"""Table `registrations`: bindings of seats and trunks, so that they survive a restart and can be looked at.

Each edge owns its rows (`edge`): the flow of a binding ends in the process that accepted it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg


class RegistrationRow(NamedTuple):
    """One binding. Times are aware UTC datetimes; `transport` and the addresses are those of the flow."""

    kind: str
    """`seat` or `trunk`."""
    username: str
    contact: str
    """The Contact value without `expires`."""
    transport: str
    local: str
    """`address:port` of our socket."""
    remote: str
    """`address:port` of the peer."""
    path: str
    """Path values, comma-separated."""
    call_id: str
    cseq: int
    instance: str | None
    reg_id: int | None
    user_agent: str
    registered_at: datetime
    expires_at: datetime
