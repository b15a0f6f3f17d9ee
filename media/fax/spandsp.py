"""libspandsp2: T.30 over audio and over T.38 (Debian's 0.0.6), through cffi.

ABI mode: nothing is compiled where we are installed, so no compiler and no headers are needed. It is safe here because
all of the library's objects are opaque to us; the one struct that we read (`t30_stats_t`) is given ten times the room
it needs. `library()` refuses a library whose interface differs (3.x has other phase handlers and other enums).

The library calls back in the middle of its work. What a callback raises is kept and raised by the next method that
returns to us, so no exception crosses C frames.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol

from cffi import FFI

SONAME: Final = "libspandsp.so.2"
FRAME: Final = 160
"""Samples in a tick of 20 ms at 8 kHz."""


class SpandspError(Exception):
    """The library is missing, of another version, or refuses what it was asked."""


class Frame(enum.IntEnum):
    """Facsimile control fields that matter to us (T.30 section 5.3.6.1), without the bit that says who sends."""

    DIS = 0x80
    CFR = 0x84
    FTT = 0x44
    MCF = 0x8C
    RTP = 0xCC
    RTN = 0x4C
    PPR = 0xBC
    DCS = 0x82
    DCN = 0xFA


class Modem(enum.IntFlag):
    """Modems for pages."""

    V27TER = 1
    V29 = 2
    V17 = 4


UP_TO_9600: Final = Modem.V27TER | Modem.V29
UP_TO_14400: Final = Modem.V27TER | Modem.V29 | Modem.V17

# Bits of t30_set_supported_compressions, _resolutions and _image_sizes.
_COMPRESSIONS = 0x02 | 0x04 | 0x08  # MH, MR, MMR
_RESOLUTIONS = 0x01 | 0x02 | 0x04 | 0x20000  # standard, fine, superfine; R8
_SIZES = 0x01 | 0x02 | 0x04 | 0x10000 | 0x20000 | 0x40000 | 0x80000 | 0x100000  # A4, B4, A3 wide, any length
_T6 = 3
_ENCODINGS = {0: "none", 1: "MH", 2: "MR", 3: "MMR"}
_CNG_TONE = 1
_CALL_DROPPED = 49

_DECLARATIONS = """
typedef struct t30_state_s t30_state_t;
typedef struct fax_state_s fax_state_t;
typedef struct t38_terminal_state_s t38_terminal_state_t;
typedef struct t38_core_state_s t38_core_state_t;
typedef struct g711_state_s g711_state_t;
typedef struct modem_connect_tones_rx_state_s modem_connect_tones_rx_state_t;
typedef struct {
    int bit_rate, error_correcting_mode, pages_tx, pages_rx, pages_in_file, x_resolution, y_resolution, width, length,
        image_size, encoding, bad_rows, longest_bad_row_run, error_correcting_mode_retries, current_status;
    int room[135];
} t30_stats_t;

typedef int (*phase_handler)(t30_state_t *, void *, int);
typedef void (*phase_e_handler)(t30_state_t *, void *, int);
typedef void (*frame_handler)(t30_state_t *, void *, int, const uint8_t *, int);
typedef int (*packet_handler)(t38_core_state_t *, void *, const uint8_t *, int, int);

fax_state_t *fax_init(fax_state_t *, int calling);
int fax_rx(fax_state_t *, int16_t *, int);
int fax_rx_fillin(fax_state_t *, int);
int fax_tx(fax_state_t *, int16_t *, int);
void fax_set_transmit_on_idle(fax_state_t *, int);
t30_state_t *fax_get_t30_state(fax_state_t *);
int fax_free(fax_state_t *);

t38_terminal_state_t *t38_terminal_init(t38_terminal_state_t *, int calling, packet_handler, void *);
int t38_terminal_send_timeout(t38_terminal_state_t *, int);
t30_state_t *t38_terminal_get_t30_state(t38_terminal_state_t *);
t38_core_state_t *t38_terminal_get_t38_core_state(t38_terminal_state_t *);
int t38_terminal_free(t38_terminal_state_t *);
int t38_core_rx_ifp_packet(t38_core_state_t *, const uint8_t *, int, uint16_t);
void t38_set_t38_version(t38_core_state_t *, int);
void t38_set_fastest_image_data_rate(t38_core_state_t *, int);

