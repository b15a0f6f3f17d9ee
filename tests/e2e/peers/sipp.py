"""SIPp running one scenario, as a carrier or as a phone; its message trace is read back for assertions.

Scenarios are XML files in tests/sipp_scenarios/. `{{name}}` in them is filled in from the keyword arguments,
`{{name|default}}` has a default; what SIPp itself fills in stays in square brackets. The filled-in file is kept beside
the logs, so that a failing run can be repeated by hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from peers.messages import Seen, Trace
from peers.ports import take_port, take_ports
from peers.process import PeerFailed, PeerProcess, poll

SCENARIOS = Path(__file__).resolve().parents[2] / "sipp_scenarios"


class Sipp:
    """One SIPp process. It listens on `address`:`port`, and calls `remote` (`host:port`) when the scenario begins so.

    `headers`: extra header lines of the first request. `echo`: media that arrives is sent back. `lines`: what
    `[field0]` and so on are, a line a call. `values`: what the scenario wants to know.
    """

    def __init__(
        self,
        scenario: str,
        folder: Path,
        *,
        remote: str = "127.0.0.1:9",
        address: str = "127.0.0.1",
        port: int = 0,
        transport: str = "udp",
        calls: int = 1,
        rate: int = 10,
        timeout: float = 40.0,
        echo: bool = True,
        headers: Sequence[str] = (),
        inside: Sequence[str] = (),
        lines: Sequence[str] = (),
        **values: object,
    ) -> None:
        self.scenario = scenario
        self.folder = folder
        self.address = address
        self.port = port or take_port()
        self.media_port = take_ports(6)
        self.transport = transport
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{scenario}-{self.port}"
        number = len(list(folder.glob(f"{name}*.xml")))
        if number:
            name = f"{name}-{number + 1}"
        xml = folder / f"{name}.xml"
        xml.write_text(render(scenario, {**values, "headers": "\n".join(headers)}))
        fields = folder / f"{name}.csv"
        fields.write_text("\n".join(["SEQUENTIAL", *lines, ""]))
        self._messages = folder / f"{name}.messages"
        self._errors = folder / f"{name}.errors"
        self.process = PeerProcess(
            f"sipp {scenario}",
            [
                *inside, "sipp", remote, "-sf", str(xml), "-i", address, "-p", str(self.port), "-mi", address,
                "-mp", str(self.media_port), "-cp", str(take_port()), "-t", {"udp": "u1", "tcp": "t1"}[transport],
                "-m", str(calls), "-r", str(rate), "-nostdin", "-timeout", f"{timeout:.0f}s", "-timeout_error",
                "-trace_msg", "-message_file", str(self._messages), "-trace_err", "-error_file", str(self._errors),
                "-cid_str", "%u-%p-%s", "-max_socket", "1000", *(["-rtp_echo"] if echo else []),
                *(["-inf", str(fields)] if lines else []),
                # The digest's uri is that of the request; SIPp would take the bare host.
                *(["-auth_uri", f"{values['called']}@{values.get('host', remote)}"] if "called" in values else []),
            ],
            folder / f"{name}.log",
            cwd=folder,
            env={"TERM": "dumb"},
        )  # fmt: skip
        self._timeout = timeout
        try:
            poll(
                lambda: not self.process.running or _is_bound(self.process.process.pid, self.port, transport),
                f"SIPp listens on {self.port}",
                5,
            )
        except PeerFailed:
            self.process.stop()
            raise

    @property
    def uri_host(self) -> str:
        """`host:port` where this SIPp listens."""
        return f"{self.address}:{self.port}"

    @property
    def trace(self) -> Trace:
        """All messages so far."""
        found = Trace()
        data = self._messages.read_bytes() if self._messages.exists() else b""
        for match in _MESSAGE.finditer(data):
            text = data[match.end() : match.end() + int(match.group(2))].decode("utf-8", "replace")
            found.append(Seen("out" if match.group(1) == b"sent" else "in", text))
        return found

    def wait_for(self, *, method: str = "", status: int = 0, direction: str = "in", timeout: float = 10.0) -> Seen:
        """The first request of `method`, or the first response of `status`, that was seen."""

        def found() -> list[Seen]:
            trace = self.trace
            return trace.responses(status, method or None, direction) if status else trace.requests(method, direction)

        poll(lambda: bool(found()) or not self.process.running, f"{self.scenario}: {method or status}", timeout)
        messages = found()
        if not messages:
            raise PeerFailed(f"sipp {self.scenario} saw no {method or status}:\n{self.trace.ladder()}\n{self.errors}")
        return messages[0]

    @property
    def errors(self) -> str:
        return self._errors.read_text(errors="replace") if self._errors.exists() else ""

    def wait(self, timeout: float = 0.0) -> Trace:
        """Wait for the end of the scenario; its messages. Raises PeerFailed unless every call went as it says."""
        status = self.process.wait(timeout or self._timeout + 5)
        if status != 0:
            raise PeerFailed(f"sipp {self.scenario} ended with {status}:\n{self.errors[:3000]}\n{self.trace.ladder()}")
        return self.trace

    def stop(self) -> None:
        self.process.stop()


def render(scenario: str, values: Mapping[str, object]) -> str:
    """The XML of a scenario with its values filled in. Raises KeyError for a value that is missing."""

    def fill(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        if name in values:
            return str(values[name])
        if (part := next(SCENARIOS.rglob(f"part_{name}.txt"), None)) is not None:
            return part.read_text().strip("\n")
        if default is None:
            raise KeyError(f"scenario {scenario} wants a value for {name}")
        return default[1:]

    lines = []
    for line in (SCENARIOS / f"{scenario}.xml").read_text().splitlines():
        filled = line
        # Defaults may hold places themselves: the innermost are filled first.
        while (again := _PLACE.sub(fill, filled)) != filled:
            filled = again
        # A place for header lines that got none must not leave an empty line, which would end the header.
        if filled.strip() or not line.strip():
            lines.append(filled)
    return "\n".join(lines) + "\n"


_PLACE = re.compile(r"\{\{(\w+)(\|[^{}]*)?\}\}")
_MESSAGE = re.compile(rb"^(?:UDP|TCP|TLS) message (sent|received) [(\[](\d+)[^\n]*\n\n", re.MULTILINE)


def _is_bound(pid: int, port: int, transport: str) -> bool:
    wanted = f":{port:04X}"
    for table in (transport, f"{transport}6"):
        path = Path(f"/proc/{pid}/net/{table}")  # of the network namespace that it runs in
        if path.exists() and any(line.split()[1].endswith(wanted) for line in path.read_text().splitlines()[1:]):
            return True
    return False
