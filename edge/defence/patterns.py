"""Patterns of fraud in what is recorded of calls (domain rule 7.3). Pure.

Every finished and every refused call is looked at once, after it is over: nothing here is on a call's path.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from config.model import Account
from dialplan import number
from dialplan.numbering import is_premium
from edge.cdr.record import CallRecord, Record, RefusedCall
from edge.defence.alarms import Alarm

SHORT = 60.0
"""Seconds of talk up to which a call to a dear range is a short one."""
ONE_RING = 5.0
"""Seconds up to which a call that its caller gives up is a one-ring call."""
NIGHT = range(6, 22)
"""Hours of a working day that are no night."""
_RANGE = 7
"""Characters of a number that name its range: + and six digits."""
_PROBES = frozenset(("unknown-number", "address-incomplete", "unknown-code", "destination-not-allowed"))
_KEYS = 20_000

_USER = re.compile(r"sips?:(\+?[0-9]+)@")
Seen = deque[tuple[float, str]]


class Patterns:
    """Looks for patterns over the last minutes. `accounts` gives a customer by its id."""

    def __init__(self, accounts: Callable[[str], Account | None]) -> None:
        self._accounts = accounts
        self._seen: OrderedDict[tuple[str, str], Seen] = OrderedDict()

    def see(self, record: Record, now: float) -> list[Alarm]:
        """The alarms that this record brings."""
        if isinstance(record, RefusedCall):
            return self._refused(record, now)
        account = self._accounts(record.account) if record.account is not None else None
        if account is None or record.emergency:
            return []
        if record.direction == "outbound":
            return self._outbound(record, account, now)
        if record.direction == "inbound":
            return self._inbound(record, account, now)
        return []

    def _outbound(self, record: CallRecord, account: Account, now: float) -> list[Alarm]:
        called = record.called or ""
        found = []
        if _dear(called, account):
            if _talk(record) < SHORT and self._many(
                "range", f"{account.id} {called[:_RANGE]}", record.id, now, 600, 10
            ):
                found.append(
                    Alarm("expensive-range", account.id, called[:_RANGE], "10 short calls to one range in 10 minutes")
                )
            if _is_night(record.started_at, account) and self._many("night", account.id, record.id, now, 3600, 20):
                found.append(Alarm("night-surge", account.id, account.id, "20 calls abroad within an hour at night"))
        return found

    def _inbound(self, record: CallRecord, account: Account, now: float) -> list[Alarm]:
        called, caller = record.called or "", record.caller or ""
        if record.target_kind == "carrier":
            if _left_abroad(record, account) and self._many(
                "forward", record.number or called, record.id, now, 600, 10
            ):
                subject = record.number or called
                return [Alarm("forward-fraud", account.id, subject, "10 calls forwarded abroad within 10 minutes")]
            return []
        if (
            record.outcome == "cancelled"
            and record.ringing_at is not None
            and (record.ended_at - record.ringing_at).total_seconds() < ONE_RING
            and _dear(caller, account)
            and self._many("wangiri", caller[:_RANGE], called, now, 600, 10)
        ):
            return [Alarm("wangiri", None, caller[:_RANGE], "one-ring calls from this range to 10 of our numbers")]
        return []

    def _refused(self, record: RefusedCall, now: float) -> list[Alarm]:
        if record.reason not in _PROBES or record.carrier is not None or not record.number:
            return []
        who = record.account or record.source_ip or ""
        if self._many("probing", who, record.number, now, 60, 8):
            return [Alarm("probing", record.account, record.source_ip or who, "8 numbers tried in vain in a minute")]
        return []

    def _many(self, kind: str, key: str, what: str, now: float, window: float, count: int) -> bool:
        """Whether `count` different things were seen within `window` seconds; then counting begins anew."""
        place = (kind, key)
        seen = self._seen.pop(place, None)
        if seen is None:
            seen = deque(maxlen=100)
            if len(self._seen) >= _KEYS:
                self._seen.popitem(last=False)
        self._seen[place] = seen
        while seen and now - seen[0][0] > window:
            seen.popleft()
        seen.append((now, what))
        if len({what for _, what in seen}) < count:
            return False
        del self._seen[place]
        return True


def _dear(e164: str, account: Account) -> bool:
    if not e164.startswith("+"):
        return False
    return is_premium(e164) or not e164.startswith("+" + number.calling_code(account.country))


def _left_abroad(record: CallRecord, account: Account) -> bool:
    """Whether a call that left us again went to another country or a dear range, by the URI that was sent."""
    sent = next((a.sent[0] for a in reversed(record.attempts) if a.kind == "carrier" and a.sent), "")
    found = _USER.search(sent)
    if found is None:
        return False
    user, home = found[1], number.calling_code(account.country)
    if user.startswith("00"):
        user = user[2:]
    elif user.startswith("0"):
        user = home + user[1:]
    return _dear("+" + user.lstrip("+"), account)


def _talk(record: CallRecord) -> float:
    return (record.ended_at - record.answered_at).total_seconds() if record.answered_at is not None else 0.0


def _is_night(at: datetime, account: Account) -> bool:
    return is_night(at, account.time_zone)


def is_night(at: datetime, time_zone: str) -> bool:
    """Before 6, from 22 on, and all of Saturday and Sunday, where the customer is."""
    local = at.astimezone(ZoneInfo(time_zone))
    return local.hour not in NIGHT or local.weekday() >= 5
