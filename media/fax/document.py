"""Pages to PDF and PDF to pages.

A received page goes into the PDF as it is: its T.6 data are what /CCITTFaxDecode takes (ISO 32000-2 section 7.4.6), on
a sheet of the true size, so the different resolutions of the two directions come out right. With a password the PDF is
encrypted with AES-256 (PDF 2.0, revision 6); the owner password is random and forgotten.
"""

from __future__ import annotations

import math
import secrets
import stringprep
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Final

from media.fax.page import Page

_POINTS_PER_METRE: Final = 72 / 0.0254
# Without UserUnit a sheet is at most 14400 units long (ISO 32000-2 annex C).
_LONGEST_SHEET: Final = 14400
_MOST_PAGES: Final = 1000
_X_PER_METRE: Final = 8031
_WIDTH: Final = 1728
_RESOLUTIONS: Final = {"standard": (98, 3850), "fine": (196, 7700), "superfine": (391, 15400)}


class DocumentError(Exception):
    """A document cannot be read or made; the text names the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class About:
    """What the PDF says of itself. `created`: with time zone."""

    title: str
    created: datetime
    language: str = "de"


def make_pdf(pages: Iterable[Page], about: About, password: str | None = None) -> bytes:
    """The pages as a PDF, encrypted where there is a password. Raises DocumentError (also for an unusable password)."""
    import pikepdf

    with pikepdf.new() as pdf:
        for page in pages:
            _add_sheet(pdf, page)
        if not pdf.pages:
            raise DocumentError("a PDF needs at least one page")
        pdf.Root.Lang = pikepdf.String(about.language)
        with pdf.open_metadata(set_pikepdf_as_editor=False) as metadata:
            metadata["dc:title"] = about.title
            metadata["xmp:CreateDate"] = about.created.isoformat(timespec="seconds")
            metadata["xmp:CreatorTool"] = "sip-edge"
        out = BytesIO()
        if password is None:
            pdf.save(out, force_version="1.7", linearize=True)
        else:
            locks = pikepdf.Encryption(
                user=prepared_password(password), owner=secrets.token_urlsafe(32), R=6, aes=True, metadata=True
            )
            pdf.save(out, force_version="2.0", encryption=locks)
    return out.getvalue()


def _add_sheet(pdf, page: Page) -> None:  # type: ignore[no-untyped-def]
    import pikepdf

    width = page.width / page.x_per_metre * _POINTS_PER_METRE
    height = page.rows / page.y_per_metre * _POINTS_PER_METRE
    unit = math.ceil(max(width, height) / _LONGEST_SHEET)
    width, height = round(width / unit, 3), round(height / unit, 3)
    sheet = pdf.add_blank_page(page_size=(width, height))
    if unit > 1:
        sheet.UserUnit = unit
    image = pikepdf.Stream(
        pdf,
        page.image,
        Type=pikepdf.Name.XObject,
        Subtype=pikepdf.Name.Image,
        Width=page.width,
        Height=page.rows,
        ColorSpace=pikepdf.Name.DeviceGray,
        BitsPerComponent=1,
        Filter=pikepdf.Name.CCITTFaxDecode,
        DecodeParms=pikepdf.Dictionary(K=-1, Columns=page.width, Rows=page.rows, EndOfBlock=True),
    )
    sheet.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(Im=pdf.make_indirect(image)))
    sheet.Contents = pdf.make_stream(f"q {width} 0 0 {height} 0 0 cm /Im Do Q".encode())


def prepared_password(password: str) -> str:
    """A password as PDF 2.0 wants it: SASLprep (RFC 4013), at most 127 octets of UTF-8. Raises DocumentError."""
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c))
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
        stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
        stringprep.in_table_c9,
    )  # fmt: skip
    if any(test(c) for c in prepared for test in prohibited):
        raise DocumentError("the PDF password holds a character that no password may hold (RFC 4013); choose another")
    if any(map(stringprep.in_table_d1, prepared)) and (
        any(map(stringprep.in_table_d2, prepared))
        or not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1]))
    ):
        raise DocumentError("the PDF password mixes writing directions in a way that RFC 4013 forbids; choose another")
    if not prepared:
        raise DocumentError("the PDF password is empty")
    if len(prepared.encode()) > 127:
        raise DocumentError("the PDF password is longer than 127 octets in UTF-8; choose a shorter one")
    return prepared


def render_for_fax(source: Path, target: Path, resolution: str = "fine") -> int:
    """Make a TIFF that spandsp can send of a PDF: A4 wide, black and white; the number of its pages.

    `resolution`: standard, fine or superfine. Pages keep their true size where they fit, are turned where that fits
    better, and shrunk otherwise. Raises DocumentError.
    """
    import pypdfium2
    from PIL.TiffImagePlugin import AppendingTiffWriter

    dots, y_per_metre = _RESOLUTIONS[resolution]
    try:
        document = pypdfium2.PdfDocument(source)
    except pypdfium2.PdfiumError as error:
        raise DocumentError(f"{source.name} cannot be read as a PDF without a password: {error}") from None
    try:
        count = len(document)
        if not 0 < count <= _MOST_PAGES:
            raise DocumentError(f"{source.name} has {count} pages; 1 to {_MOST_PAGES} can be sent")
        with AppendingTiffWriter(str(target), new=True) as writer:
            for index in range(count):
                image = _bilevel(document[index], y_per_metre)
                image.save(writer, format="TIFF", compression="group4", dpi=(204, dots))
                writer.newFrame()
    finally:
        document.close()
    return count


def _bilevel(page, y_per_metre: int):  # type: ignore[no-untyped-def]
    from PIL import Image

    width, height = page.get_size()
    sheet = _WIDTH / _X_PER_METRE * _POINTS_PER_METRE
    turned = width > sheet and width > height
    if turned:
        width, height = height, width
    scale = _X_PER_METRE / _POINTS_PER_METRE * min(1.0, sheet / width)
    grey = page.render(scale=scale, grayscale=True, rotation=90 if turned else 0).to_pil().convert("L")
    rows = max(1, round(grey.height * y_per_metre / _X_PER_METRE))
    grey = grey.resize((min(grey.width, _WIDTH), rows), Image.Resampling.LANCZOS)
    whole = Image.new("L", (_WIDTH, rows), 255)
    whole.paste(grey, ((_WIDTH - grey.width) // 2, 0))
    return whole.convert("1")
