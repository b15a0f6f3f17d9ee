"""INVITE client transaction (RFC 3261 section 17.1.1 and figure 5, RFC 6026 section 7.2).

Timer A repeats the INVITE, B gives up on a silent peer, D absorbs repeated failures, M lets repeated and forked 2xx
reach the user. Beyond section 17: Timer C (16.6) ends a ringing that never ends, and a wish to cancel (9.1) waits for
a provisional response; 64*T1 after the CANCEL a peer that still sent no final response is given up ("give up").
A connection lost after a failure concerns nobody any more and only ends the transaction; one lost after a 2xx changes
nothing, since the peer may repeat the 2xx over another.
"""

from __future__ import annotations

from edge.sip.transaction.model import Action as A
from edge.sip.transaction.model import Input as I
from edge.sip.transaction.model import State as S
from edge.sip.transaction.model import Table

_ACCEPT = (S.ACCEPTED, (A.STOP, A.TO_USER, A.START_M))
_COMPLETE = (S.COMPLETED, (A.STOP, A.SEND_ACK, A.TO_USER, A.START_D))
_GIVE_UP = (S.TERMINATED, (A.TIMED_OUT,))
_FAIL = (S.TERMINATED, (A.TRANSPORT_FAILED,))

START = S.CALLING

TABLE: Table = {
    (S.CALLING, I.START): (S.CALLING, (A.SEND, A.START_A, A.START_B)),
    (S.CALLING, I.TIMER_A): (S.CALLING, (A.RESEND, A.BACK_OFF_A)),
    (S.CALLING, I.TIMER_B): _GIVE_UP,
    (S.CALLING, I.PROVISIONAL): (S.PROCEEDING, (A.STOP, A.TO_USER, A.START_C)),
    (S.CALLING, I.SUCCESS): _ACCEPT,
    (S.CALLING, I.FAILURE): _COMPLETE,
    (S.CALLING, I.CANCEL): (S.CANCEL_WANTED, ()),
    (S.CALLING, I.TRANSPORT_ERROR): _FAIL,
    (S.CANCEL_WANTED, I.TIMER_A): (S.CANCEL_WANTED, (A.RESEND, A.BACK_OFF_A)),
    (S.CANCEL_WANTED, I.TIMER_B): _GIVE_UP,
    (S.CANCEL_WANTED, I.PROVISIONAL): (S.CANCELLING, (A.STOP, A.TO_USER, A.SEND_CANCEL, A.START_GIVE_UP)),
    (S.CANCEL_WANTED, I.SUCCESS): _ACCEPT,
    (S.CANCEL_WANTED, I.FAILURE): _COMPLETE,
    (S.CANCEL_WANTED, I.TRANSPORT_ERROR): _FAIL,
    (S.PROCEEDING, I.PROVISIONAL): (S.PROCEEDING, (A.STOP, A.TO_USER, A.START_C)),
    (S.PROCEEDING, I.SUCCESS): _ACCEPT,
    (S.PROCEEDING, I.FAILURE): _COMPLETE,
    (S.PROCEEDING, I.CANCEL): (S.CANCELLING, (A.STOP, A.SEND_CANCEL, A.START_GIVE_UP)),
    (S.PROCEEDING, I.TIMER_C): (S.CANCELLING, (A.STOP, A.SEND_CANCEL, A.START_GIVE_UP)),
    (S.PROCEEDING, I.TRANSPORT_ERROR): _FAIL,
    (S.CANCELLING, I.PROVISIONAL): (S.CANCELLING, (A.TO_USER,)),
    (S.CANCELLING, I.SUCCESS): _ACCEPT,
    (S.CANCELLING, I.FAILURE): _COMPLETE,
    (S.CANCELLING, I.TIMER_GIVE_UP): _GIVE_UP,
    (S.CANCELLING, I.TRANSPORT_ERROR): _FAIL,
    (S.ACCEPTED, I.SUCCESS): (S.ACCEPTED, (A.TO_USER,)),
    (S.ACCEPTED, I.TIMER_M): (S.TERMINATED, ()),
    (S.COMPLETED, I.FAILURE): (S.COMPLETED, (A.RESEND,)),
    (S.COMPLETED, I.TIMER_D): (S.TERMINATED, ()),
    (S.COMPLETED, I.TRANSPORT_ERROR): (S.TERMINATED, ()),
}
