"""Table `carrier_states`: how each edge stands with each carrier, for operators and portals."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class CarrierStateRow(NamedTuple):
    """One carrier as one edge sees it. Times are aware UTC datetimes."""

    carrier: str
    state: str
    """registered, registering, retrying, fault, unregistering, stopped; up or down for carriers known by address."""
    detail: str
    """The last failure in words; empty while all is well."""
    sip_status: int | None
    since: datetime
    expires_at: datetime | None
    remote: str
    """Transport and address of the flow, empty where there is none."""
    contact: str
    """Our Contact as the carrier knows it."""
