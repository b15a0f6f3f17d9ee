"""A real Prometheus that scrapes an edge every second, with the rules of deploy/."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path

from peers.ports import take_port
from peers.process import PeerProcess, poll


class Prometheus:
    """One server with its data in `folder`."""

    def __init__(self, folder: Path, rules: Path, admin_port: int) -> None:
        self.port = take_port()
        folder.mkdir(parents=True)
        config = folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: [{json.dumps(str(rules))}]\n"
            "scrape_configs:\n"
            f"  - {{job_name: sip-edge, static_configs: [{{targets: ['127.0.0.1:{admin_port}']}}]}}\n"
        )
        self._process = PeerProcess(
            "prometheus",
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address=127.0.0.1:{self.port}"],
            folder / "prometheus.log",
        )  # fmt: skip
        self._process.wait_for("Server is ready", 30)

    def wait_scraped(self) -> None:
        """Until two scrapes have come, so that rates have something to say."""
        poll(lambda: float(self.value("count_over_time(up[1m])")) >= 3 and self.value("up") == "1", "scrapes came", 30)

    def ask(self, path: str, **query: str) -> object:
        """`data` of an answer of the HTTP API. Fails with its error."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            said = json.loads(answer.read())
        assert said["status"] == "success", said
        return said["data"]

    def rules(self) -> list[dict[str, object]]:
        """The rules that are loaded."""
        found: list[dict[str, object]] = self.ask("rules")["groups"][0]["rules"]  # type: ignore[index]
        return found

    def rules_healthy(self) -> bool:
        """Whether each was evaluated without an error."""
        return all(rule["health"] == "ok" for rule in self.rules())

    def query(self, expression: str) -> list[dict[str, object]]:
        """The series of an expression now."""
        found: list[dict[str, object]] = self.ask("query", query=expression)["result"]  # type: ignore[index]
        return found

    def value(self, expression: str) -> str:
        """The only value of an expression; `0` where there is none."""
        found = self.query(expression)
        return str(found[0]["value"][1]) if found else "0"  # type: ignore[index]

    def stop(self) -> None:
        self._process.stop()
