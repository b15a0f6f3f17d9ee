"""Pages to PDF and back: every pixel, the true size, and locks that hold (rules 4.7.34 to 4.7.36)."""

from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pikepdf
import pypdfium2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from media.fax.document import About, DocumentError, make_pdf, prepared_password, render_for_fax
from media.fax.page import Page, PageError, Quality, read_page
from media.fax.record import FaxMeta
from media.fax.spool import Spool
from media.fax.work import pdf_of
from tests.unit.media.fax.rig import Call, meta, picture, received, same, tiff

ABOUT = About("Fax von +4922129191999", datetime(2026, 11, 22, 12, tzinfo=UTC))


@pytest.fixture
def faxed(tmp_path: Path) -> Call:
    """A fax of a fine, a long and a wide page, received."""
    pictures = [picture(1), picture(2, rows=9000), picture(3, width=2432)]
    call = Call(tmp_path, tiff(tmp_path / "document.tif", pictures))
    call.t38()
    return call


def images(pdf: bytes, password: str = "") -> list[Image.Image]:
    """The images of a PDF, decoded by PDFium from the compressed data."""
    document = pypdfium2.PdfDocument(pdf, password=password or None)
    found = []
    for page in document:
        (item,) = page.get_objects()
        found.append(item.get_bitmap().to_pil().convert("1"))
        page.close()
    document.close()
    return found


def test_every_pixel(faxed: Call) -> None:
    """What arrived is in the PDF, bit for bit, and each sheet has its true size: 215 mm for 1728 dots, 303 for 2432."""
    pdf = make_pdf(faxed.folder.pages(), ABOUT)
    assert all(same(a, b) for a, b in zip(images(pdf), received(faxed.folder), strict=True))
    with pikepdf.open(BytesIO(pdf)) as document:
        millimetres = [[round(float(x) / 72 * 25.4) for x in page.mediabox[2:]] for page in document.pages]
        assert document.Root.Lang == "de"
    assert millimetres == [[215, 143], [215, 1169], [303, 143]]


@pytest.mark.parametrize(("y_per_metre", "rows"), [(3850, 1143), (7700, 2286), (15400, 4572)])
def test_every_resolution_is_a4(y_per_metre: int, rows: int) -> None:
    """297 mm of paper are 297 mm of PDF at standard, fine and superfine."""
    with pikepdf.open(BytesIO(make_pdf([Page(1728, rows, 8031, y_per_metre, b"\0")], ABOUT))) as document:
        assert float(document.pages[0].mediabox[3]) / 72 * 25.4 == pytest.approx(297, abs=0.2)


def test_a_page_longer_than_pdf_sheets_are() -> None:
    """7 m: the unit of the sheet grows."""
    with pikepdf.open(BytesIO(make_pdf([Page(1728, 53_900, 8031, 7700, b"\0")], ABOUT))) as document:
        page = document.pages[0]
        assert float(page.mediabox[3]) <= 14400
        assert float(page.mediabox[3]) * float(page.UserUnit) / 72 * 0.0254 == pytest.approx(7, abs=0.01)


@pytest.mark.parametrize("password", ["geheim", "Grüße aus Köln", "пароль", "x" * 127])
def test_encrypted(faxed: Call, password: str) -> None:
    """Opens with the password and not without, in PDFium and qpdf; AES-256 of PDF 2.0; nothing readable (T4.8)."""
    pdf = make_pdf(faxed.folder.pages(), ABOUT, password)
    assert pdf.startswith(b"%PDF-2.0")
    for wrong in ("", "y" + password[1:], "geheim?"):
        with pytest.raises(pikepdf.PasswordError):
            pikepdf.open(BytesIO(pdf), password=wrong)
        with pytest.raises(pypdfium2.PdfiumError):
            pypdfium2.PdfDocument(pdf, password=wrong or None)
    assert all(same(a, b) for a, b in zip(images(pdf, password), received(faxed.folder), strict=True))
    with pikepdf.open(BytesIO(pdf), password=password) as document:
        assert (document.encryption.R, document.encryption.V) == (6, 5)
        assert not document.owner_password_matched
    assert b"+4922129191999" not in pdf
    assert all(page.image not in pdf for page in faxed.folder.pages())


def test_no_password_no_lock(faxed: Call) -> None:
    """Checkbox off: a plain PDF (T4.10)."""
    with pikepdf.open(BytesIO(make_pdf(faxed.folder.pages(), ABOUT))) as document:
        assert not document.is_encrypted


def test_no_plain_page_is_left(tmp_path: Path, faxed: Call) -> None:
    """With a password the plain pages are gone once the PDF is there; without, they stay until delivery."""
    assert pdf_of(faxed.folder, None) == 3
    assert len(faxed.folder.page_names()) == 3
    assert pdf_of(faxed.folder, "geheim") == 3
    assert sorted(p.name for p in faxed.folder.path.iterdir()) == ["fax.pdf", "meta.json"]


