"""The kill switch: what becomes of the calls of an account when it is suspended (docs/security.md).

New calls are refused by the dial plan, registrations are the registrar's; both read the snapshot. Emergency calls go.
"""

from __future__ import annotations

from config.model import Account, AccountStatus
from config.snapshot import Snapshot
from dialplan.model import Direction
from edge.defence.live import LiveCalls
from edge.observability.logging import get_logger

_log = get_logger("suspension")


class Suspension:
    """Ends calls of accounts that a new snapshot suspends with `end` or `lock`."""

    def __init__(self, calls: LiveCalls) -> None:
        self._calls = calls

    def apply(self, old: Snapshot, new: Snapshot) -> None:
        """A new snapshot holds."""
        if old.accounts is new.accounts:
            return
        ending = {a.id for a in new.accounts.values() if _ends(a) and not _ends(old.accounts.get(a.id))}
        if not ending:
            return
        ended = 0
        for call in self._calls.live():
            plan = call.plan
            if plan.direction is not Direction.EMERGENCY and ending & {plan.account, plan.billed_account}:
                call.end(21, "account-suspended")
                ended += 1
        _log.warning("account.suspended", accounts=sorted(ending), calls=ended)


def _ends(account: Account | None) -> bool:
    return account is not None and account.status is AccountStatus.SUSPENDED and account.suspension in ("end", "lock")