int t30_set_tx_ident(t30_state_t *, const char *);
const char *t30_get_rx_ident(t30_state_t *);
const char *t30_get_rx_vendor(t30_state_t *);
const char *t30_get_rx_model(t30_state_t *);
void t30_set_rx_file(t30_state_t *, const char *, int);
void t30_set_tx_file(t30_state_t *, const char *, int, int);
int t30_set_rx_encoding(t30_state_t *, int);
int t30_set_ecm_capability(t30_state_t *, int);
int t30_set_supported_modems(t30_state_t *, int);
int t30_set_supported_compressions(t30_state_t *, int);
int t30_set_supported_resolutions(t30_state_t *, int);
int t30_set_supported_image_sizes(t30_state_t *, int);
void t30_set_phase_d_handler(t30_state_t *, phase_handler, void *);
void t30_set_phase_e_handler(t30_state_t *, phase_e_handler, void *);
void t30_set_real_time_frame_handler(t30_state_t *, frame_handler, void *);
void t30_get_transfer_statistics(t30_state_t *, t30_stats_t *);
void t30_terminate(t30_state_t *);
const char *t30_completion_code_to_str(int);

g711_state_t *g711_init(g711_state_t *, int);
int g711_decode(g711_state_t *, int16_t *, const uint8_t *, int);
int g711_encode(g711_state_t *, uint8_t *, const int16_t *, int);
int g711_free(g711_state_t *);

modem_connect_tones_rx_state_t *modem_connect_tones_rx_init(modem_connect_tones_rx_state_t *, int, void *, void *);
int modem_connect_tones_rx(modem_connect_tones_rx_state_t *, const int16_t *, int);
int modem_connect_tones_rx_get(modem_connect_tones_rx_state_t *);
int modem_connect_tones_rx_free(modem_connect_tones_rx_state_t *);
"""

_ffi = FFI()
_ffi.cdef(_DECLARATIONS)


@cache
def library() -> Any:
    """The loaded library. Raises SpandspError with the remedy."""
    try:
        lib = _ffi.dlopen(SONAME)
    except OSError as error:
        raise SpandspError(f"{SONAME} cannot be loaded ({error}); on Debian: apt-get install libspandsp2") from None
    try:
        # 3.x renamed it; phase handlers and enums changed with it.
        assert lib.t30_set_supported_resolutions
    except AttributeError:
        raise SpandspError(f"{SONAME} is not version 0.0.6; on Debian 12: apt-get install libspandsp2") from None
    return lib


@dataclass(frozen=True, slots=True)
class Statistics:
    """State of the exchange; page figures are those of the page that is or was last under way.

    `x_per_metre`, `y_per_metre`: pixels. `encoding`: MH, MR or MMR on the line. `ecm_retries`: HDLC frames of the page
    asked for again. `status`: completion code so far.
    """

    bit_rate: int
    ecm: bool
    pages_sent: int
    pages_received: int
    x_per_metre: int
    y_per_metre: int
    width: int
    rows: int
    encoding: str
    bad_rows: int
    longest_bad_run: int
    ecm_retries: int
    status: int


class Listener(Protocol):
    """What the T.30 engine tells."""

    def on_page(self, statistics: Statistics) -> None:
        """A page ended and its confirmation is about to be queued; when sending: a page was confirmed or refused."""

    def on_frame(self, sent: bool, field: int) -> None:
        """A control frame was sent or received (`Frame` names those that matter)."""

    def on_end(self, code: int) -> None:
        """The exchange is over, with T.30's completion code."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """What our terminal is. `path`: the TIFF to send when `calling`, else where pages are to be written.

    `ident`: up to 20 characters, our CSI or TSI. `start_page`: the first to send, from 0.
    """

    calling: bool
    path: str
    ident: str = ""
    modems: Modem = UP_TO_14400
    ecm: bool = True
    start_page: int = 0


class _T30:
    """What both kinds of terminal share. Not for use after `close`."""

    def __init__(self, listener: Listener) -> None:
        self._lib = library()
        self._listener = listener
        self._handle = _ffi.new_handle(self)
        self._stats = _ffi.new("t30_stats_t *")
        self._fault: BaseException | None = None
        self._t30: Any = None

    def _configure(self, terminal: Terminal) -> None:
        lib, t30 = self._lib, self._t30
        lib.t30_set_tx_ident(t30, terminal.ident[:20].encode("ascii", "replace"))
        lib.t30_set_ecm_capability(t30, int(terminal.ecm))
        lib.t30_set_supported_modems(t30, int(terminal.modems))
        lib.t30_set_supported_compressions(t30, _COMPRESSIONS)
        lib.t30_set_supported_resolutions(t30, _RESOLUTIONS)
        lib.t30_set_supported_image_sizes(t30, _SIZES)
        # Lossless, and what PDF takes as it is.
        lib.t30_set_rx_encoding(t30, _T6)
        if terminal.calling:
            lib.t30_set_tx_file(t30, terminal.path.encode(), terminal.start_page or -1, -1)
        else:
            lib.t30_set_rx_file(t30, terminal.path.encode(), -1)
        lib.t30_set_phase_d_handler(t30, _on_phase_d, self._handle)
        lib.t30_set_phase_e_handler(t30, _on_phase_e, self._handle)
        lib.t30_set_real_time_frame_handler(t30, _on_frame, self._handle)

    def statistics(self) -> Statistics:
        """Where the exchange is."""
        s = self._stats
        self._lib.t30_get_transfer_statistics(self._t30, s)
        return Statistics(
            s.bit_rate,
            bool(s.error_correcting_mode),
            s.pages_tx,
            s.pages_rx,
            s.x_resolution,
            s.y_resolution,
            s.width,
            s.length,
            _ENCODINGS.get(s.encoding, str(s.encoding)),
            s.bad_rows,
            s.longest_bad_row_run,
            s.error_correcting_mode_retries,
            s.current_status,
        )

    def remote_ident(self) -> str:
        """The far end's TSI or CSI, trimmed; empty where it sent none."""
        return _text(self._lib.t30_get_rx_ident(self._t30))

    def remote_model(self) -> str:
        """Vendor and model of the far end where its NSF tells them; else empty."""
        lib, t30 = self._lib, self._t30
        return " ".join(filter(None, (_text(lib.t30_get_rx_vendor(t30)), _text(lib.t30_get_rx_model(t30)))))

    def terminate(self) -> None:
        """The call is gone: `on_end` follows at once, if it has not come yet."""
        self._lib.t30_terminate(self._t30)
        self._raise_fault()

    def keep(self, error: BaseException) -> None:
        """Remember what a callback raised."""
        self._fault = self._fault or error

    def _raise_fault(self) -> None:
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault

    @property
    def listener(self) -> Listener:
        """Who is told."""
        return self._listener


