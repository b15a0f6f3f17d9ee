"""INVITE server transaction (RFC 3261 section 17.2.1 and figure 7, RFC 6026 section 7.1).

A user that says nothing for 200 ms is spoken for with 100. G repeats a failure until the ACK, H ends the wait for it,
I absorbs repeated ACKs, L keeps the transaction after a 2xx, which the user repeats and whose ACK it hears.
A response that could not be sent is told to the user and changes no state (RFC 6026 section 8.8). IGNORING is ours:
a request that is owed no answer (a scanner's) stays known for 64*T1, so that its retransmissions cost nothing.
"""

from __future__ import annotations

from edge.sip.transaction.model import Action as A
from edge.sip.transaction.model import Input as I
from edge.sip.transaction.model import State as S
from edge.sip.transaction.model import Table

START = S.PROCEEDING

TABLE: Table = {
    (S.PROCEEDING, I.START): (S.PROCEEDING, (A.START_TRYING, A.TO_USER)),
    (S.PROCEEDING, I.TIMER_TRYING): (S.PROCEEDING, (A.SEND_TRYING,)),
    (S.PROCEEDING, I.REQUEST): (S.PROCEEDING, (A.RESEND,)),
    (S.PROCEEDING, I.PROVISIONAL): (S.PROCEEDING, (A.STOP, A.SEND)),
    (S.PROCEEDING, I.SUCCESS): (S.ACCEPTED, (A.STOP, A.SEND, A.START_L)),
    (S.PROCEEDING, I.FAILURE): (S.COMPLETED, (A.STOP, A.SEND, A.START_G, A.START_H)),
    (S.PROCEEDING, I.IGNORE): (S.IGNORING, (A.STOP, A.START_GIVE_UP)),
    (S.PROCEEDING, I.TRANSPORT_ERROR): (S.PROCEEDING, (A.TRANSPORT_FAILED,)),
    (S.IGNORING, I.TIMER_GIVE_UP): (S.TERMINATED, ()),
    (S.ACCEPTED, I.SUCCESS): (S.ACCEPTED, (A.SEND,)),
    (S.ACCEPTED, I.ACK): (S.ACCEPTED, (A.TO_USER,)),
    (S.ACCEPTED, I.TIMER_L): (S.TERMINATED, ()),
    (S.ACCEPTED, I.TRANSPORT_ERROR): (S.ACCEPTED, (A.TRANSPORT_FAILED,)),
    (S.COMPLETED, I.REQUEST): (S.COMPLETED, (A.RESEND,)),
    (S.COMPLETED, I.TIMER_G): (S.COMPLETED, (A.RESEND, A.BACK_OFF_G)),
    (S.COMPLETED, I.TIMER_H): (S.TERMINATED, (A.TIMED_OUT,)),
    (S.COMPLETED, I.ACK): (S.CONFIRMED, (A.STOP, A.START_I)),
    (S.COMPLETED, I.TRANSPORT_ERROR): (S.COMPLETED, (A.TRANSPORT_FAILED,)),
    (S.CONFIRMED, I.TIMER_I): (S.TERMINATED, ()),
}
