"""Two calls through the running demonstration, for a person without a phone: one in, one out, with their ladders."""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path

import aiohttp

from edge.cli.output import CommandError
from edge.simulator.demo import CONFIG_FILE, CONTROL_FILE, SECRETS_FILE
from edge.simulator.phone import DemoPhone
from edge.simulator.sound import strength
from edge.simulator.station import Conversation
from edge.sip.flow import Address
from edge.transport.own_address import own_address

ROBOT_NUMBER = "+493023125003"
ECHO = "06990009123"
TONE = 440.0
_SECONDS = 15.0


async def demo_call(folder: Path) -> None:
    """Register a phone of ours, let the simulator call it, call the echo; print what was heard and the ladders."""
    try:
        settings = tomllib.loads((folder / CONFIG_FILE).read_text())
        words = json.loads((folder / SECRETS_FILE).read_text())
    except OSError:
        raise CommandError(f"there is no demonstration in {folder}: start it with `make run`") from None
    port = int(str(settings["listeners"][0]).rsplit(":", 1)[1])
    admin = f"http://127.0.0.1:{settings['admin_port']}"
    phone = DemoPhone(
        "127.0.0.1", own_address("0.0.0.0"), Address("127.0.0.1", port), "robot", words["SIP_EDGE_DEMO_ROBOT"], TONE
    )
    await phone.start()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_SECONDS)) as http:
            await _calls(phone, admin, _control(folder), http)
    except (ConnectionError, aiohttp.ClientConnectionError) as error:
        raise CommandError(f"{error}: is the demonstration running? Start it with `make run`") from None
    except TimeoutError:
        raise CommandError(f"the call did not come through within {_SECONDS:.0f} s; see the logs in {folder}") from None
    finally:
        await phone.stop()


async def _calls(phone: DemoPhone, admin: str, control: int, http: aiohttp.ClientSession) -> None:
    await phone.register()
    print(
        f"Inbound: the carrier calls {ROBOT_NUMBER}, our phone answers with a tone of {TONE:.0f} Hz, "
        "the carrier echoes.\n"
    )
    asking = asyncio.ensure_future(
        http.post(f"http://127.0.0.1:{control}/call", json={"number": ROBOT_NUMBER, "seconds": 3})
    )
    ringing = asyncio.ensure_future(phone.rung.get())
    await asyncio.wait([asking, ringing], timeout=_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if not ringing.done():
        ringing.cancel()
        refused = (await asking) if asking.done() else None
        raise ConnectionError((await refused.json()).get("error", "refused") if refused is not None else "nothing rang")
    print(await _listen(phone, ringing.result()))
    asking.cancel()
    print(await _ladder(http, admin))

    print(f"Outbound: our phone calls the carrier's echo at {ECHO}.\n")
    talk = await phone.dial(ECHO)
    await asyncio.wait_for(talk.answered.wait(), _SECONDS)
    if talk.status != 200:
        raise ConnectionError(f"the call was not answered: {talk.status}")
    print(await _listen(phone, talk))
    print(await _ladder(http, admin))
    await phone.register(0)


async def _listen(phone: DemoPhone, talk: Conversation) -> str:
    """Wait for half a second of sound, hang up, say what was heard."""
    try:
        await asyncio.wait_for(talk.sound.heard_enough.wait(), _SECONDS)
    except TimeoutError:
        phone.hang_up(talk)
        raise ConnectionError(f"answered, but no sound came back ({talk.sound.received} packets)") from None
    heard = strength(talk.sound.heard, TONE)
    phone.hang_up(talk)
    await phone.exchange.quiet(2.0)
    return f"Heard our own {TONE:.0f} Hz back through the edge's relay ({heard:.0%} of the sound).\n"


async def _ladder(http: aiohttp.ClientSession, admin: str) -> str:
    deadline = asyncio.get_running_loop().time() + 2
    while asyncio.get_running_loop().time() < deadline:
        async with http.get(f"{admin}/calls") as answer:
            if not await answer.json():
                break
    async with http.get(f"{admin}/trace/last", params={"messages": "0"}) as answer:
        return await answer.text()


def _control(folder: Path) -> int:
    """Where the simulator of this demonstration is told what to do."""
    return int((folder / CONTROL_FILE).read_text())