class AudioTerminal(_T30):
    """T.30 over audio, 16 bit samples at 8 kHz in ticks of `FRAME`."""

    def __init__(self, terminal: Terminal, listener: Listener) -> None:
        super().__init__(listener)
        lib = self._lib
        self._fax = lib.fax_init(_ffi.NULL, int(terminal.calling))
        if not self._fax:
            raise SpandspError("no memory for a fax terminal")
        lib.fax_set_transmit_on_idle(self._fax, 1)
        self._t30 = lib.fax_get_t30_state(self._fax)
        self._configure(terminal)
        self._samples = _ffi.new("int16_t[]", FRAME)

    def hear(self, samples: Any) -> None:
        """Take one tick of samples (an int16 buffer of `FRAME`)."""
        self._lib.fax_rx(self._fax, samples, FRAME)
        self._raise_fault()

    def miss(self) -> None:
        """A tick whose packet was lost."""
        self._lib.fax_rx_fillin(self._fax, FRAME)
        self._raise_fault()

    def speak(self) -> Any:
        """One tick of samples to send; the buffer is reused by the next call."""
        made = self._lib.fax_tx(self._fax, self._samples, FRAME)
        for index in range(made, FRAME):
            self._samples[index] = 0
        self._raise_fault()
        return self._samples

    def close(self) -> None:
        """Give its memory back."""
        if self._fax:
            self._lib.fax_free(self._fax)
            self._fax = None


