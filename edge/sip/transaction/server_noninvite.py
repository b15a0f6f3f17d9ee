"""Non-INVITE server transaction (RFC 3261 section 17.2.2 and figure 8).

J absorbs repeated requests. A response that could not be sent is told to the user and changes no state (RFC 6026
section 8.8). Beyond section 17: 64*T1 after the request its client has given up, so an answer would be useless
(RFC 4320 section 4.2) and the transaction ends ("give up").
"""

from __future__ import annotations

from edge.sip.transaction.model import Action as A
from edge.sip.transaction.model import Input as I
from edge.sip.transaction.model import State as S
from edge.sip.transaction.model import Table

_COMPLETE = (S.COMPLETED, (A.STOP, A.SEND, A.START_J))

START = S.TRYING

TABLE: Table = {
    (S.TRYING, I.START): (S.TRYING, (A.START_GIVE_UP, A.TO_USER)),
    (S.TRYING, I.PROVISIONAL): (S.PROCEEDING, (A.SEND,)),
    (S.TRYING, I.SUCCESS): _COMPLETE,
    (S.TRYING, I.FAILURE): _COMPLETE,
    (S.TRYING, I.IGNORE): (S.IGNORING, ()),
    (S.TRYING, I.TIMER_GIVE_UP): (S.TERMINATED, ()),
    (S.PROCEEDING, I.REQUEST): (S.PROCEEDING, (A.RESEND,)),
    (S.PROCEEDING, I.PROVISIONAL): (S.PROCEEDING, (A.SEND,)),
    (S.PROCEEDING, I.SUCCESS): _COMPLETE,
    (S.PROCEEDING, I.FAILURE): _COMPLETE,
    (S.PROCEEDING, I.TRANSPORT_ERROR): (S.PROCEEDING, (A.TRANSPORT_FAILED,)),
    (S.PROCEEDING, I.TIMER_GIVE_UP): (S.TERMINATED, ()),
    (S.IGNORING, I.TIMER_GIVE_UP): (S.TERMINATED, ()),
    (S.COMPLETED, I.REQUEST): (S.COMPLETED, (A.RESEND,)),
    (S.COMPLETED, I.TRANSPORT_ERROR): (S.COMPLETED, (A.TRANSPORT_FAILED,)),
    (S.COMPLETED, I.TIMER_J): (S.TERMINATED, ()),
}
