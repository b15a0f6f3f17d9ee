"""Our fax machine in one call: the T.30 engine of the present transport, the pages, and the record.

Knows no sockets and no clock: the owner gives it packets and 20 ms ticks. Changing the transport starts T.30 anew in
the same role; what was received stays.

The promise of this file: **nothing leaves after a page could not be stored**. spandsp calls `on_page` before it queues
the confirmation; where storing fails, the station is mute from then on, so the sender never hears MCF for that page.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from media.fax.events import CngHeard, FaxEvent, PageStored, PreambleSent
from media.fax.page import PageError, Pages, Quality
from media.fax.record import OWN_TEXTS, STALLED, STORAGE_FAILED, TOO_LONG, FaxResult, PageQuality
from media.fax.spandsp import (
    FRAME,
    G711,
    UP_TO_9600,
    AudioTerminal,
    CngDetector,
    Frame,
    Modem,
    Statistics,
    T38Terminal,
    Terminal,
    completion_text,
)
from media.fax.spool import Folder, SpoolError, quality_of

MAX_ROWS: Final = 120_000
"""Lines of a page that are taken: 15 m at fine, 7.8 m at superfine resolution. White lines cost a sender one bit."""

PATIENCE: Final = 90
"""Seconds without a frame or a line. T.30's own timers (at most 65 s) restart while there is noise on the line."""

_CHECK_EVERY: Final = 50
_QUIET_AFTER: Final = 10
_CNG_TICKS: Final = 50 * 60
# 20 ms are a whole number of symbols, and of periods of the carrier, of every fax modem (1200, 1600 and 2400 baud; 1700
# and 1800 Hz): a lost tick that is played as the one before it costs a few wrong symbols and no synchronization.
_REPEATED: Final = 3


@dataclass(frozen=True, slots=True)
class Machine:
    """What our fax is. `document`: path of the TIFF to send; None: it receives. `ident`: our CSI or TSI."""

    ident: str = ""
    document: str | None = None
    ecm: bool = True
    audio_modems: Modem = UP_TO_9600


