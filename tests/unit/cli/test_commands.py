"""The commands against a running admin HTTP, as a person calls them."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import edge.cli
from dialplan.explain import Question
from dialplan.model import SourceKind
from edge.admin.http import AdminHttp
from edge.cli.options import admin_url
from edge.cli.output import length
from tests.unit.admin.views import RECORD, REFUSAL, FakeViews


class Daemon:
    """An admin HTTP in a thread of its own, as the commands wait for answers without a loop."""

    def __init__(self) -> None:
        self.views = FakeViews()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._http = AdminHttp(self.views, "127.0.0.1", 0)

    def __enter__(self) -> "Daemon":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._http.start(), self._loop).result(10)
        self.url = f"http://127.0.0.1:{self._http.address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._http.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon that the commands find."""
    with Daemon() as daemon:
        monkeypatch.setenv("SIP_EDGE_ADMIN", daemon.url)
        yield daemon


def sip_edge(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str | int | None:
    """Run the command; its exit code or message as `sys.exit` got it."""
    monkeypatch.setattr(sys, "argv", ["sip-edge", *arguments])
    with pytest.raises(SystemExit) as end:
        edge.cli.main()
    return end.value.code


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("calls", ["CALL", "c1", "anonymous", "+4922838600", "trunk hq"]),
        ("registrations", ["a.mueller", "udp:10.0.0.5:5060", "phone 1"]),
        ("carriers", ["telekom", "registered", "yes", "3/200", "200 OK"]),
        ("refusals", ["2026-11-22 12:00:00Z", "number-limit", "2/2", "anonymous", "486", "both channels are in use"]),
    ],
)
def test_tables_show_what_matters(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, shown: list[str]
) -> None:
    """One heading, a line per thing, columns aligned."""
    assert sip_edge(monkeypatch, command) == 0
    heading, row = capsys.readouterr().out.splitlines()
    for text in shown:
        assert text in heading or text in row
    if command == "calls":
        assert heading.index("STATE") == row.index("up")


