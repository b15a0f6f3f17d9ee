"""Which room deletes what: the purge job and erasures (`edge.retention`), joined to the rooms of one edge."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from edge.cdr.spool import Spool
from edge.retention.erasures import Erasures, Person
from edge.retention.purge import Acquire, PostgresPurge, PurgeJob
from media.fax.record import FaxMeta
from media.fax.spool import Spool as FaxSpool

if TYPE_CHECKING:
    from edge.app import Edge


def purge_job(edge: Edge, acquire: Acquire, spool: Spool, faxes: FaxSpool) -> PurgeJob:
    """The one job that deletes what has reached its age."""

    def stuck_faxes(age: timedelta) -> int:
        oldest = edge.clock.utcnow() - age
        return faxes.thin(lambda path, _meta: _changed_at(path) > oldest)

    def rejected(age: timedelta) -> int:
        oldest = edge.clock.utcnow() - age
        with suppress(OSError):
            return spool.thin_rejected(lambda line: _ended_at(line, oldest) >= oldest)
        return 0

    return PurgeJob(
        PostgresPurge(acquire),
        edge.clock.utcnow,
        timedelta(days=edge.settings.call_records_keep_days),
        files={
            "messages": lambda age: edge.tap.purge(edge.driver.now() - age.total_seconds()),
            "traces": lambda age: edge.kept.purge(age),
            "journal": lambda age: edge.journal.renew(age.total_seconds()) if edge.journal is not None else 0,
            "rejected-records": rejected,
            "stuck-faxes": stuck_faxes,
        },
        purged=edge.metrics.purged,
        trusted=lambda: edge.clock_watch.trusted,
    )


def erasures(edge: Edge, acquire: Acquire, spool: Spool, faxes: FaxSpool) -> Erasures:
    """What carries out `sip-edge privacy erase` in this edge."""

    def forget(calls: Iterable[str]) -> int:
        return sum(edge.tap.forget(call) | edge.kept.forget(call) for call in calls)

    def forget_files(person: Person) -> int:
        if edge.journal is not None:
            edge.journal.renew()
        gone = edge.tap.forget_user(person.seat) + faxes.thin(_not_sent_by(person))
        with suppress(OSError):
            gone += spool.thin_rejected(lambda line: not person.is_named_in(line))
        return gone

    def settled(at: datetime) -> bool:
        calls = edge.calls
        return not (
            edge.writer.waiting
            or calls.waiting
            or calls.books.closing
            or edge.faxes.running
            or faxes.count()
            or any(call.started_at <= at for call in calls.live())
        )

    return Erasures(acquire, forget, forget_files, settled)


def _not_sent_by(person: Person) -> Callable[[Path, FaxMeta | None], bool]:
    return lambda _path, meta: meta is None or meta.called is None or not person.has(meta.number)


def _changed_at(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return datetime.max.replace(tzinfo=UTC)


def _ended_at(line: bytes, unknown: datetime) -> datetime:
    """When the call of a record ended; of what is no record: `unknown`, it stays for a person to look at."""
    try:
        row = json.loads(line)
        found = datetime.fromisoformat(row.get("ended_at") or row["at"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return unknown
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
