"""Metrics: every one is documented, labels are bounded, figures are right."""

import dataclasses
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from edge.observability.metrics import Live, Metrics

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"

LIVE = Live(
    calls={"inbound": 2}, registrations={"seat": 3}, carriers={"telekom": True, "other": False},
    channels={"number": 4}, transactions={"server-invite": 5}, relay_up=True, relay_sessions=2, database_up=True,
    carrier_states={("telekom", "sip:p.example"): "fault"}, certificate_expires=1.8e9,
    snapshot_version=7, snapshot_age=1.5, spool_records=6, trace_bytes=100, draining=False,
)  # fmt: skip


ONE = {"x": 1}
LABELLED = dataclasses.replace(
    LIVE, relay_instances={"embedded": True}, fax_mails=ONE, bans=ONE, attempts=ONE, attempts_ended=ONE,
    differences=ONE, disagreements=ONE, traces=ONE, captured=ONE, socket_drops=ONE,
)  # fmt: skip
"""One series of each metric that is asked for at a scrape."""


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The value of one time series of the exposition; None where there is none."""
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for s in family.samples:
            if s.name == name and s.labels == labels:
                return float(s.value)
    return None


def test_every_metric_is_documented_and_nothing_else() -> None:
    """docs/metrics.md lists exactly the metrics that /metrics shows (process figures by their common beginning)."""
    metrics = Metrics("1", "e1")
    metrics.attach(lambda: LIVE, lambda: 0)
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(metrics.exposition().decode())
    }
    shown = {n for n in names if not n.startswith("sip_edge_process_")}
    documented = set(re.findall(r"^\| `(sip_edge_\w+)", DOCUMENT.read_text(), re.MULTILINE))
    assert documented == shown
    assert any(n.startswith("sip_edge_process_") for n in names)


def test_labels_are_documented() -> None:
    """The second column names the labels of each metric, and no other."""
    metrics = Metrics("1", "e1")
    rows = dict(re.findall(r"^\| `(sip_edge_\w+)` \|([^|]*)\|", DOCUMENT.read_text(), re.MULTILINE))
    named = {
        name: set(re.findall(r"(?:^|, )`(\w+)`", re.sub(r"\([^)]*\)", "", cell.strip()))) for name, cell in rows.items()
    }
    known = {
        collector._name + ("_total" if collector._type == "counter" else ""): set(collector._labelnames)
        for collector in metrics.registry._collector_to_names
        if hasattr(collector, "_labelnames")
    }
    metrics.attach(lambda: LABELLED, lambda: 0)
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for one in family.samples:
            name = family.name + ("_total" if family.type == "counter" else "")
            known.setdefault(name, set(one.labels))
    assert named == {name: labels for name, labels in known.items() if not name.startswith("sip_edge_process_")}


def test_calls_are_counted_by_direction_and_outcome_with_their_times() -> None:
    """A finished call is one count, one set-up time, one talk time."""
    m = Metrics()
    m.call_finished("inbound", "answered", 0.12, 61.0)
    m.call_finished("inbound", "busy", None, None)
    assert sample(m, "sip_edge_calls_total", direction="inbound", outcome="answered") == 1
    assert sample(m, "sip_edge_calls_total", direction="inbound", outcome="busy") == 1
    assert sample(m, "sip_edge_setup_seconds_bucket", direction="inbound", le="0.1") == 0
    assert sample(m, "sip_edge_setup_seconds_bucket", direction="inbound", le="0.2") == 1
    assert sample(m, "sip_edge_talk_seconds_sum", direction="inbound") == 61


def test_a_refusal_is_counted_by_its_reason() -> None:
    """All reasons are there from the start, so that a rate can be asked of each; an unknown one is `other`."""
    m = Metrics()
    assert sample(m, "sip_edge_refusals_total", reason="number-limit") == 0
    m.refused("number-limit")
    m.refused("invented")
    assert sample(m, "sip_edge_refusals_total", reason="number-limit") == 1
    assert sample(m, "sip_edge_refusals_total", reason="other") == 1


def test_messages_are_counted_by_method_or_status() -> None:
    """Requests by method, responses by status, each by direction and transport."""
    m = Metrics()
    for _ in range(3):
        m.message("in", "udp", b"INVITE sip:a@b SIP/2.0\r\n\r\n")
    m.message("out", "tls", b"SIP/2.0 486 Busy Here\r\n\r\n")
    assert sample(m, "sip_edge_requests_total", direction="in", method="INVITE", transport="udp") == 3
    assert sample(m, "sip_edge_responses_total", direction="out", status="486", transport="tls") == 1


def test_strangers_cannot_make_time_series() -> None:
    """Invented methods and statuses fall into `other`; memory does not grow with them."""
    m = Metrics()
    before = len(m.exposition().splitlines())
    for n in range(500):
        m.message("in", "udp", b"M%d sip:a@b SIP/2.0\r\n" % n)
        m.message("in", "udp", b"SIP/2.0 9%02d What\r\n" % (n % 100))
    m.message("in", "udp", b"\xff\xfe\x00 no SIP at all")
    m.message("in", "udp", b"")
    assert sample(m, "sip_edge_requests_total", direction="in", method="other", transport="udp") == 502
    assert sample(m, "sip_edge_responses_total", direction="in", status="other", transport="udp") == 500
    assert len(m.exposition().splitlines()) == before + 2


def test_the_state_is_asked_for_at_each_scrape() -> None:
    """Gauges come from `Live` when Prometheus asks, so that they are never stale."""
    m = Metrics()
    states = iter([LIVE, Live()])
    m.attach(lambda: next(states), lambda: 9)
    first = m.exposition().decode()
    assert 'sip_edge_carrier_up{carrier="telekom"} 1.0' in first
    assert 'sip_edge_carrier_up{carrier="other"} 0.0' in first
    assert 'sip_edge_carrier_state{carrier="telekom",proxy="sip:p.example",state="fault"} 1.0' in first
    assert "sip_edge_tls_certificate_expires_timestamp_seconds 1.8e+09" in first
    assert "sip_edge_database_up 1.0" in first
    assert "sip_edge_log_lines_dropped 9.0" in first
    assert "sip_edge_database_up 0.0" in m.exposition().decode()
