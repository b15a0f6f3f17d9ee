"""All Prometheus metrics of the edge (docs/metrics.md explains each to an operator).

What happens is counted where it happens, by one method per fact; what is (calls up, bindings, carrier states) is asked
for when Prometheus scrapes, through `Live`. Every label has a bounded set of values: what a stranger can choose (a
method, a status) falls into `other` when it is not in the book.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from dialplan.model import Reason
from edge.sip.status import REASONS

MessageDirection = Literal["in", "out"]

_METHODS = (
    "INVITE", "ACK", "CANCEL", "BYE", "REGISTER", "OPTIONS", "PRACK", "UPDATE", "INFO", "REFER", "NOTIFY", "SUBSCRIBE",
    "MESSAGE", "PUBLISH",
)  # fmt: skip
_ALARMS = (
    "sweep", "guessing", "expensive-range", "night-surge", "forward-fraud", "wangiri", "probing", "budget",
)  # fmt: skip
_REASONS = frozenset(r.value for r in Reason)
_SETUP_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_TALK_BUCKETS = (5, 15, 30, 60, 180, 300, 600, 1800, 3600, 7200, 14400)
_LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Live:
    """The state of this edge at the moment of a scrape."""

    calls: Mapping[str, int] = field(default_factory=dict)
    """Calls up, by direction (inbound, outbound, internal, emergency)."""
    registrations: Mapping[str, int] = field(default_factory=dict)
    """Live bindings, by kind (seat, trunk)."""
    carriers: Mapping[str, bool] = field(default_factory=dict)
    """By carrier name: may calls be sent to it (registered, or static and not found dead)?"""
    carrier_states: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """How each outbound proxy of each carrier stands, in the words of `edge.carriers`."""
    channels: Mapping[str, int] = field(default_factory=dict)
    """Channels in use, by level (number, trunk, account, carrier)."""
    channels_shared: bool = True
    """Channels are counted together with other edges."""
    transactions: Mapping[str, int] = field(default_factory=dict)
    """SIP transactions by kind (client-invite, client-other, server-invite, server-other)."""
    relay_up: bool = False
    relay_sessions: int = 0
    relay_instances: Mapping[str, bool] = field(default_factory=dict)
    """By relay process: does it answer?"""
    database_up: bool = False
    certificate_expires: float | None = None
    """When our certificate for TLS runs out, in Unix time; None without one."""
    snapshot_version: int = 0
    snapshot_age: float = 0.0
    """Seconds since the provisioning was last confirmed to be current."""
    spool_records: int = 0
    """Records (finished and refused calls) not yet in the database."""
    trace_bytes: int = 0
    faxes: int = 0
    """Faxes under way."""
    fax_mails: Mapping[str, int] = field(default_factory=dict)
    """Attempts to mail a fax since the start, by what became of them (delivered, delayed, failed)."""
    bans: Mapping[str, int] = field(default_factory=dict)
    """Bans that run, by what is banned (source, user)."""
    draining: bool = False
    connections: int = 0
    """Open TCP and TLS connections."""
    retransmissions: int = 0
    """Messages sent again since the start."""
    socket_drops: Mapping[str, int] = field(default_factory=dict)
    """Datagrams that the kernel threw away, by UDP listener, since its socket was made."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """Call attempts begun since the start, by what they began with (invite, transfer, fax)."""
    attempts_ended: Mapping[str, int] = field(default_factory=dict)
    """Those that ended, by fate (`edge.b2bua.books.Fate`)."""
    attempts_up: int = 0
    tasks: int = 0
    """Of the event loop."""
    differences: Mapping[str, int] = field(default_factory=dict)
    """How far apart the books are, by invariant (`edge.audit.INVARIANTS`)."""
    disagreements: Mapping[str, int] = field(default_factory=dict)
    """How often they began to disagree since the start."""
    traces: Mapping[str, int] = field(default_factory=dict)
    """Failed and refused calls since the start, by what became of their messages (kept, dropped)."""
    clock_steps: int = 0
    """Steps of the wall clock since the start."""
    dns_failures: int = 0
    """DNS queries that no server answered, since the start."""
    captured: Mapping[str, int] = field(default_factory=dict)
    """Messages for the capture server since the start (sent, dropped)."""


class Metrics:
    """The metrics of one edge in a registry of their own."""

    def __init__(self, version: str = "", edge: str = "") -> None:
        """`version` of the program and the name of this `edge` go into `sip_edge_build_info`."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=False)
        reg = self.registry
        info = Gauge(
            "sip_edge_build_info", "Version of the program and name of the edge", ["version", "edge"], registry=reg
        )
        info.labels(version, edge).set(1)
        self._calls = Counter("sip_edge_calls", "Finished calls", ["direction", "outcome"], registry=reg)
        self._refusals = Counter("sip_edge_refusals", "Refused calls", ["reason"], registry=reg)
        self._setup = Histogram(
            "sip_edge_setup_seconds", "From the INVITE to the first ringing or answer", ["direction"],
            buckets=_SETUP_BUCKETS, registry=reg,
        )  # fmt: skip
        self._talk = Histogram(
            "sip_edge_talk_seconds", "Length of answered calls", ["direction"], buckets=_TALK_BUCKETS, registry=reg
        )
        self._mos = Histogram(
            "sip_edge_media_mos", "Estimated score of one direction of a call", ["side"],
            buckets=(2.0, 2.6, 3.1, 3.6, 4.0, 4.3), registry=reg,
        )  # fmt: skip
        self._jitter = Histogram(
            "sip_edge_media_jitter_seconds", "Mean jitter of one direction of a call", ["side"],
            buckets=(0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1), registry=reg,
        )  # fmt: skip
        self._failovers = Counter(
            "sip_edge_failovers", "Calls that went on to a next target", ["carrier"], registry=reg
        )
        self._requests = Counter(
            "sip_edge_requests", "SIP requests", ["direction", "method", "transport"], registry=reg
        )
        self._responses = Counter(
            "sip_edge_responses", "SIP responses", ["direction", "status", "transport"], registry=reg
        )
        self._malformed = Counter("sip_edge_malformed_messages", "SIP messages that cannot be read", registry=reg)
        self._auth_failures = Counter("sip_edge_auth_failures", "Digests that were wrong", ["kind"], registry=reg)
        self._guard_drops = Counter("sip_edge_guard_drops", "Messages dropped unanswered", ["reason"], registry=reg)
        self._dropped: dict[str, Counter] = {}
        self._alarms = Counter("sip_edge_alarms", "Alarms of fraud and attacks", ["kind"], registry=reg)
        self._media_timeouts = Counter("sip_edge_media_timeouts", "Calls ended because no media came", registry=reg)
        self._internal_errors = Counter("sip_edge_internal_errors", "Faults of ours", ["where"], registry=reg)
        self._lag = Histogram(
            "sip_edge_loop_lag_seconds", "How late the event loop ran a timer", buckets=_LAG_BUCKETS, registry=reg
        )
        self._records = Counter("sip_edge_records", "Records stored in the database", ["table"], registry=reg)
        self._records_lost = Counter("sip_edge_records_lost", "Records that could not be kept", ["table"], registry=reg)
        self._record_failures = Counter(
            "sip_edge_record_failures", "Failed attempts to keep records", ["where"], registry=reg
        )
        self._purged = Counter("sip_edge_purged", "What was deleted because of its age", ["what"], registry=reg)
        self._faxes = Counter(
            "sip_edge_faxes", "Faxes that are over", ["direction", "result", "transport"], registry=reg
        )
        self._fax_pages = Counter("sip_edge_fax_pages", "Pages of faxes", ["direction"], registry=reg)
        self._fax_poor = Counter("sip_edge_faxes_poor", "Faxes with bad or missing lines", ["direction"], registry=reg)
        self._log_drops = Gauge("sip_edge_log_lines_dropped", "Log lines lost since the start", registry=reg)
        ProcessCollector(namespace="sip_edge", registry=reg)

        for counter, labels in (
            (self._alarms, _ALARMS),
            (self._auth_failures, ("unknown-user", "wrong-password", "replay", "stale")),
            (self._record_failures, ("spool", "database")),
            (self._records_lost, ("call_records", "refused_calls")),
        ):
            # Prometheus sees no increase of a series that begins with its first event: no alert for the first one
            for label in labels:
                counter.labels(label)
        self._refusal = {r: self._refusals.labels(r) for r in sorted(_REASONS)}
        self._passed: dict[tuple[str, str, bytes], _Passed] = {}

    def attach(self, live: Callable[[], Live], dropped_lines: Callable[[], int] | None = None) -> None:
        """Where scrapes ask for the state, and for the log lines lost."""
        self.registry.register(_LiveCollector(live))
        if dropped_lines is not None:
            self._log_drops.set_function(lambda: float(dropped_lines()))

    def exposition(self) -> bytes:
        """The text that /metrics answers (Prometheus text format 0.0.4)."""
        for passed in self._passed.values():
            passed.tell()
        return generate_latest(self.registry)

    def call_finished(self, direction: str, outcome: str, setup: float | None, talk: float | None) -> None:
        """A call ended. `setup`: seconds to the first ringing or answer; `talk`: seconds from answer to end; None
        where it never came to that."""
        self._calls.labels(direction, outcome).inc()
        if setup is not None:
            self._setup.labels(direction).observe(setup)
        if talk is not None:
            self._talk.labels(direction).observe(talk)

    def heard(
        self, mos_a: float | None, mos_b: float | None, jitter_a: float | None = None, jitter_b: float | None = None
    ) -> None:
        """How a call sounded: what came from the caller, from the called (`edge.cdr.quality.mos`; jitter in ms)."""
        if jitter_a is not None:
            self._jitter.labels("a").observe(jitter_a / 1000)
        if jitter_b is not None:
            self._jitter.labels("b").observe(jitter_b / 1000)
        if mos_a is not None:
            self._mos.labels("a").observe(mos_a)
        if mos_b is not None:
            self._mos.labels("b").observe(mos_b)

    @property
    def calls(self) -> float:
        """Finished calls, of all directions and outcomes."""
        return sum(s.value for m in self._calls.collect() for s in m.samples if s.name.endswith("_total"))

    def refused(self, reason: str) -> None:
        """A call was refused; `reason` is a `dialplan.model.Reason`."""
        child = self._refusal.get(reason)
        (child if child is not None else self._refusals.labels("other")).inc()

    def failed_over(self, carrier: str) -> None:
        """`carrier` (a provisioned name, empty for a seat or trunk) failed and the next target was tried."""
        self._failovers.labels(carrier).inc()

    def message(self, direction: MessageDirection, transport: str, data: bytes) -> None:
        """A SIP message passed; `data` is all of it, of which only the start is looked at."""
        head = data[:11] if data[:7] == b"SIP/2.0" else data[: data.find(b" ", 0, 20)]
        passed = self._passed.get((direction, transport, head))
        if passed is None:
            passed = self._passed_before(direction, transport, head)
        passed.count += 1

    def malformed(self) -> None:
        """Bytes arrived that are no SIP message."""
        self._malformed.inc()

    def auth_failed(self, kind: str) -> None:
        """A digest was wrong; `kind`: unknown-user, wrong-password, replay, stale."""
        self._auth_failures.labels(kind).inc()

    def dropped(self, reason: str) -> None:
        """The guard dropped a message; `reason`: a `edge.transport.guard.Verdict`, stranger or unknown-domain."""
        child = self._dropped.get(reason)
        if child is None:
            child = self._dropped[reason] = self._guard_drops.labels(reason)
        child.inc()

    def alarm(self, kind: str) -> None:
        """An alarm was raised; `kind` as docs/security.md lists them."""
        self._alarms.labels(kind).inc()

    def media_timed_out(self) -> None:
        """The relay saw no packet and the call was ended."""
        self._media_timeouts.inc()

    def internal_error(self, where: str) -> None:
        """A fault of ours was caught; `where` names the room and place, from the code and never from input."""
        self._internal_errors.labels(where).inc()

    def loop_lag(self, seconds: float) -> None:
        """A timer ran this late."""
        self._lag.observe(seconds)

    def records_stored(self, table: str, count: int) -> None:
        """`count` records are in the database; `table`: call_records, refused_calls."""
        self._records.labels(table).inc(count)

    def fax_finished(self, direction: str, result: str, transport: str, pages: int, *, poor: bool) -> None:
        """A fax is over. `direction`: in, out; `result`: complete, partial, failed; `transport`: t38, g711,
        t38-refused; `poor`: with bad or missing lines."""
        self._faxes.labels(direction, result, transport).inc()
        self._fax_pages.labels(direction).inc(pages)
        if poor:
            self._fax_poor.labels(direction).inc()

    def records_lost(self, table: str, count: int) -> None:
        """`count` records could not be kept (no room), or were set aside because the database refused them."""
        self._records_lost.labels(table).inc(count)

    def purged(self, gone: Mapping[str, int]) -> None:
        """So much of what was deleted because of its age."""
        for what, count in gone.items():
            self._purged.labels(what).inc(count)

    def record_failure(self, where: str) -> None:
        """An attempt failed and will be made again; `where`: spool, database."""
        self._record_failures.labels(where).inc()

    def _passed_before(self, direction: str, transport: str, head: bytes) -> _Passed:
        text = head.decode("ascii", "replace")
        if text.startswith("SIP/2.0"):
            status = text[8:11]
            known = status.isdigit() and int(status) in REASONS
            key = head if known else b"SIP/2.0 other"
            counter = self._responses.labels(direction, status if known else "other", transport)
        else:
            known = text in _METHODS
            key = head if known else b"other"
            counter = self._requests.labels(direction, text if known else "other", transport)
        # What a stranger invents is not kept by its own name, or it would fill the memory.
        return self._passed.setdefault((direction, transport, key), _Passed(counter))


