"""SIPVicious, the attacker: as it is, or under the name of a phone (scanners of today do not say what they are)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from peers.ports import take_port

_RUN = """
import socket, sys
sys.path.insert(0, "/usr/share/sipvicious")
agent, address, tool = sys.argv[1:4]
from sipvicious.libs import svhelper
svhelper.makeRequest.__defaults__ = tuple(
    agent if d == "friendly-scanner" else d for d in svhelper.makeRequest.__defaults__
)
bind = socket.socket.bind  # svwar does not heed its own option for the address
socket.socket.bind = lambda s, to: bind(s, (address, to[1]))
from sipvicious import svcrack, svmap, svwar
sys.argv = sys.argv[3:]
{"svmap": svmap, "svwar": svwar, "svcrack": svcrack}[tool].main()
"""


def attack(
    tool: str, *arguments: str, server: str, address: str, folder: Path, agent: str = "Phone 1.0", timeout: float = 60.0
) -> str:
    """Run `tool` (svmap, svwar, svcrack) against `server` (host:port) from `address`; all that it said.

    It is ended after `timeout` seconds: it waits for a server that went silent.
    """
    host, _, port = server.partition(":")
    words = ["/usr/bin/python3", "-c", _RUN, agent, address, tool]
    words += ["-x", address, "-P", str(take_port()), "-p", port, *arguments, host]
    log = folder / f"{tool}.log"
    with log.open("wb") as out:
        try:
            subprocess.run(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=timeout, cwd=folder,
                           env={"HOME": str(folder), "PATH": "/usr/bin:/bin"}, check=False)  # fmt: skip
        except subprocess.TimeoutExpired:
            pass
    return log.read_text("utf-8", "replace")
