"""Words of the four transaction machines (RFC 3261 section 17, RFC 6026): states, inputs, actions, tables.

A machine is a table `(state, input) -> (next state, actions)` and nothing else; a pair that is not in it is ignored.
The layer looks inputs up, runs the actions in their order and keeps the timers. A transaction has at most two timers:
one that retransmits (A, E, G, and the 100 Trying of an INVITE server) and one that ends a state (all others).
Reliable transports use the same tables: there retransmission timers are never started, and D, I, J, K are 0 s long.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """States. CANCEL_WANTED and CANCELLING are Calling and Proceeding of an INVITE whose user gave up (section 9.1)."""

    CALLING = "calling"
    CANCEL_WANTED = "cancel wanted"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    CANCELLING = "cancelling"
    IGNORING = "ignoring"
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class Input(StrEnum):
    """What a machine hears: from the wire, from its user, from its timers, from the transport.

    `1xx`, `2xx` and `3xx-6xx` are responses: received ones for clients, ones of the user for servers.
    """

    START = "start"
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "3xx-6xx"
    REQUEST = "request"
    ACK = "ACK"
    CANCEL = "cancel"
    IGNORE = "ignore"
    TRANSPORT_ERROR = "transport error"
    TIMER_A = "timer A"
    TIMER_B = "timer B"
    TIMER_C = "timer C"
    TIMER_D = "timer D"
    TIMER_E = "timer E"
    TIMER_F = "timer F"
    TIMER_G = "timer G"
    TIMER_H = "timer H"
    TIMER_I = "timer I"
    TIMER_J = "timer J"
    TIMER_K = "timer K"
    TIMER_L = "timer L"
    TIMER_M = "timer M"
    TIMER_TRYING = "timer 100"
    TIMER_GIVE_UP = "timer give up"


class Action(StrEnum):
    """What the layer does. RESEND repeats the bytes sent last; START_A, E and G begin at T1, BACK_OFF goes on."""

    SEND = "send"
    RESEND = "resend"
    SEND_ACK = "send ACK"
    SEND_CANCEL = "send CANCEL"
    SEND_TRYING = "send 100"
    TO_USER = "to user"
    TIMED_OUT = "timed out"
    TRANSPORT_FAILED = "transport failed"
    STOP = "stop timers"
    BACK_OFF_A = "double A"
    BACK_OFF_E = "double E up to T2"
    BACK_OFF_G = "double G up to T2"
    SLOW_E = "E at T2"
    START_A = "start A"
    START_B = "start B"
    START_C = "start C"
    START_D = "start D"
    START_E = "start E"
    START_F = "start F"
    START_G = "start G"
    START_H = "start H"
    START_I = "start I"
    START_J = "start J"
    START_K = "start K"
    START_L = "start L"
    START_M = "start M"
    START_TRYING = "start 100"
    START_GIVE_UP = "start give up"


Table = dict[tuple[State, Input], tuple[State, tuple[Action, ...]]]


def kind_of(status: int) -> Input:
    """The input that a status is."""
    return Input.PROVISIONAL if status < 200 else Input.SUCCESS if status < 300 else Input.FAILURE