class _Passed:
    """Messages of one kind, counted without the lock of a Prometheus counter, which hears of them at each scrape."""

    __slots__ = ("_counter", "count")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self.count = 0

    def tell(self) -> None:
        self._counter.inc(self.count)
        self.count = 0


class _LiveCollector(Collector):
    """Gauges that are asked for at each scrape."""

    def __init__(self, live: Callable[[], Live]) -> None:
        self._live = live

    def collect(self) -> Iterator[Metric]:
        live = self._live()
        yield _family("sip_edge_live_calls", "Calls up", "direction", live.calls)
        yield _family("sip_edge_registrations", "Live bindings", "kind", live.registrations)
        carriers = {name: int(up) for name, up in live.carriers.items()}
        yield _family("sip_edge_carrier_up", "1 if calls may be sent to the carrier", "carrier", carriers)
        states = GaugeMetricFamily(
            "sip_edge_carrier_state",
            "1 for the state that a carrier's proxy is in",
            labels=["carrier", "proxy", "state"],
        )
        for (carrier, proxy), state in live.carrier_states.items():
            states.add_metric([carrier, proxy, state], 1)
        yield states
        relays = {name: int(up) for name, up in live.relay_instances.items()}
        yield _family("sip_edge_relay_instance_up", "1 if this media relay answers", "relay", relays)
        yield _family("sip_edge_channels_in_use", "Channels in use", "level", live.channels)
        yield _family("sip_edge_bans", "Bans that run", "kind", live.bans)
        yield _family("sip_edge_transactions", "SIP transactions", "kind", live.transactions)
        yield _family("sip_edge_books_difference", "How far apart the books are", "invariant", live.differences)
        for name, text, label, counts in (
            ("fax_mails", "Attempts to mail a fax", "result", live.fax_mails),
            ("attempts", "Call attempts that began", "by", live.attempts),
            ("attempts_ended", "Call attempts that ended", "fate", live.attempts_ended),
            ("traces", "Failed and refused calls whose messages are kept", "result", live.traces),
            ("hep_messages", "Messages for the capture server", "result", live.captured),
            ("socket_drops", "Datagrams that the kernel threw away", "listener", live.socket_drops),
            ("books_disagreements", "How often the books began to disagree", "invariant", live.disagreements),
        ):
            counter = CounterMetricFamily(f"sip_edge_{name}", text, labels=[label])
            for key, count in counts.items():
                counter.add_metric([key], count)
            yield counter
        for name, text, count in (
            ("retransmissions", "SIP messages sent again", live.retransmissions),
            ("clock_steps", "Steps of the wall clock", live.clock_steps),
            ("dns_failures", "DNS queries that no server answered", live.dns_failures),
        ):
            yield CounterMetricFamily(f"sip_edge_{name}", text, value=float(count))
        expires = GaugeMetricFamily(
            "sip_edge_tls_certificate_expires_timestamp_seconds", "When our TLS certificate runs out"
        )
        if live.certificate_expires is not None:
            expires.add_metric([], live.certificate_expires)
        yield expires
        for name, text, value in (
            ("relay_up", "1 if the media relay answers", live.relay_up),
            ("relay_sessions", "Media relay sessions that hold ports", live.relay_sessions),
            ("database_up", "1 if the database answers", live.database_up),
            ("channels_shared", "1 if channels are counted together with other edges", live.channels_shared),
            ("snapshot_version", "Version of the provisioning in use", live.snapshot_version),
            ("snapshot_age_seconds", "Since the provisioning was last known to be current", live.snapshot_age),
            ("spool_records", "Records that wait for the database", live.spool_records),
            ("trace_bytes", "Messages kept for traces", live.trace_bytes),
            ("live_faxes", "Faxes under way", live.faxes),
            ("attempts_up", "Call attempts that have not ended", live.attempts_up),
            ("connections", "Open TCP and TLS connections", live.connections),
            ("tasks", "Pieces of work of the event loop", live.tasks),
            ("draining", "1 if the edge takes no new calls", live.draining),
        ):
            yield GaugeMetricFamily(f"sip_edge_{name}", text, value=float(value))


def _family(name: str, text: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
