"""The record of a call (docs/operations.md, "Records"), made of what its runner knows when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dialplan.model import Direction
from edge.b2bua import actions as do
from edge.cdr.quality import mos
from edge.cdr.record import CallRecord, MediaFigures
from media.relay.port import RelayStats

if TYPE_CHECKING:
    from edge.b2bua.runner import CallRunner


def make_record(run: CallRunner, finish: do.Finish, stats: RelayStats) -> CallRecord:
    """The record of a call that ended as `finish` says, with what its media were like."""
    engine, plan, call = run.engine, run.plan, run._call
    tries = run.tries
    winner = tries.of(call.winner) if call.winner is not None else None
    last = winner or tries.last
    target = next((t for t in plan.targets if last is not None and last.kind == t.kind.value), plan.targets[0])
    for candidate in plan.targets:
        if last is not None and (candidate.kind.value, candidate.name) == (last.kind, last.name):
            target = candidate
    source = run.attempt.source
    identity = target.identity
    carrier = source.name if source.kind.value == "carrier" else target.name if target.kind.value == "carrier" else None
    return CallRecord(
        id=run.id,
        edge=engine.name,
        # by the clock that never steps, like all its other times: lengths are right whatever the wall clock did
        started_at=engine.wall(run.began) or run.started_at,
        ringing_at=engine.wall(call.ringing_at),
        answered_at=engine.wall(call.answered_at),
        ended_at=run.lost_at or engine.clock.utcnow(),
        direction=plan.direction.value,
        source_kind=source.kind.value,
        source_name=source.name,
        account=plan.account,
        billed_account=plan.billed_account,
        caller=plan.caller.presented or plan.caller.network,
        caller_withheld=plan.caller.anonymous,
        dialled=run.a.request.parsed_uri().decoded_user,
        called=plan.called,
        number=plan.number,
        target_kind=target.kind.value,
        target_name=target.name,
        carrier=carrier,
        presented=None if identity.anonymous else identity.presented,
        network_number=identity.network,
        outcome=finish.outcome,
        reason=run.reason.value if run.reason is not None else finish.detail or None,
        sip_status=finish.status or None,
        a_cause=finish.q850 if finish.released_by == "a" else None,
        b_cause=finish.q850 if finish.released_by == "b" else last.cause if last is not None else None,
        released_by=finish.released_by or None,
        a_call_id=run.a.call_id,
        b_call_id=tries.winner_call_id,
        emergency=plan.direction is Direction.EMERGENCY,
        trace=tuple(plan.trace.steps),
        media=None if run.media.passive and stats == RelayStats() else _figures(stats, run.media.codecs),
        attempts=tries.told(),
    )


def _figures(stats: RelayStats, codecs: tuple[str | None, str | None]) -> MediaFigures:
    codec_a, codec_b = codecs
    return MediaFigures(
        stats.from_a, stats.from_b, stats.to_a, stats.to_b, stats.lost_a, stats.lost_b, stats.jitter_a, stats.jitter_b,
        mos(stats.from_a, stats.lost_a, stats.jitter_a, codec_a, stats.round_trip),
        mos(stats.from_b, stats.lost_b, stats.jitter_b, codec_b, stats.round_trip),
        stats.round_trip, codec_a, codec_b,
    )  # fmt: skip
