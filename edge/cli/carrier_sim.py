"""`sip-edge carrier-sim`: a carrier on loopback, and what it is told to do."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.error
import urllib.request
from typing import Annotated

import typer

from edge.cli.output import CommandError

app = typer.Typer(help="A carrier on loopback for first calls and tests.", no_args_is_help=True)

Control = Annotated[int, typer.Option("--control", help="Port of its control HTTP on 127.0.0.1.")]
PORT, CONTROL = 5080, 5081


@app.command("run")
def run(
    port: Annotated[int, typer.Option(help="SIP port, UDP and TCP, on 127.0.0.1.")] = PORT,
    control: Control = CONTROL,
    username: Annotated[str, typer.Option(envvar="SIP_EDGE_SIM_USERNAME")] = "4919929600001",
    password: Annotated[str, typer.Option(envvar="SIP_EDGE_SIM_PASSWORD", help="Better given by the variable.")] = "",
    realm: Annotated[str, typer.Option(help="SIP domain and digest realm.")] = "carrier.example",
) -> None:
    """Run the simulator: a registrar that challenges, with an echo behind every number, until it is stopped."""
    if not password:
        raise CommandError("the simulator needs the password of its one customer: set SIP_EDGE_SIM_PASSWORD")
    asyncio.run(_run(port, control, username, password, realm))


async def _run(port: int, control_port: int, username: str, password: str, realm: str) -> None:
    from aiohttp import web

    from edge.simulator.carrier import CarrierSim, Login
    from edge.simulator.control import control
    from edge.transport.errors import ListenError
    from edge.transport.own_address import own_address

    login = Login(username, password, realm)
    sim = CarrierSim("127.0.0.1", port, own_address("0.0.0.0"), login, lambda line: print(line, flush=True))
    try:
        await sim.start()
    except ListenError as error:
        raise CommandError(str(error)) from None
    runner = web.AppRunner(control(sim), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", control_port).start()
    except OSError as error:
        await runner.cleanup()
        await sim.stop()
        raise CommandError(f"port {control_port} for the control HTTP is taken ({error.strerror})") from None
    print(f"carrier simulator: SIP on 127.0.0.1:{port}, control on 127.0.0.1:{control_port}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await runner.cleanup()
    await sim.stop()


@app.command("call")
def call(
    number: Annotated[str, typer.Argument(help="The number to call in, as the carrier would name it.")],
    caller: Annotated[str, typer.Option(help="Calling number.")] = "",
    seconds: Annotated[float, typer.Option(help="How long to echo before hanging up.")] = 10,
    control: Control = CONTROL,
) -> None:
    """Let the running simulator call a number of ours; whoever answers hears its own voice."""
    print(_ask(control, "call", {"number": number, "caller": caller, "seconds": seconds})["result"])


@app.command("behave")
def behave(
    behaviour: Annotated[
        str,
        typer.Argument(
            help="answer, early, ring, busy, decline, unknown, overloaded, silent, hang-up, refuse-register or "
            "lose-register."
        ),
    ],
    control: Control = CONTROL,
) -> None:
    """Tell the running simulator how to treat what comes from now on."""
    print(_ask(control, "behave", {"behaviour": behaviour})["behaviour"])


def _ask(port: int, what: str, value: dict[str, object]) -> dict[str, str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/{what}", json.dumps(value).encode(), {"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=300) as answer:
            out: dict[str, str] = json.load(answer)
            return out
    except urllib.error.HTTPError as error:
        raise CommandError(str(json.load(error)["error"])) from None
    except OSError:
        raise CommandError(
            f"no simulator answers on 127.0.0.1:{port}: start it with `make run` or `sip-edge carrier-sim run`"
        ) from None
