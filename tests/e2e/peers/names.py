"""A name server for the tests: dnsmasq that knows a few names and asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peers.ports import take_port
from peers.process import PeerProcess, poll


class Names:
    """`records` are dnsmasq's own options: `--srv-host=_sip._udp.many.example,one.example,5060,10`."""

    def __init__(self, folder: Path, records: Sequence[str], address: str = "127.0.0.1") -> None:
        self.port = take_port()
        self.server = f"{address}:{self.port}"
        self.process = PeerProcess(
            "dnsmasq",
            [
                "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root",
                "--group=root", "--pid-file=", f"--port={self.port}", f"--listen-address={address}",
                "--bind-interfaces", "--log-facility=-", *records,
            ],
            folder / f"dnsmasq-{self.port}.log",
            cwd=folder,
        )  # fmt: skip
        poll(lambda: any("started" in line for line in self.process.output.lines), "dnsmasq is up", 5)

    def stop(self) -> None:
        self.process.stop()