class Station:
    """See the module. `tell` gets events; `done` is true when T.30 is over."""

    def __init__(self, machine: Machine, folder: Folder, tell: Callable[[FaxEvent], None]) -> None:
        self._machine = machine
        self._folder = folder
        self._tell = tell
        self._run: _Run | None = None
        self._audio: AudioTerminal | None = None
        self._t38: T38Terminal | None = None
        self._g711: G711 | None = None
        self._cng: CngDetector | None = None
        self._heard: bytes | None = None
        self._missed = 0
        self._ticks = 0
        self._spoke = 0
        self._progress = 0
        self._lines = 0
        self._code: int | None = None
        self._mute = False
        self._told_preamble = False
        self._qualities: list[PageQuality] = []
        self._octets = 0
        self._sent_before = 0
        self._retries = 0
        self._statistics: Statistics | None = None
        self._ident = ""
        self._model = ""
        self.rtp_events = 0
        self.rtn_events = 0
        self.trouble = ""

    @property
    def done(self) -> bool:
        """Whether T.30 is over."""
        return self._code is not None

    @property
    def over_t38(self) -> bool:
        """Whether the present transport is T.38."""
        return self._t38 is not None

    @property
    def quiet(self) -> bool:
        """Whether we have said nothing for a while: the far end's turn."""
        return self._ticks - self._spoke >= _QUIET_AFTER

    # -- transports

    def start_audio(self, alaw: bool) -> None:
        """T.30 over G.711, anew."""
        self._end_run()
        self._g711 = G711(alaw)
        self._heard = None
        if not self._machine.document:
            self._cng = CngDetector()
        run = self._begin_run()
        self._audio = AudioTerminal(self._terminal(run, self._machine.audio_modems), run)

    def start_t38(self, send: Callable[[bytes, int], None], max_bit_rate: int = 14400) -> None:
        """T.30 over T.38, anew. `send(ifp, times)` gets what is to be sent."""
        self._end_run()
        run = self._begin_run()

        def gated(ifp: bytes, times: int) -> None:
            if not self._mute and run is self._run:
                self._spoke = self._ticks
                send(ifp, times)

        modems = Modem.V27TER | Modem.V29 | Modem.V17
        self._t38 = T38Terminal(self._terminal(run, modems), run, gated, max_bit_rate)

    def hear(self, payload: bytes | None) -> None:
        """20 ms of G.711; None: it was lost."""
        if self._audio is None or self.done:
            return
        if payload is None and self._missed < _REPEATED:
            payload = self._heard
            self._missed += 1
        elif payload is not None:
            self._missed = 0
            self._heard = payload
        if payload is None or self._g711 is None:
            self._audio.miss()
        else:
            samples = self._g711.decode(payload)
            if self._cng is not None:
                self._listen(samples)
            self._audio.hear(samples)
        self._pass_time()

    def speak(self) -> bytes:
        """20 ms of G.711 to send."""
        if self._audio is None or self._g711 is None:
            return b"\xd5" * FRAME
        if self._mute or self.done:
            return self._g711.silence
        payload = self._g711.encode(self._audio.speak())
        self._obey()
        if self._mute:
            return self._g711.silence
        if payload != self._g711.silence:
            self._spoke = self._ticks
        return payload

    def hear_ifp(self, sequence: int, ifp: bytes) -> None:
        """An IFP packet, in order."""
        if self._t38 is not None and not self.done:
            self._t38.hear(ifp, sequence)
            self._obey()

    def tick(self) -> None:
        """20 ms have passed on T.38."""
        if self._t38 is not None and not self.done:
            self._t38.tick()
            self._pass_time()

    def hang_up(self) -> None:
        """The call is gone."""
        engine = self._audio or self._t38
        if engine is not None and not self.done:
            engine.terminate()
        if self._code is None:
            # T.30 never began.
            self._code = 49

    def close(self) -> None:
        """Give everything back."""
        self._end_run()

    def result(self, now: float) -> FaxResult:
        """The record so far; `now` in seconds since 1970. Transport and packets are the owner's to add."""
        self._note()
        code = 49 if self._code is None else self._code
        s = self._statistics
        pages = len(self._qualities)
        return FaxResult(
            code,
            OWN_TEXTS[code] if code in OWN_TEXTS else completion_text(code),
            pages,
            now,
            remote_ident=self._ident,
            remote_model=self._model,
            bit_rate=s.bit_rate if s else 0,
            ecm=s.ecm if s else False,
            ecm_retries=self._retries,
            rtp_events=self.rtp_events,
            rtn_events=self.rtn_events,
            encoding=s.encoding if s and pages else "",
            octets=self._octets,
            page_quality=tuple(self._qualities),
        )

    # -- from the runs

    def page(self, run: _Run, s: Statistics) -> None:
        """A page ended: store it before it is confirmed. Where it is refused (RTN) spandsp has not counted it."""
        if run is not self._run:
            return
        if self._machine.document:
            self._page_sent(s)
            return
        if s.pages_received <= run.taken:
            return
        run.taken = s.pages_received
        transport = "t38" if self.over_t38 else "g711"
        quality = Quality(
            s.bad_rows if not s.ecm else 0,
            s.longest_bad_run if not s.ecm else 0,
            s.bit_rate,
            s.ecm,
            s.ecm_retries,
            s.encoding,
            transport,
        )
        number = len(self._qualities) + 1
        try:
            page = run.pages.next(s.x_per_metre, s.y_per_metre, quality)
            self._octets += self._folder.store_page(number, page)
        except (PageError, SpoolError) as error:
            self.trouble = str(error)
            self._stop(STORAGE_FAILED)
            return
        self._retries += s.ecm_retries
        self._qualities.append(quality_of(page))
        self._tell(PageStored(number, page.rows, quality.bad_rows))

    def _page_sent(self, s: Statistics) -> None:
        while len(self._qualities) < self._sent_before + s.pages_sent:
            self._retries += s.ecm_retries
            self._qualities.append(
                PageQuality(s.rows, 0, 0, s.bit_rate, s.ecm, s.ecm_retries, s.encoding, "t38" if self._t38 else "g711")
            )
            self._tell(PageStored(len(self._qualities), s.rows, 0))

    def frame(self, run: _Run, sent: bool, field: int) -> None:
        """A control frame."""
        if run is not self._run:
            return
        if sent:
            if not self._told_preamble:
                self._told_preamble = True
                self._tell(PreambleSent())
            if not self._machine.document:
                self.rtp_events += field == Frame.RTP
                self.rtn_events += field == Frame.RTN
            return
        self._progress = self._ticks
        if self._machine.document:
            self.rtp_events += field == Frame.RTP
            self.rtn_events += field == Frame.RTN

    def ended(self, run: _Run, code: int) -> None:
        """T.30 is over."""
        if run is self._run and self._code is None:
            self._code = code

    # -- private

    def _terminal(self, run: _Run, modems: Modem) -> Terminal:
        machine = self._machine
        return Terminal(
            machine.document is not None,
            machine.document or run.path,
            machine.ident,
            modems,
            machine.ecm,
            len(self._qualities),
        )

    def _begin_run(self) -> _Run:
        self._sent_before = len(self._qualities)
        self._run = _Run(self)
        return self._run

    def _end_run(self) -> None:
        self._note()
        run, self._run = self._run, None
        for engine in (self._audio, self._t38):
            if engine is not None:
                # Without a run its last words reach nobody.
                engine.terminate()
                engine.close()
        self._audio = self._t38 = None
        self._cng = None
        if run is not None:
            run.close()

    def _note(self) -> None:
        engine = self._audio or self._t38
        if engine is not None:
            self._statistics = engine.statistics()
            self._ident = engine.remote_ident() or self._ident
            self._model = engine.remote_model() or self._model

    def _listen(self, samples: Any) -> None:
        assert self._cng is not None
        if self._cng.heard(samples):
            self._cng = None
            self._tell(CngHeard())
        elif self._ticks > _CNG_TICKS:
            self._cng = None

    def _obey(self) -> None:
        engine = self._audio or self._t38
        if self._mute and engine is not None:
            engine.terminate()

    def _pass_time(self) -> None:
        self._ticks += 1
        self._obey()
        engine = self._audio or self._t38
        if self._ticks % _CHECK_EVERY == 0 and engine is not None and not self._machine.document:
            self._watch(engine)

    def _watch(self, engine: AudioTerminal | T38Terminal) -> None:
        lines = engine.statistics().rows
        if lines != self._lines:
            self._lines, self._progress = lines, self._ticks
        if lines > MAX_ROWS:
            self._stop(TOO_LONG)
            engine.terminate()
        elif self._ticks - self._progress > PATIENCE * 50:
            self._stop(STALLED)
            engine.terminate()

    def _stop(self, code: int) -> None:
        self._mute = True
        if self._code is None:
            self._code = code


class _Run:
    """One life of a T.30 engine, with the TIFF that spandsp writes: in memory, so that no copy is left on the disk."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._descriptor = os.memfd_create("fax", os.MFD_CLOEXEC)
        self.path = f"/proc/self/fd/{self._descriptor}"
        self.pages = Pages(self._descriptor)
        self.taken = 0

    def on_page(self, statistics: Statistics) -> None:
        self._station.page(self, statistics)

    def on_frame(self, sent: bool, field: int) -> None:
        self._station.frame(self, sent, field)

    def on_end(self, code: int) -> None:
        self._station.ended(self, code)

    def close(self) -> None:
        os.close(self._descriptor)
