"""What the CLI rules are asked, and what they answer. A rule is a function `apply(ask) -> answer | Refusal | None`;
None means "not mine", and the next rule is asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from config.model import Account, NumberRow, Seat, Trunk
from config.snapshot import Snapshot
from dialplan import number
from dialplan.ddi import unusable
from dialplan.model import Caller, PassedOn, Reason, Refusal, Trace
from dialplan.numbering import may_be_shown


class Kind(StrEnum):
    """Whose number is presented."""

    OWN = "own"
    EXTERNAL = "external"
    DIVERTED = "diverted"
    ANONYMOUS = "anonymous"


class Own(NamedTuple):
    """The number that we answer for on this call, and its row."""

    number: str
    row: NumberRow


class Shown(NamedTuple):
    """What shall be presented beside it."""

    kind: Kind
    number: str | None = None
    diversion: tuple[str, ...] = ()


@dataclass(slots=True)
class Ask:
    """One outbound call whose identity is sought. Exactly one of `seat` and `trunk` is set."""

    account: Account
    seat: Seat | None
    trunk: Trunk | None
    caller: Caller
    chosen: NumberRow | None
    shows_number: bool
    """Suppression is not possible on this call."""
    snapshot: Snapshot
    now: datetime
    trace: Trace
    anonymous: bool = False
    """Asked for by a dialled code; after the anonymity rule: whether the number is withheld."""
    own: Own | None = None
    """Known once the number rules have spoken."""
    passes_on: PassedOn | None = None
    """For whom the call is made, where it is not for the source itself."""

    def say(self, rule: str, text: str, e164: str = "") -> None:
        """A step of the trace; `{}` in the text is `e164`, unless the number is withheld."""
        self.trace.add(rule, text.replace("{}", "the number" if self.anonymous else e164) if e164 else text)

    def refuse(self, rule: str, reason: Reason, text: str, e164: str = "") -> Refusal:
        """A refusal with its step; privacy as in `say`."""
        shown = text.replace("{}", "the number" if self.anonymous else e164) if e164 else text
        self.trace.add(rule, shown)
        return Refusal(reason, shown, trace=self.trace)

    def ours(self, e164: str) -> Own | str:
        """`e164` as a number that this account may use now, or why it may not."""
        row = self.snapshot.number(e164)
        if row is None or row.serving != self.account.id:
            return "is not a number of this account"
        problem = unusable(row, self.now)
        if problem is not None:
            return problem[1]
        if not may_be_shown(e164):
            return "is of a class that may never be shown as a caller"
        return Own(e164, row)

    def named(self, user: str) -> str | None:
        """The E.164 number that a header of the caller names, None where it names none."""
        return number.caller_number(number.clean(user, True), self.account.country)
