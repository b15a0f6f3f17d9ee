"""The mail that brings a fax, in the account's language. Pure: values in, a message out.

A caller who withheld the number is named nowhere: neither the number nor the station identification, which mostly is
the number again. Whatever arrived is said as it is: complete, incomplete with the reason, or nothing at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import Final
from zoneinfo import ZoneInfo

from media.fax.record import CRASHED, STORAGE_FAILED, TOO_LONG, FaxMeta, FaxResult, Outcome


@dataclass(frozen=True, slots=True)
class Words:
    """All words of a language. Fields in braces: {caller}, {pages}, {count}, {reason}."""

    from_number: str
    withheld: str
    unknown: str
    one_page: str
    pages: str
    subject: Mapping[Outcome, str]
    opening: Mapping[Outcome, str]
    why: str
    poor: str
    encrypted: str
    labels: tuple[str, str, str, str, str]
    reasons: Mapping[int, str]
    time: str


_GERMAN: Final = Words(
    "von {caller}",
    "mit unterdrückter Rufnummer",
    "ohne Rufnummer",
    "1 Seite",
    "{count} Seiten",
    {
        Outcome.COMPLETE: "Fax {caller}, {pages}",
        Outcome.PARTIAL: "Unvollständiges Fax {caller}, {pages}",
        Outcome.FAILED: "Kein Fax empfangen: Anruf {caller}",
    },
    {
        Outcome.COMPLETE: "Sie haben ein Fax erhalten. Es hängt als PDF an dieser Mail.",
        Outcome.PARTIAL: "Sie haben ein Fax erhalten, das unvollständig ist. Was ankam, hängt als PDF an dieser Mail; "
        "danach brach die Übertragung ab.",
        Outcome.FAILED: "Jemand wollte Ihnen ein Fax senden. Es kam keine Seite an.",
    },
    "Grund: {reason}",
    "Die Übertragung war gestört: In mindestens einer Seite fehlen Zeilen oder sind falsch.",
    "Das PDF ist mit dem Kennwort verschlüsselt, das für diesen Faxeingang gilt.",
    ("Von", "An", "Zeit", "Seiten", "Kennung"),
    {
        CRASHED: "Der Empfang wurde auf unserer Seite unterbrochen",
        STORAGE_FAILED: "Eine Seite konnte bei uns nicht gespeichert werden",
        TOO_LONG: "Eine Seite war länger als zulässig",
        2: "Es meldete sich kein Faxgerät",
        3: "Es meldete sich kein Faxgerät",
        49: "Die Verbindung wurde vorzeitig getrennt",
    },
    "%d.%m.%Y, %H:%M:%S Uhr (%Z)",
)
_ENGLISH: Final = Words(
    "from {caller}",
    "from a withheld number",
    "without a number",
    "1 page",
    "{count} pages",
    {
        Outcome.COMPLETE: "Fax {caller}, {pages}",
        Outcome.PARTIAL: "Incomplete fax {caller}, {pages}",
        Outcome.FAILED: "No fax received: call {caller}",
    },
    {
        Outcome.COMPLETE: "You have received a fax. It is attached to this mail as a PDF.",
        Outcome.PARTIAL: "You have received a fax that is incomplete. What arrived is attached to this mail as a PDF; "
        "then the transmission broke off.",
        Outcome.FAILED: "Someone tried to send you a fax. No page arrived.",
    },
    "Reason: {reason}",
    "The transmission was disturbed: lines of at least one page are missing or wrong.",
    "The PDF is encrypted with the password set for this fax box.",
    ("From", "To", "Time", "Pages", "Identification"),
    {
        CRASHED: "The reception was interrupted on our side",
        STORAGE_FAILED: "A page could not be stored on our side",
        TOO_LONG: "A page was longer than accepted",
        2: "No fax machine answered",
        3: "No fax machine answered",
        49: "The call ended early",
    },
    "%Y-%m-%d %H:%M:%S %Z",
)


def words(language: str) -> Words:
    """Those of a language tag; English where we do not speak it."""
    return _GERMAN if language.lower().split("-")[0] == "de" else _ENGLISH


def message_id(fax_id: str, domain: str) -> str:
    """The Message-ID of a fax's mail: the same in each attempt, so that a repetition can be told."""
    return f"<fax-{fax_id}@{domain}>"


def title(meta: FaxMeta) -> str:
    """One line that names a fax, for the PDF."""
    w = words(meta.language)
    return f"Fax {_who(meta, w)}, {_local(meta.started_at, meta.time_zone).strftime(w.time)}"


def compose(meta: FaxMeta, result: FaxResult, pdf: bytes | None, sender: str, encrypted: bool = False) -> EmailMessage:
    """The mail of a fax. `sender`: address that it comes from.

    Raises ValueError where pages arrived and there is no PDF: a mail without its fax is never made.
    """
    outcome = result.outcome
    if outcome is not Outcome.FAILED and not pdf:
        raise ValueError(f"fax {meta.id} has {result.pages} pages and no PDF; it is not mailed without them")
    w = words(meta.language)
    who = _who(meta, w)
    pages = w.one_page if result.pages == 1 else w.pages.format(count=result.pages)
    message = EmailMessage(policy=SMTP)
    message["From"] = Address("Fax", addr_spec=sender)
    message["To"] = meta.email
    message["Subject"] = w.subject[outcome].format(caller=who, pages=pages)
    message["Date"] = datetime.fromtimestamp(result.ended_at, UTC)
    message["Message-ID"] = message_id(meta.id, sender.partition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message["Content-Language"] = meta.language
    message.set_content(_text(meta, result, w, encrypted))
    if outcome is not Outcome.FAILED:
        assert pdf
        day = _local(meta.started_at, meta.time_zone).strftime("%Y-%m-%d-%H%M%S")
        message.add_attachment(pdf, maintype="application", subtype="pdf", filename=f"fax-{day}.pdf")
    return message


def _text(meta: FaxMeta, result: FaxResult, w: Words, encrypted: bool) -> str:
    outcome = result.outcome
    lines = [w.opening[outcome], ""]
    if outcome is not Outcome.COMPLETE:
        reason = w.reasons.get(result.code, f"{result.text} (T.30: {result.code})")
        lines += [w.why.format(reason=reason), ""]
    if outcome is not Outcome.FAILED:
        if result.poor_quality:
            lines += [w.poor, ""]
        if encrypted:
            lines += [w.encrypted, ""]
    sender, to, time, pages, identification = w.labels
    facts = [
        (sender, w.withheld if meta.caller_withheld else meta.caller or w.unknown),
        (to, meta.number),
        (time, _local(meta.started_at, meta.time_zone).strftime(w.time)),
        (pages, str(result.pages)),
    ]
    if result.remote_ident and not meta.caller_withheld:
        facts.append((identification, _printable(result.remote_ident)))
    width = max(len(label) for label, _ in facts) + 1
    lines += [f"{label + ':':<{width}} {value}" for label, value in facts]
    return "\n".join([*lines, ""])


def _who(meta: FaxMeta, w: Words) -> str:
    if meta.caller_withheld:
        return w.withheld
    return w.from_number.format(caller=meta.caller) if meta.caller else w.unknown


def _local(seconds: float, zone: str) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).astimezone(ZoneInfo(zone))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