@pytest.mark.parametrize("command", ["calls", "registrations", "carriers", "refusals"])
def test_json_is_what_the_daemon_said(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """`--json` is for programs: a list of objects."""
    assert sip_edge(monkeypatch, command, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert isinstance(value, list) and len(value) == 1


def test_nothing_is_said_in_words(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty table is a sentence."""
    daemon.views.up = []
    assert sip_edge(monkeypatch, "calls") == 0
    assert capsys.readouterr().out == "No calls are up.\n"


def test_trace_prints_the_ladder_or_writes_a_capture(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """By our id or a Call-ID with a slash; `--ladder` without messages; `--pcap` for Wireshark."""
    assert sip_edge(monkeypatch, "trace", "x/y@far") == 0
    assert sip_edge(monkeypatch, "trace", "c1", "--ladder") == 0
    assert capsys.readouterr().out == "call c1, messages True\ncall c1, messages False\n"
    file = tmp_path / "c1.pcap"
    assert sip_edge(monkeypatch, "trace", "c1", "--pcap", str(file)) == 0
    assert file.read_bytes() == b"\xd4\xc3\xb2\xa1capture"
    code = sip_edge(monkeypatch, "trace", "c1", "--pcap", str(tmp_path / "none" / "x"))
    assert isinstance(code, str) and "cannot be written: No such file" in code
    code = sip_edge(monkeypatch, "trace", "nobody")
    assert isinstance(code, str) and code.startswith("sip-edge: no messages are kept of a call 'nobody'")


def test_why_explains_a_call_in_plain_words(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a support agent: what it was, how it ended, what was tried, each step of the decision."""
    daemon.views.records.found = {"c9": RECORD, "r1": {"table": "refused_calls", **REFUSAL}}
    assert sip_edge(monkeypatch, "why", "c9") == 0
    assert capsys.readouterr().out.splitlines() == [
        "Call c9, outbound, 2026-11-22 12:00:00Z: answered.",
        "  from +4922838600 (seat a.mueller), dialled 23442036427900",
        "  for account K1, billed to account K2",
        "  to +442036427900 at carrier telekom",
        "  answer to the caller: 200",
        "  tried carrier other: 503",
        "      INVITE sip:+442036427900@other.example",
        "  tried carrier telekom: 200",
        "How it was decided:",
        "  E10  23 chooses +442088198786",
        "  E6   an international number",
    ]
    assert sip_edge(monkeypatch, "why", "r1") == 0
    assert capsys.readouterr().out.splitlines() == [
        "Call r1 was refused on 2026-11-22 12:00:00Z: number-limit.",
        "  inbound from anonymous to +4922838600",
        "  limit of the number: 2/2 in use",
        "  both channels are in use",
    ]
    assert sip_edge(monkeypatch, "why", "c1") == 0
    assert capsys.readouterr().out.startswith("Call c1, outbound, is up since 2026-11-22 12:00:00Z.\n")


def test_drain_says_how_many_calls_are_up(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator knows what to wait for."""
    assert sip_edge(monkeypatch, "drain") == 0
    assert "1" in capsys.readouterr().out and daemon.views.drained


def test_explain_asks_the_daemon(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One source, what is dialled, and what is wrong in a sentence."""
    assert sip_edge(monkeypatch, "explain", "--carrier", "telekom", "--to", "0228", "--caller", "0151") == 0
    assert capsys.readouterr().out == "How it was decided\n"
    assert daemon.views.question == Question(SourceKind.CARRIER, "telekom", "0228", "0151")
    assert sip_edge(monkeypatch, "explain", "--from", "a.mueller", "--to", "110", "--anonymous") == 0
    assert daemon.views.question == Question(SourceKind.SEAT, "a.mueller", "110", "", True)
    assert sip_edge(monkeypatch, "explain", "--to", "110") == (
        "sip-edge: say who calls with one of --from SEAT, --trunk ACCOUNT/NAME and --carrier NAME"
    )
    assert sip_edge(monkeypatch, "explain", "--from", "nobody", "--to", "1") == "sip-edge: there is no seat nobody"


def test_refusals_for_want_of_channels_are_counted(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """T5.2: how many at each level."""
    assert sip_edge(monkeypatch, "refusals", "--limits") == 0
    assert daemon.views.records.limits_only
    assert capsys.readouterr().out.endswith("\n\n1 for want of a channel of the number\n")


@pytest.mark.parametrize(
    "command",
    [["calls"], ["trace", "x"], ["drain"], ["why", "x"], ["refusals"], ["explain", "--from", "a", "--to", "1"]],
)
def test_without_a_daemon_there_is_one_clear_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """Where it was looked for and what to do, exit code 1, no traceback."""
    monkeypatch.setenv("SIP_EDGE_ADMIN", "http://127.0.0.1:25999")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    code = sip_edge(monkeypatch, *command)
    assert isinstance(code, str)
    assert code.startswith("sip-edge: no edge answers at http://127.0.0.1:25999 ([Errno 111] Connection refused)")
    assert "sip-edge run" in code
    assert capsys.readouterr().out == ""


def test_bad_settings_are_said_and_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the settings names it."""
    monkeypatch.setenv("SIP_EDGE_ADMIN_PORT", "99999999")
    monkeypatch.delenv("SIP_EDGE_ADMIN", raising=False)
    code = sip_edge(monkeypatch, "calls")
    assert isinstance(code, str) and "SIP_EDGE_ADMIN_PORT" in code


def test_an_environment_with_a_proxy_does_not_hide_the_daemon(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon is on this machine, whatever http_proxy says."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:25998")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert sip_edge(monkeypatch, "calls") == 0


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:8080"),
        ("10.1.1.1", "http://10.1.1.1:8080"),
    ],
)
def test_the_daemon_is_looked_for_where_it_listens(host: str, url: str) -> None:
    """One that listens everywhere is asked on loopback."""
    assert admin_url(SimpleNamespace(admin_host=host, admin_port=8080)) == url  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.4, "59s"), (192, "3m12s"), (7500, "2h05m"), (273_600, "3d04h"), (-5, "0s")]
)
def test_lengths_of_time_are_short(seconds: float, text: str) -> None:
    """Two units at most."""
    assert length(seconds) == text


def test_commands_start_without_the_daemons_libraries() -> None:
    """A look at the calls must not take a second: what only the daemon needs is not loaded."""
    command = [sys.executable, "-c", "import edge.cli, sys; print(*sys.modules)"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "typer" in loaded
    assert not {"aiohttp", "asyncpg", "uvloop", "pydantic", "prometheus_client"} & set(loaded)


def test_bans(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """7.4c: seen, made and lifted by command; a mistake is said in words."""
    assert not sip_edge(monkeypatch, "bans", "add", "198.51.100.7", "--for", "2h")
    assert capsys.readouterr().out.endswith("198.51.100.7 is banned for 2h.\n")
    assert not sip_edge(monkeypatch, "bans", "list", "--json")
    assert json.loads(capsys.readouterr().out)[0]["source"] == "198.51.100.7"
    assert not sip_edge(monkeypatch, "bans", "list")
    assert "198.51.100.7" in capsys.readouterr().out
    assert not sip_edge(monkeypatch, "bans", "lift", "198.51.100.7")
    assert "198.51.100.7 is not banned" in str(sip_edge(monkeypatch, "bans", "lift", "198.51.100.7"))
    assert "no source" in str(sip_edge(monkeypatch, "bans", "add", "example.org"))


def test_budgets(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """7.4g: seen and counted anew by command."""
    assert not sip_edge(monkeypatch, "budgets", "list")
    said = capsys.readouterr().out.split("\n")
    assert said[1].split() == ["account", "K1", "3/10", "7", "60/60", "90"]
    assert not sip_edge(monkeypatch, "budgets", "reset", "account", "K1")
    assert "there is no budget of seat nobody" in str(sip_edge(monkeypatch, "budgets", "reset", "seat", "nobody"))
