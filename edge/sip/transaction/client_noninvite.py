"""Non-INVITE client transaction (RFC 3261 section 17.1.2 and figure 6).

Timer E repeats the request, after a provisional response at T2; F gives up; K absorbs repeated final responses.
"""

from __future__ import annotations

from edge.sip.transaction.model import Action as A
from edge.sip.transaction.model import Input as I
from edge.sip.transaction.model import State as S
from edge.sip.transaction.model import Table

_COMPLETE = (S.COMPLETED, (A.STOP, A.TO_USER, A.START_K))
_GIVE_UP = (S.TERMINATED, (A.TIMED_OUT,))
_FAIL = (S.TERMINATED, (A.TRANSPORT_FAILED,))

START = S.TRYING

TABLE: Table = {
    (S.TRYING, I.START): (S.TRYING, (A.SEND, A.START_E, A.START_F)),
    (S.TRYING, I.TIMER_E): (S.TRYING, (A.RESEND, A.BACK_OFF_E)),
    (S.TRYING, I.TIMER_F): _GIVE_UP,
    (S.TRYING, I.PROVISIONAL): (S.PROCEEDING, (A.TO_USER,)),
    (S.TRYING, I.SUCCESS): _COMPLETE,
    (S.TRYING, I.FAILURE): _COMPLETE,
    (S.TRYING, I.TRANSPORT_ERROR): _FAIL,
    (S.PROCEEDING, I.TIMER_E): (S.PROCEEDING, (A.RESEND, A.SLOW_E)),
    (S.PROCEEDING, I.TIMER_F): _GIVE_UP,
    (S.PROCEEDING, I.PROVISIONAL): (S.PROCEEDING, (A.TO_USER,)),
    (S.PROCEEDING, I.SUCCESS): _COMPLETE,
    (S.PROCEEDING, I.FAILURE): _COMPLETE,
    (S.PROCEEDING, I.TRANSPORT_ERROR): _FAIL,
    (S.COMPLETED, I.TIMER_K): (S.TERMINATED, ()),
    (S.COMPLETED, I.TRANSPORT_ERROR): (S.TERMINATED, ()),
}
