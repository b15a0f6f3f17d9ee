"""The mail of a fax: what it says, in both languages, and what it must not (rules 4.6.32, 4.7.34 to 4.7.36)."""

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest

from media.fax.mail import compose, message_id, title
from media.fax.record import CRASHED, FaxResult, PageQuality
from tests.unit.media.fax.rig import meta

GOOD = PageQuality(1100, 0, 0, 14400, True, 0, "MMR", "t38")
BAD = PageQuality(1100, 7, 3, 9600, False, 0, "MR", "g711")


def result(code: int = 0, pages: int = 2, page: PageQuality = GOOD, ident: str = "+49 221 29191999") -> FaxResult:
    return FaxResult(code, "Some words", pages, 1795370090.0, remote_ident=ident, page_quality=(page,) * pages)


def mail(**fields: object) -> EmailMessage:
    """A mail as the reader's program sees it."""
    outcome = fields.pop("result", result())
    pdf = fields.pop("pdf", b"%PDF-1.7 ...")
    encrypted = bool(fields.pop("encrypted", False))
    message = compose(meta(**fields), outcome, pdf, "fax@edge.example", encrypted)  # type: ignore[arg-type]
    read = message_from_bytes(message.as_bytes(), policy=default)
    assert isinstance(read, EmailMessage)
    return read


def text(message: EmailMessage) -> str:
    body = message.get_body()
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def test_a_complete_fax() -> None:
    """Sender, number, time in the account's zone, pages, the PDF, and headers that machines respect (RFC 3834)."""
    message = mail()
    assert message["Subject"] == "Fax von +4922129191999, 2 Seiten"
    assert (message["From"], message["To"]) == ("Fax <fax@edge.example>", "fax@beispiel.example")
    assert message["Message-ID"] == message_id("fax", "edge.example") == "<fax-fax@edge.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert text(message) == (
        "Sie haben ein Fax erhalten. Es hängt als PDF an dieser Mail.\n\n"
        "Von:     +4922129191999\n"
        "An:      +4922838699\n"
        "Zeit:    22.11.2026, 18:53:20 Uhr (CET)\n"
        "Seiten:  2\n"
        "Kennung: +49 221 29191999\n"
    )
    (attached,) = message.iter_attachments()
    assert attached.get_content_type() == "application/pdf"
    assert attached.get_filename() == "fax-2026-11-22-185320.pdf"
    assert attached.get_content() == b"%PDF-1.7 ..."


def test_in_english() -> None:
    """And in English for all who do not speak German."""
    for language in ("en", "en-GB", "fr"):
        message = mail(language=language, time_zone="Europe/London", result=result(pages=1))
        assert message["Subject"] == "Fax from +4922129191999, 1 page"
        assert "Time:           2026-11-22 17:53:20 GMT\n" in text(message)


@pytest.mark.parametrize("language", ["de", "en"])
def test_a_withheld_caller_is_named_nowhere(language: str) -> None:
    """Neither the number nor the station identification, in no part of the mail or the PDF's title."""
    one = {"caller_withheld": True, "language": language}
    message = mail(**one)
    assert "22129191999" not in message.as_string().replace(" ", "")
    assert "22129191999" not in title(meta(**one))
    assert ("unterdrückter" if language == "de" else "withheld") in message["Subject"]


def test_no_number_at_all() -> None:
    """A caller without a number is not one who withheld it."""
    assert mail(caller=None)["Subject"] == "Fax ohne Rufnummer, 2 Seiten"


def test_an_incomplete_fax() -> None:
    """Pages that arrived are delivered, marked incomplete, with the reason (rule 4.6.32)."""
    message = mail(result=result(49, 3))
    assert message["Subject"] == "Unvollständiges Fax von +4922129191999, 3 Seiten"
    assert "Grund: Die Verbindung wurde vorzeitig getrennt\n" in text(message)
    assert len(list(message.iter_attachments())) == 1
    assert "Grund: Some words (T.30: 32)\n" in text(mail(result=result(32, 3)))
    assert "Grund: Der Empfang wurde auf unserer Seite unterbrochen\n" in text(mail(result=result(CRASHED)))


def test_no_page_is_a_notice() -> None:
    """Without a page there is no PDF, whatever the code says, and the mail says so."""
    for code in (0, 3, 49):
        message = mail(result=result(code, 0), pdf=None)
        assert message["Subject"] == "Kein Fax empfangen: Anruf von +4922129191999"
        assert list(message.iter_attachments()) == []


def test_poor_quality_is_said() -> None:
    """Success with bad lines is called what it is; a good fax is not."""
    assert "gestört" in text(mail(result=result(page=BAD)))
    assert "gestört" not in text(mail())


def test_a_locked_pdf_is_said() -> None:
    """The reader learns which password opens it, and never the password."""
    assert "Kennwort verschlüsselt" in text(mail(encrypted=True))
    assert "Kennwort" not in text(mail())


def test_no_empty_mail() -> None:
    """Pages without a PDF are never mailed as if nothing had come."""
    for pdf in (None, b""):
        with pytest.raises(ValueError, match="has 2 pages and no PDF"):
            mail(pdf=pdf)


def test_no_header_from_strangers() -> None:
    """A station id with line breaks stays within its line; an address with them is refused."""
    message = mail(result=result(ident="x\r\nBcc: y@z"))
    assert message["Bcc"] is None
    assert "Kennung: x??Bcc: y@z\n" in text(message)
    with pytest.raises(ValueError):
        mail(email="a@b.example\r\nBcc: y@z")
