"""Options that commands share, and what follows from them: settings, the daemon's address, the database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli.client import EdgeClient

if TYPE_CHECKING:
    from config.settings import Settings

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="SIP_EDGE_CONFIG", help="Settings file of the edge (TOML).", dir_okay=False),
]
Admin = Annotated[
    str | None,
    typer.Option("--admin", envvar="SIP_EDGE_ADMIN", help="URL where the daemon answers; default: as settings say."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def settings(config: Path | None) -> Settings:
    """The settings as the daemon would read them. Raises config.errors.ConfigError."""
    # Reading settings needs pydantic, which takes longer to load than most commands take.
    from config.settings import load_settings

    return load_settings(config)


def edge_client(config: Path | None, admin: str | None) -> EdgeClient:
    """A client for the daemon that the options mean."""
    return EdgeClient(admin if admin is not None else admin_url(settings(config)))


def admin_url(chosen: Settings) -> str:
    """Where the daemon with these settings answers: one that listens everywhere is asked on loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(chosen.admin_host, chosen.admin_host)
    return f"http://[{host}]:{chosen.admin_port}" if ":" in host else f"http://{host}:{chosen.admin_port}"
