"""Whatever strangers and customers put into names, numbers and messages: no command lets it steer a terminal."""

from __future__ import annotations

import sys

import pytest

import edge.cli
from edge.cli.client import EdgeClient

EVIL = "\x1b]0;owned\x07\x9b2J\u202egnp.exe\u2066\x00\x7f\udcff"
_NUMBERS = ("calls", "max_calls", "used", "limit", "limit_value", "messages", "forgotten", "pages")


class Hostile(dict[str, object]):
    """A row in which every text is hostile."""

    def __missing__(self, key: str) -> object:
        if key in _NUMBERS or key.endswith(("_hour", "_day", "_used")):
            return 1
        if key.endswith("_at") or key in ("until", "since", "at"):
            return "2026-12-01T12:00:00+00:00"
        return None if key in ("proxies", "caller_withheld") else EVIL

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
        if key == "attempts":
            return [{"kind": EVIL, "name": EVIL, "status": EVIL, "sent": [EVIL]}]
        if key == "trace":
            return [{"rule": EVIL, "text": EVIL}]
        return [EVIL] if key in ("missing", "changed", "restart") else self[key]


@pytest.mark.parametrize(
    "command",
    ["calls", "registrations", "carriers", "refusals", "why c1", "trace c1", "explain --from a --to 1", "top --once",
     "bans list", "bans add 192.0.2.1", "budgets list", "fax list", "fax show f1", "reload"],
)  # fmt: skip
def test_no_command_prints_a_control_character(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables, sentences and ladders, with everything that the daemon says being hostile."""
    shown = Hostile(name=EVIL, caller=EVIL, contact=EVIL)
    monkeypatch.setattr(EdgeClient, "rows", lambda *a, **k: [shown])
    monkeypatch.setattr(EdgeClient, "row", lambda *a, **k: shown)
    monkeypatch.setattr(EdgeClient, "send", lambda *a, **k: shown)
    monkeypatch.setattr(
        EdgeClient,
        "get",
        lambda self, path, *a, **k: b"sip_edge_up 1\n" if path == "/metrics" else EVIL.encode("utf-8", "replace"),
    )
    monkeypatch.setattr(sys, "argv", ["sip-edge", *command.split()])
    with pytest.raises(SystemExit) as end:
        edge.cli.main()
    assert end.value.code == 0, end.value.code
    out = capsys.readouterr().out
    bad = sorted({c for c in out if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066\udcff"})
    assert not bad and "owned" in out, (bad, out)


def test_an_error_prints_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the daemon says in an error goes to the terminal as well."""
    monkeypatch.setattr(EdgeClient, "rows", lambda *a, **k: (_ for _ in ()).throw(edge.cli.CommandError(EVIL)))
    monkeypatch.setattr(sys, "argv", ["sip-edge", "calls"])
    with pytest.raises(SystemExit) as end:
        edge.cli.main()
    assert "\\x1b]0;owned" in str(end.value.code) and str(end.value.code).isprintable()
