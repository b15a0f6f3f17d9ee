"""A 2xx to an INVITE, resent until its ACK comes (RFC 3261 section 13.3.1.4)."""

from __future__ import annotations

from collections.abc import Callable

from edge.b2bua.port import LegPort, Timer
from edge.sip.message import Response
from edge.sip.timers import TimerConfig
from edge.sip.transaction.key import TransactionId


class FinalAnswer:
    """Resends one 2xx at T1, 2*T1 ... T2 over any transport, and gives up after 64*T1."""

    __slots__ = ("_delay", "_left", "_on_no_ack", "_port", "_t2", "_timer", "cseq", "response", "tx")

    def __init__(
        self, port: LegPort, tx: TransactionId, response: Response, timers: TimerConfig, on_no_ack: Callable[[], None]
    ) -> None:
        self.cseq = response.cseq.number
        self._port = port
        self.tx = tx
        self.response = response
        self._t2 = timers.t2
        self._delay = timers.t1
        self._left = 64 * timers.t1
        self._on_no_ack = on_no_ack
        port.respond(tx, response)
        self._timer: Timer = port.later(self._delay, self._fired)

    def acknowledged(self) -> None:
        """The ACK came."""
        self._timer.cancel()

    def _fired(self) -> None:
        self._left -= self._delay
        if self._left <= 0:
            self._on_no_ack()
            return
        self._port.respond(self.tx, self.response)
        self._delay = min(2 * self._delay, self._t2, self._left)
        self._timer = self._port.later(self._delay, self._fired)
