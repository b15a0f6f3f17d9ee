"""The call: a pure reducer over what happens on its legs (docs/calls.md).

`on_event(event, now)` changes the state and returns what is to be done. It knows no SIP, no sockets, no clock, so every
race is an order of events, and every order can be tested. It keeps three promises whatever comes: the caller gets one
final answer, the relay's ports are given back exactly once (`Finish`), and no leg is left behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from edge.b2bua import actions as do
from edge.b2bua import events as ev
from edge.b2bua import hunt
from edge.b2bua.actions import CallAction
from edge.b2bua.changes import Changes
from edge.b2bua.events import CallEvent, LegId

A: LegId = "a"
_MOST_WAITING = 8
"""Digits of the called side that wait for the caller's answer."""


class Phase(Enum):
    """Where the call stands."""

    ROUTING = "routing"
    """The relay writes the offer, or a target is being started."""
    TRYING = "trying"
    """Branches are out."""
    ANSWERING = "answering"
    """A branch answered; the relay writes the answer for the caller."""
    UP = "up"
    ENDED = "ended"


class Branch(Enum):
    """Where one branch of the current target stands."""

    TRYING = "trying"
    PROCEEDING = "proceeding"
    CANCELLING = "cancelling"
    ANSWERED = "answered"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class CallTimers:
    """Times in seconds."""

    answer: float = 180.0
    """Ringing at the longest (RFC 3261 section 16.6 Timer C)."""
    first_response: float = 8.0
    """Until the next target is tried where nothing came back and there is a next one."""
    first_response_emergency: float = 4.0
    """The same of emergency calls (domain rule 2.6-25)."""
    longest: float = 4 * 3600.0
    """A call at the longest."""


