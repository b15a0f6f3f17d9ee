"""What the edge keeps of people's data, and for how long: the one table of it (domain rule 7.9).

docs/operations.md, "What is kept", shows the same table, and a test compares them. Whatever the schema has a table for
and whatever the edge writes into its data folder is either here or named as exempt, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

SIX_MONTHS = timedelta(days=184)
_WEEK = timedelta(days=7)
_MONTH = timedelta(days=30)
_HOUR = timedelta(hours=1)


class Kept(NamedTuple):
    """One kind of data in the database. `age` None: setting `call_records_keep_days`.

    `statement` deletes what had reached its age at `$1`, a point in time; `table` is where.
    """

    what: str
    age: timedelta | None
    table: str
    statement: str
    why: str


class KeptFile(NamedTuple):
    """One kind of data in memory or in the data folder, at `place` there. What deletes it is given to the purge job by
    the name `what`."""

    what: str
    age: timedelta | None
    place: str | None
    why: str


ROWS = (
    Kept(
        "calls", None, "call_records", "DELETE FROM sip_edge.call_records WHERE ended_at <= $1", "billing",
    ),
    Kept(
        "unanswered-calls", _WEEK, "call_records",
        "DELETE FROM sip_edge.call_records WHERE answered_at IS NULL AND ended_at <= $1",
        "finding faults; nothing to bill",
    ),
    Kept(
        "call-details", _WEEK, "call_records",
        "UPDATE sip_edge.call_records SET trace = NULL, attempts = NULL, a_call_id = NULL, b_call_id = NULL,"
        " dialled = NULL WHERE trace IS NOT NULL AND ended_at <= $1",
        "finding faults",
    ),
    Kept(
        "refused-calls", _WEEK, "refused_calls", "DELETE FROM sip_edge.refused_calls WHERE at <= $1", "finding faults",
    ),
    Kept(
        "fax-documents", _WEEK, "faxes",
        "UPDATE sip_edge.faxes f SET content = NULL WHERE content IS NOT NULL AND CASE"
        " WHEN EXISTS (SELECT FROM sip_edge.fax_mails m WHERE m.fax = f.id) THEN EXISTS ("
        " SELECT FROM sip_edge.fax_mails m WHERE m.fax = f.id AND m.state = 'delivered' AND m.delivered_at <= $1)"
        " ELSE coalesce(f.ended_at, f.started_at) <= $1 END",
        "the mail may be lost",
    ),
    Kept(
        "undeliverable-faxes", _MONTH, "faxes",
        "UPDATE sip_edge.faxes f SET content = NULL WHERE content IS NOT NULL AND f.started_at <= $1"
        " AND EXISTS (SELECT FROM sip_edge.fax_mails m WHERE m.fax = f.id AND m.state = 'failed')",
        "somebody may correct the address",
    ),
    Kept(
        "sent-mails", _WEEK, "fax_mails",
        "DELETE FROM sip_edge.fax_mails WHERE state = 'delivered' AND delivered_at <= $1",
        "the mail may be lost",
    ),
    Kept(
        "undeliverable-mails", _MONTH, "fax_mails",
        "DELETE FROM sip_edge.fax_mails m USING sip_edge.faxes f WHERE f.id = m.fax AND m.state = 'failed'"
        " AND f.started_at <= $1",
        "somebody may correct the address",
    ),
    Kept(
        "faxes", None, "faxes",
        "DELETE FROM sip_edge.faxes WHERE content IS NULL AND coalesce(ended_at, started_at) <= $1",
        "billing",
    ),
    Kept(
        "registrations", _HOUR, "registrations", "DELETE FROM sip_edge.registrations WHERE expires_at <= $1",
        "after they expired: a phone may come back",
    ),
    Kept(
        "live-calls", _HOUR, "live_calls",
        "DELETE FROM sip_edge.live_calls l WHERE l.started_at <= $1 AND NOT EXISTS (SELECT FROM sip_edge.edges e"
        " WHERE e.instance = l.instance AND NOT e.lost AND e.heartbeat_at > $1)",
        "of an edge that died",
    ),
    Kept(
        "carrier-states", _WEEK, "carrier_states",
        "DELETE FROM sip_edge.carrier_states s WHERE s.since <= $1 AND NOT EXISTS (SELECT FROM sip_edge.edges e"
        " WHERE e.name = s.edge AND e.heartbeat_at > $1)",
        "of an edge that died",
    ),
    Kept(
        "edges", _WEEK, "edges",
        "DELETE FROM sip_edge.edges e WHERE e.heartbeat_at <= $1"
        " AND NOT EXISTS (SELECT FROM sip_edge.channel_leases c WHERE c.instance = e.instance)",
        "after its last sign of life",
    ),
    Kept("alarms", _WEEK, "alarms", "DELETE FROM sip_edge.alarms WHERE at <= $1", "somebody must look"),
    Kept(
        "budget-usage", timedelta(hours=25), "budget_usage",
        "DELETE FROM sip_edge.budget_usage WHERE bucket <= $1", "a budget is of a day",
    ),
    Kept(
        "budget-resets", timedelta(hours=25), "budget_resets",
        "DELETE FROM sip_edge.budget_resets WHERE reset_at <= $1", "a budget is of a day",
    ),
    Kept(
        "erasures", _MONTH, "erasures", "DELETE FROM sip_edge.erasures WHERE at <= $1",
        "edges that were away erase the same when they are back",
    ),
)  # fmt: skip
"""In the order in which they are purged: documents of faxes look at their mails."""

FILES = (
    KeptFile("messages", _WEEK, None, "finding faults (`trace_megabytes`: the oldest go where there is no room)"),
    KeptFile("traces", _WEEK, "traces", "finding faults (`trace_disk_megabytes` likewise)"),
    KeptFile("journal", timedelta(days=1), "journal", "live calls outlive a crash; what ended is gone within a day"),
    KeptFile("rejected-records", None, "spool", "somebody may mend and insert them"),
    KeptFile("stuck-faxes", _MONTH, "fax", "a fax that cannot be brought into the database; somebody must look"),
)

EXEMPT_TABLES: Mapping[str, str] = {
    **dict.fromkeys(
        ("accounts", "trunks", "seats", "numbers", "blocks", "ranges", "external_numbers", "fax_boxes", "carriers"),
        "provisioning: whoever writes it deletes it",
    ),
    **dict.fromkeys(("settings", "emergency_numbers", "short_codes", "never_shown"), "nobody's data"),
    "schema_versions": "nobody's data",
    "channel_leases": "of live calls; gone with them, or with their edge",
    "channel_usage": "counts of provisioned numbers and accounts, without when or with whom",
}

EXEMPT_FILES: Mapping[str, str] = {
    "database": "the embedded database: its tables are above",
    ".database.*": "locks",
    "snapshot.cache": "the provisioning, for a start without a database; follows each change of it",
    "secret.key": "nobody's data",
    "relay*.sock*": "sockets of the media relay",
}
"""By name in the data folder, with `*` as in a shell."""


def age_of(kept: Kept | KeptFile, keep_calls: timedelta) -> timedelta:
    """How long it is kept where call records are kept for `keep_calls`."""
    return keep_calls if kept.age is None else kept.age


REFUSED_AGE = next(age_of(row, SIX_MONTHS) for row in ROWS if row.what == "refused-calls")