def test_passwords_are_prepared() -> None:
    """SASLprep (RFC 4013 section 3 and RFC 4013's examples): the same password from any keyboard."""
    assert prepared_password("I\u00adX") == "IX"
    assert prepared_password("\u00aa") == "a"
    assert prepared_password("\u2168") == "IX"
    assert prepared_password("Gru\u0308ße") == prepared_password("Grüße") == "Grüße"
    assert prepared_password("a\u00a0b") == "a b"
    for bad in ("", "\u00ad", "a\u0007", "\u06271", "ü" * 64):
        with pytest.raises(DocumentError, match="password"):
            prepared_password(bad)


@given(
    st.integers(1, 5000), st.integers(0, 10**6), st.binary(max_size=300), st.integers(0, 500), st.booleans(), st.text()
)
def test_a_page_file_is_read_as_it_was_written(
    width: int, rows: int, image: bytes, bad: int, ecm: bool, text: str
) -> None:
    """A page and its quality in one file, and back."""
    page = Page(width, rows, 8031, 7700, image, Quality(bad, bad, 14400, ecm, 3, text, "t38"))
    assert read_page(page.to_bytes()) == page


@given(st.binary(max_size=200), st.data())
def test_a_damaged_page_file(junk: bytes, data: st.DataObject) -> None:
    """Refused by name, never by accident."""
    whole = Page(1728, 10, 8031, 7700, b"12345").to_bytes()
    cut = data.draw(st.integers(0, len(whole) - 5))
    for damaged in (junk, whole[:cut], b"II*\0" + junk):
        with pytest.raises(PageError):
            read_page(damaged)


def drawn(path: Path, size: tuple[int, int], pages: int = 1) -> Path:
    """A PDF with a black square in its middle; `size` in millimetres."""
    image = Image.new("L", (size[0] * 8, size[1] * 8), 255)
    middle = [size[0] * 4, size[1] * 4]
    ImageDraw.Draw(image).rectangle([middle[0] - 80, middle[1] - 80, middle[0] + 80, middle[1] + 80], fill=0)
    image.save(path, "PDF", resolution=8 * 25.4, save_all=True, append_images=[image] * (pages - 1))
    return path


@pytest.mark.parametrize("resolution", ["standard", "fine", "superfine"])
def test_pdf_to_fax(tmp_path: Path, resolution: str) -> None:
    """A4 becomes 1728 dots wide; a square of 20 mm is one of 20 mm when it has been faxed and is a PDF again."""
    target = tmp_path / "out.tif"
    assert render_for_fax(drawn(tmp_path / "in.pdf", (210, 297), 2), target, resolution) == 2
    call = Call(tmp_path, target)
    call.t38()
    first, second = call.folder.pages()
    assert (first.width, call.rx.result(0.0).code, first.rows) == (1728, 0, second.rows)
    assert first.rows / first.y_per_metre == pytest.approx(0.297, abs=0.002)
    left, top, right, bottom = received(call.folder)[0].convert("L").point(lambda p: 255 - p).getbbox() or (0,) * 4
    assert (right - left) / first.x_per_metre == pytest.approx(0.020, abs=0.0005)
    assert (bottom - top) / first.y_per_metre == pytest.approx(0.020, abs=0.0005)
    assert (left + right) / 2 == pytest.approx(864, abs=4)


def test_landscape_is_turned_and_large_is_shrunk(tmp_path: Path) -> None:
    """A4 across becomes upright; A0 fits."""
    target = tmp_path / "out.tif"
    render_for_fax(drawn(tmp_path / "across.pdf", (297, 210)), target)
    with Image.open(target) as image:
        assert image.width == 1728 and image.height == pytest.approx(2287, abs=4)
    render_for_fax(drawn(tmp_path / "large.pdf", (841, 1189)), target)
    with Image.open(target) as image:
        assert image.width == 1728 and image.height == pytest.approx(2343, abs=8)


def test_no_pdf(tmp_path: Path, faxed: Call) -> None:
    """A file that is none, and one with a password, say so."""
    (tmp_path / "no.pdf").write_bytes(b"hello")
    (tmp_path / "locked.pdf").write_bytes(make_pdf(faxed.folder.pages(), ABOUT, "x"))
    for name in ("no.pdf", "locked.pdf"):
        with pytest.raises(DocumentError, match=f"{name} cannot be read as a PDF without a password"):
            render_for_fax(tmp_path / name, tmp_path / "out.tif")


def test_no_pages_no_pdf(tmp_path: Path) -> None:
    """A PDF without pages is never made."""
    one: FaxMeta = meta()
    with pytest.raises(DocumentError, match="at least one page"):
        pdf_of(Spool(tmp_path / "empty").create(one), None)
