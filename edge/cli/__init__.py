"""The command `sip-edge`. Each module holds a few commands as plain functions; here they get their names."""

from __future__ import annotations

import sys

import typer

from config.errors import ConfigError
from edge.cli import live, records, run
from edge.cli.output import CommandError

app = typer.Typer(
    name="sip-edge",
    help="A SIP B2BUA and telephony edge between carriers and customers' PBXs and phones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(run.run)
app.command()(live.calls)
app.command()(live.registrations)
app.command()(live.carriers)
app.command()(live.trace)
app.command()(records.why)
app.command()(records.refusals)
app.command()(live.drain)


def main() -> None:
    """Entry point: what goes wrong in words is said on standard error, with exit code 1."""
    try:
        app()
    except (CommandError, ConfigError) as e:
        sys.exit("\n".join(f"sip-edge: {line}" for line in str(e).splitlines()))
    except BrokenPipeError:
        # The reader of our output (head, less) had enough.
        sys.stderr.close()
        sys.exit(0)
