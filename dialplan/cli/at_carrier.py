"""C7: the identity as one carrier may send it: which network number, and whether the shown number passes there."""

from __future__ import annotations

from datetime import datetime

from config.model import Account, Carrier, NumberRow
from config.snapshot import Snapshot
from dialplan import number
from dialplan.cli.ask import Kind, Own, Shown
from dialplan.ddi import unusable
from dialplan.model import Identity, Trace
from dialplan.numbering import CLI_COUNTRIES, may_be_shown

RULE = "C7"


class Presentation:
    """The identity of one call to `destination` (E.164, or a bare code), asked for carrier by carrier."""

    __slots__ = (
        "_account",
        "_code",
        "_destination",
        "_made",
        "_now",
        "_own",
        "_reason",
        "_shown",
        "_snapshot",
        "_trace",
        "_wanted",
    )

    def __init__(
        self,
        own: Own,
        shown: Shown,
        destination: str,
        account: Account,
        snapshot: Snapshot,
        now: datetime,
        trace: Trace,
        diversion_reason: str,
    ) -> None:
        self._own = own
        self._shown = shown
        self._destination = destination
        self._account = account
        self._snapshot = snapshot
        self._now = now
        self._trace = trace
        self._reason = diversion_reason
        self._wanted = shown.number or own.number
        self._code = number.country_code(self._wanted)
        self._made: dict[tuple[str | None, str], Identity] = {}

    def at(self, carrier: Carrier) -> tuple[Identity, bool] | None:
        """The identity over this carrier, and True if it is the wanted one, False for a stand-in that is only for lack
        of a better carrier; None if the account would rather have no call."""
        own, kind = self._own, self._shown.kind
        home = own.row.carrier == carrier.name
        other = None if home else self._number_there(carrier, own.row)
        network = other or own.number
        if kind is Kind.ANONYMOUS:
            return self._identity(None, network), home or other is not None or carrier.clip_no_screening
        if kind is Kind.OWN:
            if home or self._closed_gate(carrier, False) is None:
                return self._identity(own.number, network), True
            return self._identity(network, network), False
        closed = self._closed_gate(carrier, kind is Kind.DIVERTED)
        if closed is None:
            return self._identity(self._wanted, network), True
        refuses = kind is Kind.EXTERNAL and self._account.clip_fallback == "refuse"
        instead = "it is not used" if refuses else "it would show the own number"
        self._trace.add(RULE, f"carrier {carrier.name} cannot show {self._wanted}: {closed}; {instead}")
        return None if refuses else (self._identity(network, network), False)

    def _identity(self, presented: str | None, network: str) -> Identity:
        key = (presented, network)
        made = self._made.get(key)
        if made is None:
            made = Identity(presented, network, "", presented is None, self._shown.diversion, self._reason)
            self._made[key] = made
        return made

    def _number_there(self, carrier: Carrier, own: NumberRow) -> str | None:
        """A number of the same customer at this carrier, so that the carrier knows whom the call is from."""
        row = self._snapshot.number_at_carrier(own.serving, carrier.name)
        if row is None or row.account != own.account or unusable(row, self._now) is not None:
            return None
        e164 = row.prefix + "0" * row.digits
        return e164 if may_be_shown(e164) else None

    def _closed_gate(self, carrier: Carrier, diverted: bool) -> str | None:
        if not carrier.clip_no_screening:
            return "it takes no numbers of others"
        code = self._code
        if diverted or code == number.calling_code(carrier.home_country):
            return None
        if code in CLI_COUNTRIES and self._destination.startswith(f"+{code}"):
            return None
        return f"+{code} is not the carrier's country, nor is the call into a country of the EU that has this number"