class Call:
    """One call between a caller (leg `a`) and the branches of its targets."""

    __slots__ = (
        "_accepted_late_offer",
        "_attempt",
        "_early_leg",
        "_emergency",
        "_failover_on",
        "_failure",
        "_media",
        "_no_answer_after",
        "_offer",
        "_progress_status",
        "_relayed_offer",
        "_target",
        "_targets",
        "_timers",
        "_waiting",
        "answered_at",
        "branches",
        "phase",
        "ringing_at",
        "winner",
    )

    def __init__(
        self,
        offer: bytes | None,
        targets: int,
        timers: CallTimers,
        *,
        no_answer_after: float | None = None,
        emergency: bool = False,
    ) -> None:
        """`offer`: the caller's SDP, None where it wants ours. `targets`: how many the plan has."""
        self.phase = Phase.ROUTING
        self.branches: dict[LegId, Branch] = {}
        self.winner: LegId | None = None
        self.ringing_at: float | None = None
        self.answered_at: float | None = None
        self._offer = offer
        self._relayed_offer: bytes | None = None
        self._targets = targets
        self._target = 0
        self._attempt = 0
        self._timers = timers
        self._no_answer_after = no_answer_after
        self._emergency = emergency
        self._failure: hunt.Failure | None = None
        self._failover_on: frozenset[int] = frozenset()
        self._progress_status = 0
        self._early_leg: LegId | None = None
        self._accepted_late_offer = False
        self._media = Changes()
        self._waiting: list[ev.InfoReceived | ev.Released] = []
        """What the called side said before the caller had its answer: it comes after it."""

    def start(self) -> list[CallAction]:
        """The first actions."""
        if self._offer is None:
            return self._start_target()
        self._media.last[A] = self._offer
        return [do.RelayForward("offer", A, self._offer)]

    def retarget(self, targets: int, no_answer_after: float | None) -> None:
        """Before `start`: the plan changed (its number had no free channel and names another route)."""
        self._targets = targets
        self._no_answer_after = no_answer_after

    def answer_here(self, sdp: bytes, now: float) -> list[CallAction]:
        """The edge itself is the called party and answers with `sdp`: from now on there is the caller's leg only."""
        if self.phase is not Phase.ROUTING:
            return []
        self.phase = Phase.UP
        self.answered_at = now
        return [do.Accept(sdp), do.StartTimer("longest", self._timers.longest)]

    def on_event(self, event: CallEvent, now: float) -> list[CallAction]:
        """What `event` leads to. Total: an event that means nothing now leads to nothing."""
        return _ON[type(event)](self, event, now)

    # -- towards the called side ------------------------------------------------------------------------------------

    def _start_target(self) -> list[CallAction]:
        self.phase = Phase.ROUTING
        self._attempt += 1
        self._failure = None
        self.branches = {k: v for k, v in self.branches.items() if v is Branch.CANCELLING}
        return [do.StartTarget(self._attempt, self._target, self._relayed_offer)]

    def _target_started(self, event: ev.TargetStarted, now: float) -> list[CallAction]:
        for leg in event.legs:
            self.branches[leg] = Branch.TRYING
        if event.index != self._attempt or self.phase is not Phase.ROUTING:
            return self._cancel_branches()
        self.phase = Phase.TRYING
        self._failover_on = event.failover_on
        out: list[CallAction] = [do.StartTimer("answer", self._no_answer_after or self._timers.answer)]
        if self._more_targets():
            timers = self._timers
            after = timers.first_response_emergency if self._emergency else timers.first_response
            out.append(do.StartTimer("first-response", after))
        return out

    def _target_unreachable(self, event: ev.TargetUnreachable, now: float) -> list[CallAction]:
        if event.index != self._attempt or self.phase is not Phase.ROUTING:
            return []
        failure = hunt.Failure(event.status, event.q850, no_response=not event.limited, limited=event.limited)
        return self._target_failed(failure, try_next=True)

    def _ringing(self, event: ev.Ringing, now: float) -> list[CallAction]:
        if not self._proceed(event.leg):
            return []
        out: list[CallAction] = [do.StopTimer("first-response")]
        if event.status > 100 and self._progress_status < 180:
            self._progress_status = 180
            self.ringing_at = self.ringing_at or now
            out.append(do.Progress(180))
        return out

    def _early_media(self, event: ev.EarlyMedia, now: float) -> list[CallAction]:
        if not self._proceed(event.leg):
            return []
        if event.status == 180:
            self.ringing_at = self.ringing_at or now
        out: list[CallAction] = [do.StopTimer("first-response")]
        if self._offer is None:
            return out + self._ringing(ev.Ringing(event.leg, 180), now)
        if self._early_leg is None:
            self._early_leg = event.leg
        if self._early_leg != event.leg:
            return out
        if self._media.last.get(event.leg) == event.sdp:
            return out
        self._media.last[event.leg] = event.sdp
        out.append(do.RelayForward(f"early-{event.status}", event.leg, event.sdp))
        return out

    def _proceed(self, leg: LegId) -> bool:
        state = self.branches.get(leg)
        if self.phase is not Phase.TRYING or state not in (Branch.TRYING, Branch.PROCEEDING):
            return False
        self.branches[leg] = Branch.PROCEEDING
        return True

    def _answered(self, event: ev.Answered, now: float) -> list[CallAction]:
        leg = event.leg
        state = self.branches.get(leg)
        if state is None or state in (Branch.ANSWERED, Branch.DONE):
            return []
        if self.phase is not Phase.TRYING or state is Branch.CANCELLING:
            # the answer crossed our CANCEL: take it and end it at once (RFC 3261 section 9.1)
            self.branches[leg] = Branch.DONE
            return [do.Ack(leg), do.Release(leg, 16)]
        self.branches[leg] = Branch.ANSWERED
        sdp = event.sdp if event.sdp is not None else self._media.last.get(leg)
        out: list[CallAction] = [do.StopTimer("answer"), do.StopTimer("first-response")]
        if sdp is None:
            self.branches[leg] = Branch.DONE
            out += [do.Ack(leg), do.Release(leg, 127)]
            return out + self._branch_failed(hunt.Failure(502, 127))
        self.winner = leg
        self.phase = Phase.ANSWERING
        if self._offer is not None:
            out.append(do.Ack(leg))
        self._media.last[leg] = sdp
        out.append(do.RelayForward("answer" if self._offer is not None else "late-offer", leg, sdp))
        return out + self._cancel_branches(answered_elsewhere=True)

    def _rejected(self, event: ev.Rejected, now: float) -> list[CallAction]:
        state = self.branches.get(event.leg)
        if state is None or state is Branch.DONE:
            return []
        self.branches[event.leg] = Branch.DONE
        if self.phase is not Phase.TRYING or state is Branch.CANCELLING:
            return []
        out: list[CallAction] = []
        if event.status >= 600:
            out += self._cancel_branches()  # a person declined for all (RFC 3261 section 21.6)
        # a redirection that is not followed is no answer that the caller could make anything of
        status = event.status if event.status >= 400 else 502
        return out + self._branch_failed(hunt.Failure(status, event.q850, no_response=event.no_response))

    def _moved(self, event: ev.Moved, now: float) -> list[CallAction]:
        """A phone's own forward speaks for all phones of its seat."""
        state = self.branches.get(event.leg)
        if state is None or state is Branch.DONE:
            return []
        self.branches[event.leg] = Branch.DONE
        if self.phase is not Phase.TRYING or state is Branch.CANCELLING:
            return []
        out = self._give_up_target(hunt.Failure(480, 20))
        if self._early_leg is not None:
            return out + self._fail(hunt.Failure(480, 20))
        return [*out, do.Forward(event.leg, event.user, event.is_phone)]

    def _branch_failed(self, failure: hunt.Failure) -> list[CallAction]:
        if self._failure is None or hunt.worse(failure, self._failure):
            self._failure = failure
        if any(state in (Branch.TRYING, Branch.PROCEEDING) for state in self.branches.values()):
            return []
        may = self._emergency or self._failure.no_response or self._failure.status in self._failover_on
        return self._target_failed(self._failure, try_next=may)

    def _target_failed(self, failure: hunt.Failure, *, try_next: bool) -> list[CallAction]:
        out = self._give_up_target(failure)
        # once the caller has heard the called side, another target would be another call (domain rule T5.9)
        if self._early_leg is not None and not self._emergency:
            return out + self._fail(failure)
        if try_next and self._more_targets():
            self._target += 1
            return out + self._start_target()
        return [*out, do.AskNextRoute(hunt.outcome(failure))]

    def _give_up_target(self, failure: hunt.Failure) -> list[CallAction]:
        self._failure = failure
        self.phase = Phase.ROUTING
        self._attempt += 1
        return [do.StopTimer("answer"), do.StopTimer("first-response"), *self._cancel_branches()]

    def _rerouted(self, event: ev.Rerouted, now: float) -> list[CallAction]:
        if self.phase is not Phase.ROUTING or self._failure is None:
            return []
        if event.targets == 0:
            return self._fail(self._failure if event.refusal is None else hunt.Failure(*event.refusal))
        self._target = 0
        self._targets = event.targets
        self._no_answer_after = event.no_answer_after
        return self._start_target()

    def _more_targets(self) -> bool:
        return self._target + 1 < self._targets

    def _fail(self, failure: hunt.Failure) -> list[CallAction]:
        return [
            do.Reject(failure.status, failure.q850),
            *self._finish(hunt.result(failure), "b", failure.status, failure.q850),
        ]

    def _cancel_branches(self, *, answered_elsewhere: bool = False) -> list[CallAction]:
        out: list[CallAction] = []
        for leg, state in self.branches.items():
            if state in (Branch.TRYING, Branch.PROCEEDING):
                self.branches[leg] = Branch.CANCELLING
                out.append(do.Cancel(leg, answered_elsewhere))
        return out

    # -- from the caller, and ends ----------------------------------------------------------------------------------

    def _cancelled(self, event: ev.Cancelled, now: float) -> list[CallAction]:
        if self.phase in (Phase.UP, Phase.ENDED):
            return []
        out: list[CallAction] = [do.Reject(487), *self._cancel_branches(answered_elsewhere=event.elsewhere)]
        out += self._release_winner(16)
        return out + self._finish("cancelled", "a", 487, event.q850)

    def _release_winner(self, q850: int) -> list[CallAction]:
        winner = self.winner
        if winner is None or self.branches.get(winner) is not Branch.ANSWERED:
            return []
        self.branches[winner] = Branch.DONE
        return [*self._owed_ack(winner), do.Release(winner, q850)]

    def _owed_ack(self, winner: LegId) -> list[CallAction]:
        """The ACK of a 2xx that still waits for the caller's answer: owed even if the call ends first."""
        return [do.Ack(winner)] if self._offer is None and not self._accepted_late_offer else []

    def _released(self, event: ev.Released, now: float) -> list[CallAction]:
        leg = event.leg
        state = self.branches.get(leg)
        if self.phase is Phase.UP and leg in (A, self.winner):
            if leg == A:
                return self._release_winner(event.q850 or 16) + self._finish(
                    "answered", "a", 200, event.q850, event.detail
                )
            self.branches[leg] = Branch.DONE
            out = self._owed_ack(leg) if state is Branch.ANSWERED else []
            out.append(do.Release(A, event.q850 or 16))
            return out + self._finish("answered", "b", 200, event.q850, event.detail)
        if self.phase is Phase.ANSWERING and leg == self.winner and state is Branch.ANSWERED:
            # answered and over: the caller hears both, in this order
            self.branches[leg] = Branch.DONE
            self._waiting.append(event)
            return self._owed_ack(leg)
        if leg in self.branches:
            self.branches[leg] = Branch.DONE
        return []

    def _ended(self, event: ev.Ended, now: float) -> list[CallAction]:
        return self._end(event.q850, event.detail)

    def _end(self, q850: int, detail: str, status: int = 503) -> list[CallAction]:
        """The edge itself ends the call."""
        if self.phase is Phase.ENDED:
            return []
        if self.phase is Phase.UP:
            out: list[CallAction] = [do.Release(A, q850), *self._release_winner(q850)]
            return out + self._finish("answered", "edge", 200, q850, detail)
        out = [do.Reject(status, q850), *self._cancel_branches(), *self._release_winner(q850)]
        return out + self._finish("failed", "edge", status, q850, detail)

    def _media_timed_out(self, event: ev.MediaTimedOut, now: float) -> list[CallAction]:
        return self._end(41, "no media from either side") if self.phase is Phase.UP else []

    def _media_lost(self, event: ev.MediaLost, now: float) -> list[CallAction]:
        return self._end(41, event.detail)

    def _timer_fired(self, event: ev.TimerFired, now: float) -> list[CallAction]:
        if event.name == "longest" and self.phase is Phase.UP:
            return self._end(31, "longest call time reached")
        if self.phase is not Phase.TRYING:
            return []
        if event.name == "answer":
            return self._target_failed(hunt.Failure(480, 19, no_answer=True), try_next=self._emergency)
        if event.name == "first-response" and all(s is not Branch.PROCEEDING for s in self.branches.values()):
            return self._target_failed(hunt.Failure(408, 102, no_response=True), try_next=True)
        return []

    def _finish(
        self, outcome: str, released_by: str, status: int, q850: int | None, detail: str = ""
    ) -> list[CallAction]:
        self.phase = Phase.ENDED
        self._media.forget()
        return [do.Finish(outcome, released_by, status, q850, detail)]

    # -- media ------------------------------------------------------------------------------------------------------

    def _relayed(self, event: ev.Relayed, now: float) -> list[CallAction]:
        purpose = event.purpose
        if purpose == "offer":
            if self.phase is not Phase.ROUTING:
                return []
            self._relayed_offer = event.sdp
            return self._start_target()
        if purpose.startswith("early-"):
            if self.phase is not Phase.TRYING:
                return []
            self._progress_status = 183
            return [do.Progress(int(purpose[6:]), event.sdp)]
        if purpose in ("answer", "late-offer"):
            if self.phase is not Phase.ANSWERING:
                return []
            self.phase = Phase.UP
            self.answered_at = now
            return [do.Accept(event.sdp), do.StartTimer("longest", self._timers.longest), *self._what_waited(now)]
        if purpose == "late-answer":
            if self.phase is not Phase.UP or self.winner is None:
                return []
            self._accepted_late_offer = True
            return [do.Ack(self.winner, event.sdp)]
        return self._media.relayed(event) if self.phase is Phase.UP else []

    def _what_waited(self, now: float) -> list[CallAction]:
        waiting, self._waiting = self._waiting, []
        return [action for event in waiting for action in self.on_event(event, now)]

    def _relay_failed(self, event: ev.RelayFailed, now: float) -> list[CallAction]:
        purpose = event.purpose
        if purpose in ("offer", "answer", "late-offer", "late-answer"):
            return self._end(38 if event.status >= 500 else 88, event.detail, event.status)
        out = self._media.relay_failed(event)
        return self._end(41, event.detail) if out is None else out

    def _answer_in_ack(self, event: ev.AnswerInAck, now: float) -> list[CallAction]:
        """The answer to an offer that we passed in a 2xx: of the call itself, or of a re-INVITE without SDP."""
        if self.phase is not Phase.UP:
            return []
        if self._media.expects_answer_of(event.leg):
            if event.sdp is None:
                return self._end(127, "the ACK of a re-INVITE had no answer")
            self._media.last[event.leg] = event.sdp
            return [do.RelayForward("modify-ack", event.leg, event.sdp)]
        if event.leg != A or self._offer is not None or self._accepted_late_offer:
            return []
        if event.sdp is None:
            return self._end(127, "the caller's ACK had no answer to our offer")
        self._media.last[A] = event.sdp
        return [do.RelayForward("late-answer", A, event.sdp)]

    # -- a call that is up ------------------------------------------------------------------------------------------

    def _modify_offered(self, event: ev.ModifyOffered, now: float) -> list[CallAction]:
        other = self.other(event.leg)
        if other is None or not self.settled:
            return [do.RefuseModify(event.leg, 491)]
        return self._media.offered(event, other)

    def _modify_answered(self, event: ev.ModifyAnswered, now: float) -> list[CallAction]:
        return self._media.answered(event)

    def _modify_refused(self, event: ev.ModifyRefused, now: float) -> list[CallAction]:
        return self._media.refused(event)

    def _noted(self, event: ev.Noted, now: float) -> list[CallAction]:
        return []

    def _info(self, event: ev.InfoReceived, now: float) -> list[CallAction]:
        if self.phase is Phase.ANSWERING and event.leg == self.winner:
            if len(self._waiting) < _MOST_WAITING:
                self._waiting.append(event)
            return []
        other = self.other(event.leg)
        return [do.SendInfo(other, event.content_type, event.body)] if other is not None else []

    def _text(self, event: ev.TextReceived, now: float) -> list[CallAction]:
        other = self.other(event.leg)
        if other is None:
            return [do.AnswerText(event.leg, event.number, 480)]
        return [do.SendText(other, event.number, event.text)]

    def _text_answered(self, event: ev.TextAnswered, now: float) -> list[CallAction]:
        other = self.other(event.leg)
        return [do.AnswerText(other, event.number, event.status, event.accept)] if other is not None else []

    def _referred(self, event: ev.Referred, now: float) -> list[CallAction]:
        if self.other(event.leg) is None:
            return [do.RefuseTransfer(event.leg, 491)]
        return [do.Transfer(event.leg, event.to)]

    @property
    def target(self) -> int:
        """Which of the targets is being tried, or answered."""
        return self._target

    @property
    def settled(self) -> bool:
        """True where nobody waits for the answer to an offer: another party may take a leg's place."""
        return self.phase is Phase.UP and self._media.idle and (self._offer is not None or self._accepted_late_offer)

    def description(self, leg: LegId) -> bytes | None:
        """What the party of a leg last said of its media."""
        return self._media.last.get(leg)

    def other(self, leg: LegId) -> LegId | None:
        """The other leg of a call that is up; None for a leg that has no part in it."""
        if self.phase is not Phase.UP:
            return None
        return self.winner if leg == A else A if leg == self.winner else None


_ON: dict[type, Callable[..., list[CallAction]]] = {
    ev.TargetStarted: Call._target_started,
    ev.TargetUnreachable: Call._target_unreachable,
    ev.Ringing: Call._ringing,
    ev.EarlyMedia: Call._early_media,
    ev.Answered: Call._answered,
    ev.Rejected: Call._rejected,
    ev.Moved: Call._moved,
    ev.Cancelled: Call._cancelled,
    ev.Released: Call._released,
    ev.AnswerInAck: Call._answer_in_ack,
    ev.ModifyOffered: Call._modify_offered,
    ev.ModifyAnswered: Call._modify_answered,
    ev.ModifyRefused: Call._modify_refused,
    ev.Noted: Call._noted,
    ev.InfoReceived: Call._info,
    ev.TextReceived: Call._text,
    ev.TextAnswered: Call._text_answered,
    ev.Referred: Call._referred,
    ev.Relayed: Call._relayed,
    ev.RelayFailed: Call._relay_failed,
    ev.MediaTimedOut: Call._media_timed_out,
    ev.MediaLost: Call._media_lost,
    ev.TimerFired: Call._timer_fired,
    ev.Rerouted: Call._rerouted,
    ev.Ended: Call._ended,
}
