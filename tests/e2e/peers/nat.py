"""A home behind a NAT: two network namespaces, and a line between them that can be made bad.

    this namespace (the edge) -- veth -- gateway (masquerade) -- line -- home (phones)
        198.18.N.1                198.18.N.2    192.168.77.1     192.168.77.10

All names are this process's own, and everything is gone after `stop`. Needs root and the right to make namespaces.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

from peers.process import PeerProcess

PHONE = "192.168.77.10"
OTHER_PHONE = "192.168.77.11"
_numbers = itertools.count()


def why_not() -> str:
    """Why there can be no namespaces here, "" where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun here"
    name = f"sipnat{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    nat = subprocess.run(["ip", "netns", "exec", name, "iptables", "-t", "nat", "-L"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return f"NAT cannot be set up here: {nat.stderr.strip()}" if nat.returncode != 0 else ""


class Nat:
    """One home behind one NAT. `outside`: the edge's address on the way there; `public`: how the home looks."""

    def __init__(self, folder: Path) -> None:
        number = next(_numbers)
        mark = f"{os.getpid() % 100000}{chr(ord('a') + number % 26)}"
        net = f"198.18.{(os.getpid() * 7 + number) % 254 + 1}"
        self.outside, self.public = f"{net}.1", f"{net}.2"
        self.gateway, self.home = f"sipgw{mark}", f"siphome{mark}"
        self._veth, self._inner = f"so{mark}", f"si{mark}"
        self._line: PeerProcess | None = None
        try:
            self._build(folder, mark)
        except BaseException:
            self.stop()
            raise

    def _build(self, folder: Path, mark: str) -> None:
        inner = self._inner
        _run(f"ip netns add {self.gateway}", f"ip netns add {self.home}")
        _run(
            f"ip link add {self._veth} type veth peer name {inner}",
            f"ip link set {inner} netns {self.gateway}",
            f"ip addr add {self.outside}/24 dev {self._veth}",
            f"ip link set {self._veth} up",
            f"ip -n {self.gateway} addr add {self.public}/24 dev {inner}",
            f"ip -n {self.gateway} link set {inner} up",
            f"ip -n {self.gateway} link set lo up",
            f"ip -n {self.home} link set lo up",
        )
        self._line = PeerProcess(
            "line",
            [sys.executable, str(Path(__file__).with_name("line.py")), f"tg{mark}", self.gateway, "192.168.77.1/24",
             f"th{mark}", self.home, f"{PHONE}/24"],
            folder / "line.log",
            stdin=subprocess.PIPE,
        )  # fmt: skip
        self._line.wait_for("READY")
        _run(
            f"ip -n {self.home} addr add {OTHER_PHONE}/24 dev th{mark}",
            f"ip -n {self.home} route add default via 192.168.77.1",
        )
        _run(f"ip -n {self.gateway} route add default via {self.outside}")
        self._in_gateway("echo 1 > /proc/sys/net/ipv4/ip_forward")
        self._in_gateway(f"iptables -t nat -A POSTROUTING -o {inner} -j MASQUERADE --random")

    @property
    def inside(self) -> list[str]:
        """What a command is run behind, to run at home."""
        return ["ip", "netns", "exec", self.home]

    def line(self, command: str = "lost") -> int:
        """Change the line (`line.py`); the packets that it has lost so far."""
        assert self._line is not None and self._line.process.stdin is not None
        mark = self._line.output.mark
        self._line.process.stdin.write(f"{command}\n".encode())
        self._line.process.stdin.flush()
        return int(self._line.wait_for(r"DONE (\d+)", after=mark).group(1))

    def move(self) -> None:
        """The home gets another public address, as a mobile network gives one, and with it new mappings."""
        before, self.public = (
            self.public,
            self.public.rpartition(".")[0] + f".{int(self.public.rpartition('.')[2]) + 1}",
        )
        _run(
            f"ip -n {self.gateway} addr del {before}/24 dev {self._inner}",
            f"ip -n {self.gateway} addr add {self.public}/24 dev {self._inner}",
        )

    def _in_gateway(self, command: str) -> None:
        _run(["ip", "netns", "exec", self.gateway, "sh", "-c", command])

    def stop(self) -> None:
        if self._line is not None:
            self._line.stop()
        for command in (
            f"ip link del {self._veth}", f"ip netns del {self.gateway}", f"ip netns del {self.home}"
        ):  # fmt: skip
            with contextlib.suppress(subprocess.CalledProcessError):
                _run(command)


def _run(*commands: str | list[str]) -> None:
    for command in commands:
        words = command.split() if isinstance(command, str) else command
        subprocess.run(words, check=True, capture_output=True, timeout=10)
