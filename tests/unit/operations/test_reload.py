"""Which settings change while calls run, and that each of the others is named as wanting a restart."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from config.errors import ConfigError
from config.settings import Settings
from edge import reload as reload_module
from edge.app import Edge
from edge.b2bua.call import CallTimers
from edge.observability import logging
from edge.observability.trace import Tap
from edge.registrar.registrar import RegistrarSettings
from edge.reload import LIVE, SettingsReload
from edge.sip.flow import Address, Flow
from edge.transport.guard import Guard, GuardLimits
from edge.transport.tcp import StreamLimits
from edge.transport.tls import TlsFileError
from tests.unit.operations.test_audit import Lines

FLOW = Flow("udp", Address("192.0.2.1", 5060), Address("203.0.113.5", 5060))


class Parts:
    """The parts of an edge that a reload changes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = SimpleNamespace(call_timers=CallTimers())
        self.registrar = SimpleNamespace(settings=RegistrarSettings())
        self.guard = Guard()
        self.driver = SimpleNamespace(connections=SimpleNamespace(limits=StreamLimits(), tls_wildcards=False))
        self.authenticator = SimpleNamespace(offer=lambda algorithms: self.done.append(f"offer {algorithms}"))
        self.identifier = SimpleNamespace(domains=frozenset())
        self.strangers = SimpleNamespace(only_register=False)
        self.tap = Tap()
        self.kept = SimpleNamespace(max_bytes=1)
        self.done: list[str] = []
        self.certificates: Exception | None = None

    def reload_certificates(self) -> None:
        if self.certificates is not None:
            raise self.certificates
        self.done.append("certificates")

    def capture(self, settings: Settings) -> None:
        self.done.append(f"capture {settings.hep_server}")

    def use_mail(self, settings: Settings) -> None:
        self.done.append(f"mail {settings.smtp_host}")

    def keep_calls(self, settings: Settings) -> None:
        self.done.append(f"keep {settings.call_records_keep_days}")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    found = Lines()
    for name in ("lines", "levels", "mask_numbers"):
        monkeypatch.setattr(logging._Output, name, getattr(logging._Output, name))
    logging.configure(found)
    return found


def settings(**values: Any) -> Settings:
    return Settings(edge_name="e1", data_dir=Path("/nowhere"), **values)


def reloading(parts: Parts, *loads: Settings | Exception) -> SettingsReload:
    left = list(loads)

    def load() -> Settings:
        following = left.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    return SettingsReload(cast(Edge, parts), load)


async def test_what_can_change_changes(lines: Lines) -> None:
    """Each part has its new value, and the answer names the settings."""
    parts = Parts(settings())
    for n in range(10):
        parts.tap.message("in", b"OPTIONS\r\nCall-ID: x\r\n\r\n", FLOW, float(n))
    new = settings(
        log_level="debug", answer_timeout=60, max_call_seconds=3600, register_max_expires=900, guard_rate=7,
        trace_megabytes=0, trace_disk_megabytes=2, hep_server="homer:9060", smtp_host="mail.example",
        call_records_keep_days=30,
    )  # fmt: skip
    changed, restart = await reloading(parts, new)()
    assert restart == ()
    assert set(changed) == {
        "log_level", "answer_timeout", "max_call_seconds", "register_max_expires", "guard_rate", "trace_megabytes",
        "trace_disk_megabytes", "hep_server", "smtp_host", "call_records_keep_days",
    }  # fmt: skip
    assert (parts.engine.call_timers.answer, parts.engine.call_timers.longest) == (60, 3600)
    assert parts.registrar.settings.max_expires == 900
    assert parts.guard.limits == GuardLimits(7, 400, 65535, 500)
    assert parts.tap.bytes_kept == 0 and parts.kept.max_bytes == 2 * 1024 * 1024
    assert parts.done == ["certificates", "capture homer:9060", "mail mail.example", "keep 30"]
    logging.get_logger("x").debug("now.heard")
    assert lines.events("now.heard")
    assert (await reloading(parts, settings())())[0]
    logging.get_logger("x").debug("now.silent")
    assert not lines.events("now.silent")


async def test_who_is_answered_and_how_changes(lines: Lines) -> None:
    """Whom the edge answers, what it offers them, and how long it waits on connections: all while it runs."""
    parts = Parts(settings())
    new = settings(
        digest_algorithms=["MD5"], domains=["SIP.example"], strangers="silent", welcome_networks=["192.0.2.0/24"],
        connection_timeout=60, tls_wildcards=True,
    )  # fmt: skip
    back = settings(strangers="register", welcome_networks=["192.0.2.0/24"])
    reload = reloading(parts, new, back)
    assert len((await reload()).changed) == 6
    assert parts.done == ["certificates", "offer ('MD5',)"]
    assert parts.guard.welcome == (ip_network("192.0.2.0/24"),)
    assert parts.identifier.domains == {"sip.example"} and not parts.strangers.only_register
    assert parts.driver.connections.limits == StreamLimits(silence=60) and parts.driver.connections.tls_wildcards
    await reload()
    assert parts.guard.welcome is None and not parts.identifier.domains and parts.strangers.only_register


async def test_what_wants_a_restart_is_named_each_time(lines: Lines) -> None:
    """A listener does not change; the next reload says so again, and what could change has changed."""
    parts = Parts(settings())
    new = settings(realm="other", log_mask_numbers=False)
    reload = reloading(parts, new, new)
    assert await reload() == (("log_mask_numbers",), ("realm",))
    assert await reload() == ((), ("realm",))
    assert parts.settings.realm == "sip-edge"
    assert lines.events("settings.want_restart")[0]["settings"] == ["realm"]


@pytest.mark.parametrize("fault", [ConfigError("edge.toml: t1: too large"), TlsFileError("a.pem cannot be used")])
async def test_what_cannot_be_used_changes_nothing(lines: Lines, fault: Exception) -> None:
    """A typing error in the file, or half a certificate, leaves the edge as it is, and says which."""
    parts = Parts(settings())
    if isinstance(fault, TlsFileError):
        parts.certificates = fault
        reload = reloading(parts, settings(guard_rate=1))
    else:
        reload = reloading(parts, fault)
    with pytest.raises(ConfigError, match=r"nothing was changed: (edge\.toml|a\.pem)"):
        await reload()
    assert parts.guard.limits.rate == 100 and parts.done == []
    assert lines.events("settings.not_reloaded")


def test_every_setting_that_changes_is_one_and_is_documented() -> None:
    """No group names a setting that does not exist; the page of operations lists them."""
    assert set(Settings.model_fields) >= LIVE
    page = (Path(reload_module.__file__).parents[1] / "docs" / "operations.md").read_text()
    table = page.partition("## Changing settings")[2].partition("## Is it well?")[0]
    for name in LIVE:
        group = f"{name.partition('_')[0]}_*"
        assert f"`{name}`" in table or group in table or ("register_*_expires" in table and "expires" in name), name
