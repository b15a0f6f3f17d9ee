"""`sip-edge demo`: the whole edge on one machine with a customer, two phones to set up, and a carrier to call."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The edge with everything around it on this machine.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option("--folder", help="Where the demonstration keeps its data.")]
FOLDER = Path(".data/demo")


@app.command("up")
def up(
    folder: Folder = FOLDER,
    port: Annotated[int, typer.Option(help="SIP port of the edge, UDP and TCP.")] = 5060,
    admin: Annotated[int, typer.Option(help="Port of metrics, health and views on 127.0.0.1.")] = 8080,
    carrier: Annotated[
        int, typer.Option(help="SIP port of the carrier simulator; its control is the next one.")
    ] = 5080,
) -> None:
    """Start database, relay, edge and carrier simulator, say how to call, and run until Ctrl-C."""
    from edge.simulator.demo import Demo

    asyncio.run(Demo(folder, port, admin, carrier).run())


@app.command("call")
def call(folder: Folder = FOLDER) -> None:
    """Place one inbound and one outbound call through the running demonstration and print their ladders."""
    from edge.simulator.demo_call import demo_call

    asyncio.run(demo_call(folder))
