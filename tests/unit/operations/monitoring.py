"""What deploy/ gives to Prometheus and Grafana, read for tests."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
_METRIC = re.compile(r"\bsip_edge_\w+")
_PARTS = ("_bucket", "_count", "_sum")


def panels(dashboard: Path) -> list[dict[str, object]]:
    """Panels with queries."""
    found: list[dict[str, object]] = [p for p in json.loads(dashboard.read_text())["panels"] if p.get("targets")]
    return found


def expressions(dashboard: Path) -> list[str]:
    """Its queries, with Grafana's variables as Grafana fills them in."""
    return [
        target["expr"].replace("$__rate_interval", "1m").replace("$edge", ".*")
        for panel in panels(dashboard)
        for target in panel["targets"]  # type: ignore[attr-defined]
    ]


def rules() -> list[dict[str, object]]:
    """The alert rules."""
    document = yaml.safe_load((PROMETHEUS / "sip-edge.rules.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def families(expression: str) -> set[str]:
    """Metrics of an expression, as docs/metrics.md names them."""
    found = set()
    for name in _METRIC.findall(expression):
        for part in _PARTS:
            name = name.removesuffix(part)
        found.add(name)
    return found
