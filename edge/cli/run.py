"""The command that is the daemon."""

from __future__ import annotations

from edge.cli.options import Config, settings


def run(config: Config = None) -> None:
    """Run the edge until SIGTERM or SIGINT; systemd starts it like this."""
    chosen = settings(config)
    # The daemon's rooms are loaded here only, so that other commands start fast.
    import faulthandler

    import uvloop

    from edge.daemon import serve

    faulthandler.enable()  # a watchdog ends a loop that stood still with SIGABRT: where it stood is said then
    uvloop.run(serve(chosen, lambda: settings(config)))
