"""Faxes between two engines, in memory and faster than real time: domain rules 4.3 to 4.6, tests T4.4 to T4.7."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest

from media.fax.events import CngHeard, PageStored, PreambleSent
from media.fax.page import Page
from media.fax.record import STORAGE_FAILED, TOO_LONG, Outcome
from media.fax.spandsp import G711, UP_TO_9600, UP_TO_14400, Modem
from media.fax.spool import SpoolError
from media.fax.station import Machine
from tests.unit.media.fax.rig import Call, Line, picture, received, same, tiff

PICTURES = [picture(1), picture(2, rows=1600)]


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """Two fine pages."""
    return tiff(tmp_path / "document.tif", PICTURES)


def check_all_pages(call: Call) -> None:
    """Code 0 at both ends, and every pixel of both pages."""
    for station in (call.rx, call.tx):
        result = station.result(0.0)
        assert (result.code, result.pages) == (0, 2), result
    pages = received(call.folder)
    assert len(pages) == 2 and all(same(a, b) for a, b in zip(pages, PICTURES, strict=True)), (
        "pages differ from those sent"
    )


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.05, 0.10])
def test_t38_with_losses(tmp_path: Path, document: Path, loss: float) -> None:
    """With redundancy 3 a fax with ECM comes whole through 0, 1, 5 and 10 % loss (T4.4, T4.5, rule 4.6)."""
    call = Call(tmp_path, document)
    call.t38(Line(loss=loss, seed=7))
    check_all_pages(call)
    assert call.rx.result(0.0).bit_rate == 14400


def test_t38_with_losses_doubles_and_disorder(tmp_path: Path, document: Path) -> None:
    """All at once: 5 % lost, 20 % doubled, 20 % overtaken (T4.6)."""
    call = Call(tmp_path, document)
    call.t38(Line(loss=0.05, double=0.2, reorder=0.2, seed=3))
    check_all_pages(call)


def test_t38_disorder_without_redundancy(tmp_path: Path, document: Path) -> None:
    """A carrier without redundancy: what is only out of order is put right."""
    call = Call(tmp_path, document)
    call.t38(Line(reorder=0.1, seed=3), redundancy=0)
    check_all_pages(call)


def test_t38_with_parity(tmp_path: Path, document: Path) -> None:
    """A carrier that protects with FEC: single losses come back (rule 4.3.15)."""
    call = Call(tmp_path, document)
    call.t38(Line(loss=0.01, seed=2), fec=True)
    check_all_pages(call)


def test_t38_small_datagrams(tmp_path: Path, document: Path) -> None:
    """A gateway that takes 180 octets gets packets with as much redundancy as fits (rule 4.2.14)."""
    call = Call(tmp_path, document)
    call.t38(Line(loss=0.01, seed=5), max_datagram=180)
    check_all_pages(call)


def test_success_without_ecm_is_flagged(tmp_path: Path, document: Path) -> None:
    """Losses without redundancy or ECM: code 0 and bad lines; the pages are kept and flagged (rule 4.6.32)."""
    call = Call(tmp_path, document, Machine(ecm=False))
    call.t38(Line(loss=0.01, seed=2), redundancy=0)
    lost = sum(receiver.lost for receiver in call._receivers)
    result = replace(call.rx.result(0.0), transport="t38", lost_packets=lost)
    assert (result.code, result.outcome, result.ecm) == (0, Outcome.COMPLETE, False)
    assert not all(same(a, b) for a, b in zip(received(call.folder), PICTURES, strict=True))
    assert lost and result.poor_quality


@pytest.mark.parametrize("modems", [Modem.V27TER, UP_TO_9600, UP_TO_14400])
@pytest.mark.parametrize("ecm", [True, False])
def test_audio(tmp_path: Path, document: Path, modems: Modem, ecm: bool) -> None:
    """V.27ter, V.29 and V.17 over G.711, with ECM and without."""
    machine = Machine("+49 228 38699", None, ecm, modems)
    call = Call(tmp_path, document, machine, Machine("+49 221 1", str(document), ecm, modems))
    call.audio()
    check_all_pages(call)
    result = call.rx.result(0.0)
    rate = {Modem.V27TER: 4800, UP_TO_9600: 9600, UP_TO_14400: 14400}[modems]
    assert (result.bit_rate, result.ecm, result.remote_ident) == (rate, ecm, "+49 221 1")
    assert result.encoding == ("MMR" if ecm else "MR")


def test_audio_with_doubles_and_disorder(tmp_path: Path, document: Path) -> None:
    """30 % doubled and 30 % overtaken cost nothing on G.711 either: the buffer puts them right (T4.6)."""
    call = Call(tmp_path, document)
    call.rtp(Line(double=0.3, reorder=0.3, seed=4))
    check_all_pages(call)
    assert call.rx.result(0.0).ecm_retries == 0


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_audio_with_few_losses(tmp_path: Path, document: Path, seed: int) -> None:
    """One packet in 500 lost, both ways: a lost tick is played as the one before it, and ECM repairs the rest."""
    call = Call(tmp_path, document)
    call.rtp(Line(loss=0.002, seed=seed))
    check_all_pages(call)


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.10])
def test_audio_with_losses_ends_in_a_record(tmp_path: Path, document: Path, loss: float) -> None:
    """1, 5, 10 % loss on G.711 are too much for most modems: the record says so, and has what came (rule 4.6)."""
    call = Call(tmp_path, document)
    call.rtp(Line(loss=loss, seed=1))
    result = call.rx.result(0.0)
    assert result.code != 0 or result.pages == 2
    assert result.pages == len(received(call.folder)) == len(result.page_quality)
    assert all(same(a, b) for a, b in zip(received(call.folder), PICTURES, strict=False)), (
        "ECM let a wrong page through"
    )


@pytest.mark.parametrize(
    ("dpi", "rows", "width", "metres"),
    [
        ((204, 98), 1143, 1728, (8031, 3850)),
        ((204, 196), 2287, 1728, (8031, 7700)),
        ((204, 391), 4573, 1728, (8031, 15400)),
        ((204, 196), 1200, 2048, (8031, 7700)),
        ((204, 196), 1200, 2432, (8031, 7700)),
        ((204, 196), 38500, 1728, (8031, 7700)),
        ((204, 196), 3, 1728, (8031, 7700)),
    ],
)
def test_formats(tmp_path: Path, dpi: tuple[int, int], rows: int, width: int, metres: tuple[int, int]) -> None:
    """Standard, fine, superfine; A4, B4, A3; a page of 5 m and one of three lines (rule 4.4.29)."""
    sent = picture(3, rows, width)
    call = Call(tmp_path, tiff(tmp_path / "format.tif", [sent], dpi))
    call.t38()
    (page,) = call.folder.pages()
    assert (page.width, page.rows, page.x_per_metre, page.y_per_metre) == (width, rows, *metres)
    assert same(*received(call.folder), sent)


def test_a_long_fax(tmp_path: Path) -> None:
    """300 pages come whole, in order."""
    pictures = [picture(n, rows=60, marks=10) for n in range(300)]
    call = Call(tmp_path, tiff(tmp_path / "long.tif", pictures))
    call.t38(until=7200.0)
    result = call.rx.result(0.0)
    assert (result.code, result.pages) == (0, 300)
    assert all(same(a, b) for a, b in zip(received(call.folder), pictures, strict=True))


def test_events(tmp_path: Path, document: Path) -> None:
    """CNG, our preamble after CED of 2.6 to 4 s (rule 4.1.2), each page."""
    call = Call(tmp_path, document)
    call.audio(until=1.0)
    assert call.events == [CngHeard()]
    call.audio(until=4.0, start=False)
    assert call.events == [CngHeard(), PreambleSent()]
    call.audio(start=False)
    assert call.events[2:] == [PageStored(1, 1100, 0), PageStored(2, 1600, 0)]


@pytest.mark.parametrize("switch_at", [0.5, 3.0, 4.5, 6.0, 9.0, 13.0, 16.0])
def test_switch_to_t38(tmp_path: Path, document: Path, switch_at: float) -> None:
    """T.30 begins anew in the same role whenever the switch comes; nothing confirmed is lost (rule 4.1.2)."""
    call = Call(tmp_path, document)
    call.audio(until=switch_at)
    before = call.rx.result(0.0).pages
    heard = call.confirmed
    call.t38()
    assert (call.rx.result(0.0).code, call.tx.result(0.0).code) == (0, 0)
    # A sender that has not heard our confirmation sends the page again: twice is better than not at all.
    pictures = PICTURES[:before] + PICTURES[heard:]
    assert all(same(a, b) for a, b in zip(received(call.folder), pictures, strict=True))
    transports = [page.transport for page in call.rx.result(0.0).page_quality]
    assert transports == ["g711"] * before + ["t38"] * (2 - heard)


def test_back_to_audio(tmp_path: Path, document: Path) -> None:
    """T.38 that leads nowhere and G.711 again: the fax comes."""
    call = Call(tmp_path, document)
    call.audio(until=3.0)
    call.t38(Line(loss=1.0), until=6.0)
    call.audio()
    check_all_pages(call)


@pytest.mark.parametrize("transport", ["audio", "t38"])
def test_hang_up_at_every_stage(tmp_path: Path, document: Path, transport: str) -> None:
    """BYE after any half second: 49, or 0 once the last page was there; the pages are those confirmed, or one more."""
    outcomes = set()
    for step in range(52):
        path = tmp_path / str(step)
        path.mkdir()
        call = Call(path, document)
        getattr(call, transport)(until=step / 2)
        call.rx.hang_up()
        result = call.rx.result(0.0)
        assert call.rx.done
        assert result.code in ((0, 49) if result.pages == 2 else (49,))
        assert call.confirmed <= result.pages <= call.confirmed + 1
        assert result.pages == len(list(call.folder.pages()))
        outcomes.add(result.outcome)
        call.rx.close()
    assert outcomes == set(Outcome)


def test_hang_up_before_anything(tmp_path: Path, document: Path) -> None:
    """A call that ends before its first packet has a record too."""
    call = Call(tmp_path, document)
    call.rx.hang_up()
    assert (call.rx.result(5.0).code, call.rx.result(5.0).text) == (49, "The call dropped prematurely")


SILENCE = b"\xd5" * 160


def sounds(*frequencies: float, beat: float = 0.0) -> Callable[[int], bytes]:
    """A mixture of tones in A-law, tick by tick; `beat`: how often a second its loudness swells, and how often it
    changes its pitch, as speech does."""
    law = G711(True)
    samples = law.decode(SILENCE)

    def tick(n: int) -> bytes:
        for k in range(160):
            turn = 2 * math.pi * (n * 160 + k) / 8000
            pitch = turn + 0.1 * math.sin(beat * turn / 3)
            loud = 12000 * (0.5 + 0.5 * math.sin(beat * turn)) if beat else 12000
            samples[k] = int(loud * sum(math.sin(f * pitch) for f in frequencies) / len(frequencies))
        return law.encode(samples)

    return lru_cache(tick)


NOISE = random.Random(1)
DIGIT, CHORD, VOICE = sounds(770, 1336), sounds(262, 330, 392, 524), sounds(140, 280, 700, 1220, 2600, beat=4.0)
PERIOD = 500
NO_FAX: dict[str, Callable[[int], bytes | None]] = {
    "silence": lambda n: SILENCE,
    "noise": lambda n: NOISE.randbytes(160),
    "DTMF": lambda n: DIGIT(n % PERIOD) if n % 10 < 5 else SILENCE,
    "music": lambda n: CHORD(n % PERIOD),
    "voice": lambda n: VOICE(n % PERIOD),
    "nothing": lambda n: None,
}


@pytest.mark.parametrize("sound", NO_FAX)
def test_no_fax_calls(tmp_path: Path, document: Path, sound: str) -> None:
    """Silence, noise, voice, music, DTMF or a dead line: over by itself within two minutes, without a page, and none of
    it is taken for a fax's calling tone."""
    call = Call(tmp_path, document)
    call.rx.start_audio(True)
    ticks = 0
    while not call.rx.done and ticks < 120 * 50:
        call.rx.hear(NO_FAX[sound](ticks))
        call.rx.speak()
        ticks += 1
    result = call.rx.result(0.0)
    assert call.rx.done and result.code != 0
    assert (result.outcome, received(call.folder)) == (Outcome.FAILED, [])
    assert CngHeard() not in call.events


