"""Settings that change while calls run, and those that want a restart (docs/operations.md, "Changing settings").

`reload` reads the settings anew. What it may change it changes at once, for calls that begin from then on; what it may
not is told by name. Settings that cannot be read, or certificates that cannot be used, change nothing at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from config.errors import ConfigError
from config.settings import Settings
from edge.b2bua.call import CallTimers
from edge.from_settings import domains, guard_limits, welcome
from edge.observability.logging import adjust, get_logger
from edge.registrar.registrar import RegistrarSettings
from edge.transport.tls import TlsFileError

if TYPE_CHECKING:
    from edge.app import Edge

log = get_logger("app")


class Reloaded(NamedTuple):
    """Names of settings that changed and hold now, and of those that changed in the file and want a restart."""

    changed: tuple[str, ...]
    restart: tuple[str, ...]


def _log(edge: Edge, new: Settings) -> None:
    adjust(new.log_level, new.log_mask_numbers)


def _timers(edge: Edge, new: Settings) -> None:
    edge.engine.call_timers = CallTimers(answer=new.answer_timeout, longest=new.max_call_seconds)


def _registrar(edge: Edge, new: Settings) -> None:
    edge.registrar.settings = RegistrarSettings(
        new.register_min_expires, new.register_max_expires, new.register_default_expires
    )


def _guard(edge: Edge, new: Settings) -> None:
    edge.guard.limits = guard_limits(new)


def _digest(edge: Edge, new: Settings) -> None:
    edge.authenticator.offer(new.digest_algorithms)


def _strangers(edge: Edge, new: Settings) -> None:
    edge.guard.welcome = welcome(new)
    edge.identifier.domains = domains(new)
    edge.strangers.only_register = new.strangers == "register"


def _connections(edge: Edge, new: Settings) -> None:
    connections = edge.driver.connections
    connections.limits = replace(connections.limits, silence=new.connection_timeout)
    connections.tls_wildcards = new.tls_wildcards


def _traces(edge: Edge, new: Settings) -> None:
    edge.tap.resize(new.trace_megabytes * 1024 * 1024)
    edge.kept.max_bytes = new.trace_disk_megabytes * 1024 * 1024


def _capture(edge: Edge, new: Settings) -> None:
    edge.capture(new)


def _mail(edge: Edge, new: Settings) -> None:
    edge.use_mail(new)


def _keep(edge: Edge, new: Settings) -> None:
    edge.keep_calls(new)


_LIVE: dict[Callable[[Edge, Settings], None], tuple[str, ...]] = {
    _log: ("log_level", "log_mask_numbers"),
    _timers: ("answer_timeout", "max_call_seconds"),
    _registrar: ("register_min_expires", "register_default_expires", "register_max_expires"),
    _guard: ("guard_rate", "guard_burst", "guard_connections", "guard_strangers", "max_message_bytes"),
    _digest: ("digest_algorithms",),
    _strangers: ("domains", "strangers", "welcome_networks"),
    _connections: ("connection_timeout", "tls_wildcards"),
    _traces: ("trace_megabytes", "trace_disk_megabytes"),
    _capture: ("hep_server", "hep_capture_id", "hep_password"),
    _mail: (
        "smtp_host", "smtp_port", "smtp_tls", "smtp_username", "smtp_password", "smtp_ca_file", "fax_sender",
    ),
    _keep: ("call_records_keep_days",),
}  # fmt: skip
LIVE = frozenset(name for names in _LIVE.values() for name in names)
"""Settings that change while calls run. TLS files of the same name are read again as well."""


class SettingsReload:
    """Reloads the settings of one edge; one reload at a time."""

    def __init__(self, edge: Edge, load: Callable[[], Settings]) -> None:
        """`load` reads the settings as the start did. Raises ConfigError."""
        self._edge = edge
        self._load = load
        self._lock = asyncio.Lock()

    async def __call__(self) -> Reloaded:
        """Read the settings and certificates again. Raises ConfigError, in words; then everything is as it was."""
        async with self._lock:
            try:
                new = await asyncio.to_thread(self._load)
                self._edge.reload_certificates()
            except (ConfigError, TlsFileError) as error:
                log.error("settings.not_reloaded", detail=str(error))
                raise ConfigError(f"nothing was changed: {error}") from None
            edge, old = self._edge, self._edge.settings
            differing = [name for name in Settings.model_fields if getattr(old, name) != getattr(new, name)]
            changed = tuple(name for name in differing if name in LIVE)
            restart = tuple(name for name in differing if name not in LIVE)
            # what wants a restart stays as it is, so that the next reload tells of it again
            edge.settings = old.model_copy(update={name: getattr(new, name) for name in changed})
            for apply, names in _LIVE.items():
                if any(name in changed for name in names):
                    apply(edge, edge.settings)
            log.info("settings.reloaded", changed=list(changed), restart=list(restart))
            if restart:
                log.warning("settings.want_restart", settings=list(restart))
            return Reloaded(changed, restart)
