"""Provisional responses that are resent until their PRACK (RFC 3262 section 3)."""

from __future__ import annotations

from collections.abc import Callable

from edge.b2bua.port import LegPort, Timer
from edge.sip.dialog.reliable import Provisionals, RAck
from edge.sip.message import Request, Response
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId


class ReliableProgress:
    """Sends the provisional responses of one INVITE, one after the other; each at 0, T1, 3*T1, 7*T1 ... for 64*T1."""

    __slots__ = ("_delay", "_left", "_on_no_prack", "_port", "_responses", "_timer", "_timers", "_tx", "wanted_for_all")

    def __init__(
        self,
        port: LegPort,
        tx: TransactionId,
        request: Request,
        timers: TimerConfig,
        on_no_prack: Callable[[], None],
        *,
        wanted_for_all: bool,
    ) -> None:
        """`wanted_for_all`: the caller requires it; else it only supports it, and descriptions alone are worth it."""
        self.wanted_for_all = wanted_for_all
        self._port = port
        self._tx = tx
        self._timers = timers
        self._on_no_prack = on_no_prack
        self._responses = Provisionals(request.cseq.number, port.ids.token())
        self._delay = 0.0
        self._left = 0.0
        self._timer: Timer | None = None

    @property
    def open(self) -> bool:
        """True while the PRACK of a description is missing: the 2xx has to wait for it."""
        return self._responses.open

    def send(self, response: Response) -> None:
        """Send it now, or after those before it."""
        self._begin(self._responses.send(response))

    def acknowledged(self, prack: Request) -> bool:
        """A PRACK came; False where it is of nothing that was sent. `go_on` follows, once it has its answer."""
        if not self._responses.acknowledge(RAck.of(prack)):
            return False
        if self._responses.on_the_way is None:
            self._stop()
        return True

    def go_on(self) -> None:
        """Send what waited for a PRACK."""
        self._begin(self._responses.next())

    def end(self) -> None:
        """A final response leaves: nothing is resent any more, a late PRACK is still known."""
        self._stop()
        self._responses.give_up_waiting()

    def _begin(self, response: Response | None) -> None:
        if response is None:
            return
        self._delay = self._timers.t1
        self._left = 64 * self._timers.t1
        self._port.respond(self._tx, response)
        self._timer = self._port.later(self._delay, self._again)

    def _again(self) -> None:
        response = self._responses.on_the_way
        self._left -= self._delay
        if response is None:
            return
        if self._left <= 0:
            self._timer = None
            self._on_no_prack()
            return
        self._port.respond(self._tx, response)
        self._delay = min(2 * self._delay, self._left)
        self._timer = self._port.later(self._delay, self._again)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
