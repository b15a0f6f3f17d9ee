"""Transactions as values, so that a process that takes over another's calls takes over what they wait for. Pure.

The request is not among them: whoever has the transaction has its request too, and keeps it once for both.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.sip.flow import Flow
from edge.sip.message import Request
from edge.sip.transaction import client_invite, client_noninvite, server_invite, server_noninvite
from edge.sip.transaction.key import TransactionId
from edge.sip.transaction.layer import Transaction, TransactionLayer
from edge.sip.transaction.model import Action as A
from edge.sip.transaction.model import State as S


@dataclass(slots=True)
class SavedTransaction:
    """A live transaction; `source` as in `Transaction`, None for a client."""

    key: str
    method: str
    state: S
    flow: Flow
    source: Flow | None = None
    cancel_reason: str | None = None
    data: bytes | None = None
    """What a server sent last; a client's request is made from the request."""
    local_tag: str | None = None
    merge: str | None = None


_MACHINES = {
    (False, True): client_invite.TABLE,
    (False, False): client_noninvite.TABLE,
    (True, True): server_invite.TABLE,
    (True, False): server_noninvite.TABLE,
}
_RESUME: dict[tuple[bool, bool, S], tuple[A, ...]] = {
    (False, True, S.CALLING): (A.RESEND, A.START_A, A.START_B),
    (False, True, S.CANCEL_WANTED): (A.RESEND, A.START_A, A.START_B),
    (False, True, S.PROCEEDING): (A.START_C,),
    (False, True, S.CANCELLING): (A.SEND_CANCEL, A.START_GIVE_UP),
    (False, True, S.ACCEPTED): (A.START_M,),
    (False, False, S.TRYING): (A.RESEND, A.START_E, A.START_F),
    (False, False, S.PROCEEDING): (A.RESEND, A.START_E, A.START_F),
    (True, True, S.PROCEEDING): (),
    (True, True, S.ACCEPTED): (A.START_L,),
    (True, False, S.TRYING): (A.START_GIVE_UP,),
    (True, False, S.PROCEEDING): (A.START_GIVE_UP,),
}
"""Server, INVITE, state: what is done again. Timers begin anew, and what may have been lost is repeated: to the peer it
is a retransmission. States that are not here concern nobody after a restart."""


def save(layer: TransactionLayer, id: TransactionId) -> SavedTransaction | None:
    """A transaction as a value; None where it is over, or of no concern after a restart."""
    tx = layer.find(id)
    return None if tx is None else _save(tx)


def save_client(layer: TransactionLayer, key: str) -> tuple[TransactionId, SavedTransaction] | None:
    """The same of a client transaction, by its key; with its id."""
    tx = layer.find_client(key)
    saved = None if tx is None else _save(tx)
    return None if tx is None or saved is None else (tx.id, saved)


def _save(tx: Transaction) -> SavedTransaction | None:
    server = tx.source is not None
    if (server, tx.method == "INVITE", tx.state) not in _RESUME:
        return None
    return SavedTransaction(
        tx.key,
        tx.method,
        tx.state,
        tx.flow,
        tx.source,
        tx.cancel_reason,
        tx.data if server else None,
        tx.local_tag,
        tx.merge,
    )


def restore(layer: TransactionLayer, saved: SavedTransaction, request: Request, now: float) -> TransactionId:
    """Let a transaction go on; what it sends waits in `outgoing`."""
    server, invite = saved.source is not None, saved.method == "INVITE"
    tx = layer.adopt(saved.key, _MACHINES[server, invite], saved.state, request, saved.flow, saved.source)
    tx.cancel_reason = saved.cancel_reason
    tx.local_tag = saved.local_tag
    tx.data = saved.data if server else request.to_bytes()
    if saved.merge is not None:
        layer.merges(tx, saved.merge)
    layer.run(tx, _RESUME[server, invite, saved.state], now)
    return tx.id
