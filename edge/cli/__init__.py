"""The command `sip-edge`. Each module holds a few commands as plain functions; here they get their names."""

from __future__ import annotations

import sys

import typer

from config.errors import ConfigError
from edge.cli import (
    account,
    bans,
    budgets,
    carrier_sim,
    demo,
    explain,
    fax,
    live,
    migrate,
    privacy,
    provision,
    records,
    relay,
    run,
    top,
)
from edge.cli.output import CommandError
from edge.observability.printable import printable_lines

app = typer.Typer(
    name="sip-edge",
    help="A SIP B2BUA and telephony edge between carriers and customers' PBXs and phones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(run.run)
app.command()(relay.relay)
app.add_typer(demo.app, name="demo")
app.add_typer(carrier_sim.app, name="carrier-sim")
app.command()(live.calls)
app.command()(live.registrations)
app.command()(live.carriers)
app.command()(top.top)
app.command()(live.trace)
app.command()(explain.explain)
app.command()(records.why)
app.command()(records.refusals)
app.add_typer(fax.app, name="fax")
app.add_typer(bans.app, name="bans")
app.add_typer(budgets.app, name="budgets")
app.add_typer(account.app, name="account")
app.command()(live.drain)
app.command()(live.reload)
app.command()(live.upgrade)
app.add_typer(privacy.app, name="privacy")
app.command()(migrate.migrate)
app.command()(provision.check_config)
app.add_typer(provision.app, name="provision")


def main() -> None:
    """Entry point: what goes wrong in words is said on standard error, with exit code 1."""
    try:
        app()
    except (CommandError, ConfigError) as e:
        sys.exit("\n".join(f"sip-edge: {line}" for line in printable_lines(str(e)).splitlines()))
    except BrokenPipeError:
        # The reader of our output (head, less) had enough.
        sys.stderr.close()
        sys.exit(0)
