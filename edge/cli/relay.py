"""`sip-edge relay`: the media relay as a process of its own, for edges that are not to take it down with them."""

from __future__ import annotations

import os
import sys

from edge.cli.options import Config, settings
from edge.cli.output import CommandError


def relay(config: Config = None) -> None:
    """Run the media relay that the settings' `relay_socket` names, until SIGTERM."""
    from edge.relays import relay_options

    chosen = settings(config)
    if chosen.relay_socket is None:
        raise CommandError("set relay_socket first: without it the edge runs a relay of its own")
    options = relay_options(chosen, str(chosen.relay_socket))
    os.execv(sys.executable, [sys.executable, "-m", "media.relay.process", *options.command_line()])