class T38Terminal(_T30):
    """T.30 over IFP packets of T.38 version 0. `send(ifp, times)` takes packets and how often each is to be sent."""

    def __init__(
        self, terminal: Terminal, listener: Listener, send: Callable[[bytes, int], None], max_bit_rate: int = 14400
    ) -> None:
        super().__init__(listener)
        lib = self._lib
        self.send = send
        self._t38 = lib.t38_terminal_init(_ffi.NULL, int(terminal.calling), _on_packet, self._handle)
        if not self._t38:
            raise SpandspError("no memory for a T.38 terminal")
        self._core = lib.t38_terminal_get_t38_core_state(self._t38)
        lib.t38_set_t38_version(self._core, 0)
        lib.t38_set_fastest_image_data_rate(self._core, max_bit_rate)
        self._t30 = lib.t38_terminal_get_t30_state(self._t38)
        self._configure(terminal)

    def tick(self) -> None:
        """20 ms have passed."""
        self._lib.t38_terminal_send_timeout(self._t38, FRAME)
        self._raise_fault()

    def hear(self, ifp: bytes, sequence: int) -> bool:
        """Take a packet; False where it is not T.38."""
        good: bool = self._lib.t38_core_rx_ifp_packet(self._core, ifp, len(ifp), sequence & 0xFFFF) == 0
        self._raise_fault()
        return good

    def close(self) -> None:
        """Give its memory back."""
        if self._t38:
            self._lib.t38_terminal_free(self._t38)
            self._t38 = None


class G711:
    """A-law or mu-law to samples and back, in ticks of `FRAME`."""

    def __init__(self, alaw: bool) -> None:
        self._lib = library()
        self._state = _ffi.gc(self._lib.g711_init(_ffi.NULL, 0 if alaw else 1), self._lib.g711_free)
        self._samples = _ffi.new("int16_t[]", FRAME)
        self._bytes = _ffi.new("uint8_t[]", FRAME)
        self._view = _ffi.buffer(self._bytes)
        self.silence = (b"\xd5" if alaw else b"\xff") * FRAME

    def decode(self, payload: bytes) -> Any:
        """Samples of `FRAME` octets; the buffer is reused by the next call."""
        self._lib.g711_decode(self._state, self._samples, payload, FRAME)
        return self._samples

    def encode(self, samples: Any) -> bytes:
        """`FRAME` octets."""
        self._lib.g711_encode(self._state, self._bytes, samples, FRAME)
        return self._view[:]  # type: ignore[no-any-return]


class CngDetector:
    """Hears the calling tone of a fax (1100 Hz, T.30 section 4.2)."""

    def __init__(self) -> None:
        self._lib = library()
        made = self._lib.modem_connect_tones_rx_init(_ffi.NULL, _CNG_TONE, _ffi.NULL, _ffi.NULL)
        self._state = _ffi.gc(made, self._lib.modem_connect_tones_rx_free)

    def heard(self, samples: Any) -> bool:
        """Whether the tone was heard by the end of this tick."""
        self._lib.modem_connect_tones_rx(self._state, samples, FRAME)
        return bool(self._lib.modem_connect_tones_rx_get(self._state) == _CNG_TONE)


def completion_text(code: int) -> str:
    """A completion code in the library's words."""
    return _text(library().t30_completion_code_to_str(code))


CALL_DROPPED: Final = _CALL_DROPPED
"""Completion code of a call that ended before its fax did (T30_ERR_CALLDROPPED)."""


def _text(pointer: Any) -> str:
    return _ffi.string(pointer).decode("latin-1").strip() if pointer else ""


@_ffi.callback("int(t30_state_t *, void *, int)")  # type: ignore[untyped-decorator]
def _on_phase_d(_state: Any, user: Any, _result: int) -> int:
    t30: _T30 = _ffi.from_handle(user)
    try:
        t30.listener.on_page(t30.statistics())
    except BaseException as error:  # raised again by the method that called the library
        t30.keep(error)
    return 0


@_ffi.callback("void(t30_state_t *, void *, int)")  # type: ignore[untyped-decorator]
def _on_phase_e(_state: Any, user: Any, code: int) -> None:
    t30: _T30 = _ffi.from_handle(user)
    try:
        t30.listener.on_end(code)
    except BaseException as error:
        t30.keep(error)


@_ffi.callback("void(t30_state_t *, void *, int, const uint8_t *, int)")  # type: ignore[untyped-decorator]
def _on_frame(_state: Any, user: Any, received: int, message: Any, length: int) -> None:
    t30: _T30 = _ffi.from_handle(user)
    try:
        if length >= 3:
            t30.listener.on_frame(not received, message[2] & 0xFE)
    except BaseException as error:
        t30.keep(error)


@_ffi.callback("int(t38_core_state_t *, void *, const uint8_t *, int, int)")  # type: ignore[untyped-decorator]
def _on_packet(_state: Any, user: Any, data: Any, length: int, times: int) -> int:
    terminal: T38Terminal = _ffi.from_handle(user)
    try:
        terminal.send(_ffi.buffer(data, length)[:], times)
    except BaseException as error:
        terminal.keep(error)
    return 0
