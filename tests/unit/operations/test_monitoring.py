"""Dashboards, alert rules and the runbook: they parse, they name metrics that exist, and they name each other."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from edge.observability.metrics import Metrics
from tests.unit.operations.monitoring import DASHBOARDS, PROMETHEUS, ROOT, expressions, families, panels, rules

CATALOGUE = {
    match[1]: match[2]
    for match in re.finditer(r"^\| `(sip_edge_\w+)` \|([^|]*)\|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
}
PROCESS = "sip_edge_process_"


def promtool(*words: str) -> None:
    """Run promtool; its words are the failure."""
    done = subprocess.run(["promtool", *words], cwd=PROMETHEUS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_metrics_of_dashboards_and_rules_exist() -> None:
    """A panel over a metric that is no more stays empty for ever."""
    for where, expression in every_expression():
        unknown = {f for f in families(expression) if f not in CATALOGUE and not f.startswith(PROCESS)}
        assert not unknown, f"{where}: {unknown}"


def test_labels_of_dashboards_and_rules_exist() -> None:
    """What an expression selects or sums by is a label of its metric."""
    for where, expression in every_expression():
        known = {"instance", "job", "le"} | {
            label for family in families(expression) for label in re.findall(r"`(\w+)`", CATALOGUE.get(family, ""))
        }
        used = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", expression))
        for group in re.findall(r"\bby \(([^)]*)\)", expression):
            used |= {label.strip() for label in group.split(",")}
        assert used <= known, f"{where}: {used - known}"


def test_every_metric_is_on_a_dashboard() -> None:
    """What is measured can be seen without writing a query."""
    shown = {family for dashboard in DASHBOARDS for e in expressions(dashboard) for family in families(e)}
    missing = set(CATALOGUE) - shown
    assert not missing, f"add a panel in deploy/grafana for {missing}"


def every_expression() -> list[tuple[str, str]]:
    found = [(str(rule["alert"]), str(rule["expr"])) for rule in rules()]
    return found + [(dashboard.name, e) for dashboard in DASHBOARDS for e in expressions(dashboard)]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_are_whole(dashboard: Path) -> None:
    """What Grafana needs to load one: an id of its own, panels that do not overlap, a data source that is chosen."""
    document = json.loads(dashboard.read_text())
    assert document["uid"] and document["title"] and document["schemaVersion"] >= 36
    assert [v["name"] for v in document["templating"]["list"]] == ["datasource", "edge"]
    ids = [panel["id"] for panel in document["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels(dashboard):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]


def test_what_alerts_ask_the_increase_of_is_there_from_the_start() -> None:
    """A series that begins with its first event has no increase: the first alarm would wake nobody. Of a label whose
    values are not known before, the rule asks for new series as well."""
    shown = Metrics().exposition().decode()
    for rule in rules():
        expression = str(rule["expr"])
        for name, selector in re.findall(r"increase\((sip_edge_\w+_total)(\{[^}]*\})?\[", expression):
            told = re.search(rf"^{name}(\{{.*\}})? 0\.0$", shown, re.MULTILINE)
            asked_of_live = name.removesuffix("_total") in LIVE_COUNTERS
            assert told or asked_of_live or f"unless {name} offset" in expression, f"{rule['alert']}: {name}{selector}"


LIVE_COUNTERS = {"sip_edge_socket_drops", "sip_edge_fax_mails"}
"""Asked for at a scrape, with all their labels: `Live`."""


def test_every_alert_has_its_page() -> None:
    """Who is woken up knows where to read on: the heading exists."""
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
        for line in (ROOT / "docs/runbook.md").read_text().splitlines()
        if line.startswith("## ")
    }
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")  # type: ignore[index]
        page, _, heading = str(rule["annotations"]["runbook"]).partition("#")  # type: ignore[index]
        assert (ROOT / page).exists(), rule["alert"]
        assert not heading or heading in headings, f"{rule['alert']}: docs/runbook.md has no {heading}"


def test_the_runbook_names_what_exists() -> None:
    """Alerts, events and metrics that the runbook names are there."""
    text = (ROOT / "docs/runbook.md").read_text()
    assert set(re.findall(r"`(SipEdge\w+)`", text)) == {str(r["alert"]) for r in rules()} - {"SipEdgeFaxesUndelivered"}
    events = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", text))
    known = set(re.findall(r"`([a-z_0-9]+\.[a-z_0-9]+)`", (ROOT / "docs/logs.md").read_text()))
    assert {e for e in events if not e.endswith((".md", ".key", ".cache", ".records"))} <= known
    assert {f for f in families(text)} <= set(CATALOGUE)


@pytest.mark.adapter
def test_prometheus_takes_configuration_and_rules() -> None:
    """promtool, of Prometheus itself."""
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "sip-edge.rules.yml")


@pytest.mark.adapter
def test_alerts_fire_when_they_should() -> None:
    """Series go in, alerts come out (sip-edge.tests.yml)."""
    promtool("test", "rules", "sip-edge.tests.yml")


@pytest.mark.adapter
@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_prometheus_parses_every_panel(dashboard: Path, tmp_path: Path) -> None:
    """Each expression of a dashboard is one that Prometheus can read."""
    file = tmp_path / "panels.yml"
    recorded = [{"record": f"panel:{n}", "expr": e} for n, e in enumerate(expressions(dashboard))]
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    promtool("check", "rules", str(file))
