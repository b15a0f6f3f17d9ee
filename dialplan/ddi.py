"""Which of our numbers a carrier calls: the place, the format, the owner (rules D1 to D5)."""

from __future__ import annotations

from datetime import datetime

from config.model import Carrier, NumberRow, NumberStatus
from config.snapshot import Snapshot
from dialplan import number
from dialplan.model import Called, Reason, Refusal, Trace


def find(
    called: tuple[Called, ...], carrier: Carrier, snapshot: Snapshot, now: datetime, trace: Trace
) -> tuple[NumberRow, str] | Refusal:
    """The row and the E.164 number that the carrier means.

    The places are read in the order of the carrier's `ddi_source`; the first that names a number of this carrier
    counts. A number that came in over another carrier than its own is never routed, even where a header names it.
    """
    foreign: str | None = None
    free: str | None = None
    seen: str | None = None
    for place in carrier.ddi_source:
        for value in called:
            if value.place != place:
                continue
            user = number.clean(value.user, value.is_phone)
            seen = seen or user
            for e164 in number.readings(user, carrier.home_country):
                row = snapshot.number(e164)
                if row is not None:
                    if row.carrier == carrier.name:
                        trace.add("D1", f"{place} names {e164}, a number at carrier {carrier.name}")
                        return _usable(row, e164, now, trace)
                    foreign = foreign or e164
                elif snapshot.block(e164) is not None:
                    free = free or e164
    if foreign is not None:
        trace.add("D2", f"{foreign} is a number at another carrier than {carrier.name}")
        return Refusal(
            Reason.NUMBER_OF_OTHER_CARRIER,
            f"{foreign} came in over carrier {carrier.name}, which does not have it",
            trace=trace,
            number=foreign,
        )
    if free is not None:
        trace.add("D3", f"{free} lies in a block, but in a part that is not assigned")
        return Refusal(Reason.UNKNOWN_NUMBER, f"{free} is in a free part of its block", trace=trace, number=free)
    places = ", ".join(carrier.ddi_source)
    trace.add("D3", f"none of {places} names a number of ours ({seen or 'nothing was called'})")
    return Refusal(Reason.UNKNOWN_NUMBER, f"{seen or 'nothing'} is not a number at carrier {carrier.name}", trace=trace)


def _usable(row: NumberRow, e164: str, now: datetime, trace: Trace) -> tuple[NumberRow, str] | Refusal:
    problem = unusable(row, now)
    if problem is None:
        return row, e164
    reason, text = problem
    trace.add("D4" if reason is not Reason.NUMBER_NOT_YET_VALID else "D5", f"{e164} {text}")
    return Refusal(reason, f"{e164} {text}", trace=trace, account=row.serving, number=e164)


def unusable(row: NumberRow, now: datetime) -> tuple[Reason, str] | None:
    """Why a number may neither be called nor shown now; None if it may."""
    if row.status is not NumberStatus.ACTIVE:
        if row.status is NumberStatus.PENDING:
            return Reason.NUMBER_PENDING, "is pending: its review is not finished"
        return Reason.NUMBER_CANCELLED, "is cancelled"
    if row.valid_from is not None and now < row.valid_from:
        return Reason.NUMBER_NOT_YET_VALID, f"holds only from {row.valid_from:%Y-%m-%d %H:%M} UTC"
    return None
