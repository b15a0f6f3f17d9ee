"""Everything of a demonstration on one machine: database, relay, edge, carrier simulator, each a process of its own."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import aiohttp
import asyncpg

from config.apply import apply_document
from config.document import parse_document
from config.embedded import EmbeddedPostgres
from config.errors import ConfigError
from config.migrations.runner import migrate_up
from config.secrets import secret_box
from config.settings import load_settings

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_SECRETS = ("SIP_EDGE_SIM_PASSWORD", "SIP_EDGE_DEMO_PHONE_1", "SIP_EDGE_DEMO_PHONE_2", "SIP_EDGE_DEMO_ROBOT")
SECRETS_FILE = "passwords.json"
CONFIG_FILE = "edge.toml"
CONTROL_FILE = "carrier-control.port"


@dataclass(slots=True)
class _Child:
    name: str
    process: asyncio.subprocess.Process
    log: Path


class Demo:
    """One demonstration in a folder; passwords are made at the first start and stay."""

    def __init__(self, folder: Path, port: int, admin: int, carrier: int) -> None:
        self.folder = folder.resolve()
        self.port = port
        self.admin = admin
        self.carrier = carrier
        self._children: list[_Child] = []

    async def run(self) -> None:
        """Up, tell, wait for Ctrl-C, down. Raises ConfigError with the log of what did not start."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with AsyncExitStack() as stack:
            await self._start(stack)
            print(self._welcome(), flush=True)
            ended = [asyncio.ensure_future(child.process.wait()) for child in self._children]
            await asyncio.wait([asyncio.ensure_future(stop.wait()), *ended], return_when=asyncio.FIRST_COMPLETED)
            print("\nStopping: calls are ended, the registration is given back ...", flush=True)
            if not stop.is_set():
                dead = next(child for child in self._children if child.process.returncode is not None)
                raise ConfigError(f"the {dead.name} ended by itself:\n{_tail(dead.log)}")
        print("Stopped.", flush=True)

    async def _start(self, stack: AsyncExitStack) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._alone(stack)
        words = self._passwords()
        config = self._write_config()
        settings = load_settings(config, {})
        database = EmbeddedPostgres(settings.database_folder)
        url = await database.start()
        stack.push_async_callback(database.stop)
        connection = await asyncpg.connect(url)
        try:
            await migrate_up(connection)
            text = files("edge.simulator").joinpath("demo.yaml").read_text("utf-8")
            document = parse_document(text.replace("${CARRIER_PORT}", str(self.carrier)), "demo.yaml", words)
            await apply_document(connection, document, secret_box(settings))
        finally:
            await connection.close()
        command = str(Path(sys.executable).parent / "sip-edge")
        await self._spawn(
            stack,
            "carrier simulator",
            [command, "carrier-sim", "run", "--port", str(self.carrier), "--control", str(self.carrier + 1)],
            {"SIP_EDGE_SIM_PASSWORD": words["SIP_EDGE_SIM_PASSWORD"]},
        )
        relay = [command, "relay", "--config", str(config)]
        await self._spawn(stack, "media relay", relay, {})
        await self._spawn(stack, "edge", [command, "run", "--config", str(config)], {})
        await self._wait_for("the edge", f"http://127.0.0.1:{self.admin}/readyz", lambda body: True)
        await self._wait_for(
            "the registration with the simulator",
            f"http://127.0.0.1:{self.carrier + 1}/state",
            lambda body: json.loads(body)["registered"] is not None,
        )

    def _alone(self, stack: AsyncExitStack) -> None:
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"a demonstration is running in {self.folder} already: end it with Ctrl-C, or name another --folder"
            ) from None

    async def _spawn(self, stack: AsyncExitStack, name: str, command: list[str], extra: dict[str, str]) -> None:
        log = self.folder / f"{name.replace(' ', '-')}.log"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SIP_EDGE_") and k != "DATABASE_URL"}
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**environment, **extra},
                start_new_session=True,  # Ctrl-C is for us, who stop the others in their order
            )
        child = _Child(name, process, log)
        self._children.append(child)
        stack.push_async_callback(_end, child)

    async def _wait_for(self, what: str, url: str, good: Callable[[bytes], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2)) as http:
            while True:
                try:
                    async with http.get(url) as answer:
                        if answer.status == 200 and good(await answer.read()):
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass
                for child in self._children:
                    if child.process.returncode is not None:
                        raise ConfigError(f"the {child.name} did not start:\n{_tail(child.log)}")
                if asyncio.get_running_loop().time() > deadline:
                    raise ConfigError(
                        f"{what} did not come within {_START_SECONDS:.0f} s; see the logs in {self.folder}"
                    )
                await _pause(0.05)

    def _passwords(self) -> dict[str, str]:
        file = self.folder / SECRETS_FILE
        try:
            known: dict[str, str] = json.loads(file.read_text())
        except FileNotFoundError:
            known = {}
        missing = [name for name in _SECRETS if name not in known]
        if missing:
            known.update({name: secrets.token_urlsafe(9) for name in missing})
            file.touch(mode=0o600)
            file.write_text(json.dumps(known))
        return known

    def _write_config(self) -> Path:
        file = self.folder / CONFIG_FILE
        file.write_text(
            f'edge_name = "demo"\ndata_dir = "."\nrelay_socket = "relay.sock"\nadmin_port = {self.admin}\n'
            f'listeners = ["udp:0.0.0.0:{self.port}", "tcp:0.0.0.0:{self.port}"]\n'
        )
        (self.folder / CONTROL_FILE).write_text(str(self.carrier + 1))
        return file

    def _welcome(self) -> str:
        words = self._passwords()
        at = f"127.0.0.1:{self.port}" if self.port != 5060 else "127.0.0.1"
        return f"""
sip-edge is up. Set up one phone or two (UDP or TCP; from another machine: this machine's address):

             user       password        number            extension
  Phone 1    phone-1    {words["SIP_EDGE_DEMO_PHONE_1"]}    +49 30 23125001   201
  Phone 2    phone-2    {words["SIP_EDGE_DEMO_PHONE_2"]}    +49 30 23125002   202
  server and domain: {at}

  Dial from a phone       069 90009123            the carrier's echo: you hear yourself
                          202 (or 201)            the other phone
                          23 069 90009123         the same echo, showing the number of phone 2
                          141 069 90009123        the same, anonymous
  Let the carrier call    .venv/bin/sip-edge carrier-sim call +493023125001 --control {self.carrier + 1}
  Let it misbehave        .venv/bin/sip-edge carrier-sim behave busy --control {self.carrier + 1}   (answer: as before)
  No phone at hand        .venv/bin/sip-edge demo call
  Look                    .venv/bin/sip-edge calls | registrations | carriers | trace last   (--config {self._shown()})
  Metrics and health      http://127.0.0.1:{self.admin}/metrics   /readyz
  Logs                    {self._logs()}

Ctrl-C ends everything."""

    def _shown(self) -> str:
        return str(_near(self.folder / CONFIG_FILE))

    def _logs(self) -> str:
        return str(_near(self.folder / "edge.log"))


async def _end(child: _Child) -> None:
    process = child.process
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _pause(seconds: float) -> None:
    try:
        await asyncio.wait_for(asyncio.get_running_loop().create_future(), seconds)
    except TimeoutError:
        pass


def _near(path: Path) -> Path:
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def _tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-12:])