def test_nothing_leaves_after_a_page_could_not_be_stored(
    tmp_path: Path, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disk full at page 2: page 1 is confirmed and kept, page 2 never is, on either transport."""
    for transport in ("audio", "t38"):
        path = tmp_path / transport
        path.mkdir()
        call = Call(path, document)
        store = call.folder.store_page

        def full(number: int, page: Page, store=store) -> int:  # type: ignore[no-untyped-def]
            if number == 2:
                raise SpoolError("page-0002.tif could not be stored: No space left on device")
            return int(store(number, page))

        monkeypatch.setattr(call.folder, "store_page", full)
        getattr(call, transport)(until=200.0)
        result = call.rx.result(0.0)
        assert (result.code, result.pages, result.outcome) == (STORAGE_FAILED, 1, Outcome.PARTIAL)
        assert call.confirmed == 1
        assert "No space left" in call.rx.trouble
        assert call.tx.result(0.0).code != 0


def test_a_page_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """White lines cost a sender next to nothing: beyond the limit the fax ends, before memory does."""
    monkeypatch.setattr("media.fax.station.MAX_ROWS", 5000)
    call = Call(tmp_path, tiff(tmp_path / "endless.tif", [picture(1, rows=60_000)]), Machine(ecm=False))
    call.t38(until=300.0)
    assert (call.rx.result(0.0).code, call.rx.result(0.0).pages) == (TOO_LONG, 0)


def test_strange_idents(tmp_path: Path, document: Path) -> None:
    """A station id of any characters is taken as text; ours is cut to 20 (T.30 section 5.3.6.2.4)."""
    call = Call(tmp_path, document, sender=Machine("Müller\n<b>&x  0123456789", str(document)))
    call.t38()
    assert call.rx.result(0.0).remote_ident == "M?ller\n<b>&x  012345"
