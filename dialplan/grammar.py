"""What the dialled digits mean: rules E0 to E12, evaluated top to bottom, first hit wins (docs/dialplan.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from config.model import Account, NumberRow, Seat
from config.snapshot import Snapshot
from dialplan import number
from dialplan.model import Reason, Refusal, Trace
from dialplan.numbering import NEVER_WITHHELD, is_short_code

_MAX_DIALLED = 32
_DIALLABLE = re.compile(r"[0-9*#+A-D]+").fullmatch
_WITHHOLD_CODES = ("*31#", "#31#")


class Kind(StrEnum):
    """What was dialled."""

    EMERGENCY = "emergency"
    INTERNAL = "internal"
    SHORT = "short"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class Dialled:
    """The meaning of dialled digits."""

    kind: Kind
    number: str
    """E.164 with + (external), the bare code (emergency, short) or what was dialled (internal)."""
    seat: Seat | None = None
    """The seat that an internal number reaches."""
    anonymous: bool = False
    """141 or *31# stood before it, and this destination may be called without a number."""
    chosen: NumberRow | None = None
    """The number that a two-digit prefix chose as CLI."""
    shows_number: bool = False
    """Suppression is not possible towards this destination, whoever asks (domain rule 2.6-18)."""


class Grammar:
    """The dialling habits of one account: its extensions, prefixes and country, and its site's emergency numbers.

    `parse` is total: it returns what the digits mean or why they mean nothing.
    """

    __slots__ = ("_account", "_country", "_emergency", "_snapshot", "_trace")

    def __init__(self, account: Account, emergency: frozenset[str], snapshot: Snapshot, trace: Trace) -> None:
        self._account = account
        self._country = account.country
        self._emergency = emergency
        self._snapshot = snapshot
        self._trace = trace

    def parse(self, dialled: str) -> Dialled | Refusal:
        """The meaning of a user part, already percent-decoded and without parameters."""
        if not dialled:
            return self._incomplete("E0", "nothing was dialled")
        if not _DIALLABLE(dialled):
            return self._name(dialled)
        if len(dialled) > _MAX_DIALLED:
            return self._incomplete("E0", f"more than {_MAX_DIALLED} characters were dialled")
        emergency = self._emergency_number(dialled)
        if emergency is not None:
            self._trace.add("E1", f"{dialled} is an emergency number here")
            return _emergency(emergency)
        if dialled.startswith("141"):
            rest = dialled[3:]
            if rest in self._emergency:
                self._trace.add("E2", f"141 before the emergency number {rest}: the number is shown all the same")
                return _emergency(rest)
            if rest in NEVER_WITHHELD:
                self._trace.add("E2", f"141 before {rest}: the number is shown all the same")
                return Dialled(Kind.SHORT, rest, shows_number=True)
        return self._from_e3(dialled, anonymous=False)

    def _from_e3(self, digits: str, anonymous: bool) -> Dialled | Refusal:
        trace, snapshot, account = self._trace, self._snapshot, self._account.id
        chosen = snapshot.number_by_cli_prefix(account, digits[:2])
        seat = snapshot.seat_by_extension(account, digits)
        if chosen is not None and seat is None and digits[2:] in self._emergency:
            trace.add("E3", f"CLI prefix {digits[:2]} before the emergency number {digits[2:]}: an emergency call")
            return _emergency(digits[2:])
        if seat is not None:
            trace.add("E4", f"{digits} is the extension of {seat.username}")
            return Dialled(Kind.INTERNAL, digits, seat, anonymous)
        first = digits[0]
        if first in "*#":
            return self._code(digits, anonymous)
        if first == "+" or digits.startswith("00"):
            return self._destination(digits, anonymous, None)
        if digits.startswith("141"):
            return self._withheld("E8", "141", digits[3:], anonymous)
        if is_short_code(digits, self._country):
            trace.add("E9", f"{digits} is a national short code")
            shows = digits in NEVER_WITHHELD
            return Dialled(Kind.SHORT, digits, anonymous=anonymous and not shows, shows_number=shows)
        if chosen is not None:
            found = self._chosen(digits, chosen, anonymous)
            if found is not None:
                return found
        return self._destination(digits, anonymous, None)

    def _emergency_number(self, dialled: str) -> str | None:
        if dialled in self._emergency:
            return dialled
        # a PBX that writes every number internationally sends +49112: no such subscriber can exist
        for idd in ("+", "00") if dialled[0] in "+0" else ():
            head = idd + number.calling_code(self._country)
            if dialled.startswith(head) and dialled[len(head) :] in self._emergency:
                return dialled[len(head) :]
        return None

    def _name(self, dialled: str) -> Dialled | Refusal:
        seat = self._snapshot.seats.get(dialled)
        if seat is not None and seat.account == self._account.id:
            self._trace.add("E0", f"{dialled} is a seat of this account")
            return Dialled(Kind.INTERNAL, dialled, seat)
        if any(c.isalpha() for c in dialled):
            self._trace.add("E0", "letters were dialled, and no seat of this account has this name")
            return Refusal(Reason.UNKNOWN_NUMBER, "no seat has the dialled name", trace=self._trace)
        return self._incomplete("E0", "characters were dialled that no number has")

    def _code(self, digits: str, anonymous: bool) -> Dialled | Refusal:
        for code in _WITHHOLD_CODES:
            if digits.startswith(code):
                return self._withheld("E5", code, digits[len(code) :], anonymous)
        self._trace.add("E5", f"{digits} is not a code that is known here")
        return Refusal(Reason.UNKNOWN_CODE, f"code {digits} is unknown", trace=self._trace)

    def _withheld(self, rule: str, code: str, rest: str, again: bool) -> Dialled | Refusal:
        if again:
            self._trace.add(rule, f"a second code ({code}) to withhold the number")
            return Refusal(Reason.UNKNOWN_CODE, "the code to withhold the number was dialled twice", trace=self._trace)
        if not rest:
            return self._incomplete(rule, f"{code} without a number behind it")
        if rule == "E8" and rest[0] == "+":
            return self._incomplete(rule, "a + in the middle of what was dialled")
        if rest in self._emergency:
            self._trace.add(rule, f"{code} before the emergency number {rest}: the number is shown all the same")
            return _emergency(rest)
        self._trace.add(rule, f"{code}: call without showing the number")
        return self._from_e3(rest, anonymous=True)

    def _chosen(self, digits: str, chosen: NumberRow, anonymous: bool) -> Dialled | Refusal | None:
        rest = digits[2:]
        if len(rest) < 3 or rest[0] in "*#+" or self._e164(rest) is None:
            return None
        self._trace.add("E10", f"prefix {digits[:2]} chooses the CLI of this call")
        return self._destination(rest, anonymous, chosen)

    def _e164(self, digits: str) -> str | None:
        """The legal E.164 number that rules E6, E7, E11 or E12 make of `digits`."""
        e164 = self._meaning(digits)
        return e164 if e164 is not None and number.flaw(e164) is None else None

    def _meaning(self, digits: str) -> str | None:
        if digits[0] == "+":
            return digits
        if digits.startswith("00"):
            return "+" + digits[2:]
        if digits[0] == "0":
            return number.national(digits, self._country)
        bare = self._account.bare_numbers
        if bare == "e164":
            return "+" + digits
        if bare == "local":
            return f"+{number.calling_code(self._country)}{self._account.area_code or ''}{digits}"
        return None

    def _destination(self, digits: str, anonymous: bool, chosen: NumberRow | None) -> Dialled | Refusal:
        if digits[0] == "+":
            rule = "E6"
        elif digits.startswith("00"):
            rule = "E7"
        elif digits[0] == "0":
            rule = "E11"
        else:
            rule = "E12"
        e164 = self._meaning(digits)
        if e164 is None:
            return self._incomplete(rule, "this account does not take numbers without 0, 00 or +")
        flaw = number.flaw(e164)
        if flaw is None:
            self._trace.add(rule, f"{digits} is {e164}")
            return Dialled(Kind.EXTERNAL, e164, anonymous=anonymous, chosen=chosen)
        if flaw == number.UNKNOWN_COUNTRY:
            self._trace.add(rule, f"{digits} would be {e164}: {flaw}")
            return Refusal(Reason.UNKNOWN_NUMBER, f"{e164}: {flaw}", trace=self._trace)
        return self._incomplete(rule, f"{digits} would be {e164}, which {flaw}")

    def _incomplete(self, rule: str, text: str) -> Refusal:
        self._trace.add(rule, text)
        return Refusal(Reason.ADDRESS_INCOMPLETE, text, trace=self._trace)


def _emergency(digits: str) -> Dialled:
    return Dialled(Kind.EMERGENCY, digits, shows_number=True)
