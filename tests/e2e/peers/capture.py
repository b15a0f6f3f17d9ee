"""Kamailio's sipcapture module as a capture server: what Homer receives with. One line for each SIP message."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from peers.kamailio import module_folder
from peers.ports import take_port
from peers.process import PeerProcess

_LINE = re.compile(r"CAPTURED (\S+) (\S+) from (\S+)")
_CONFIG = """
debug=2
log_stderror=yes
fork=no
children=1
listen=udp:127.0.0.1:{port}
mpath="{modules}"
loadmodule "db_text.so"
loadmodule "xlog.so"
loadmodule "pv.so"
loadmodule "sipcapture.so"
modparam("sipcapture", "db_url", "text://{folder}/tables")
modparam("sipcapture", "capture_on", 1)
modparam("sipcapture", "hep_capture_on", 1)
request_route {{
    xlog("L_ERR", "CAPTURED $rm $ci from $si:$sp\\n");
    drop;
}}
onreply_route {{
    xlog("L_ERR", "CAPTURED $rs $ci from $si:$sp\\n");
    drop;
}}
"""


class Captured(NamedTuple):
    """A SIP message that came in a HEP packet: method or status, Call-ID, and who had sent it."""

    what: str
    call_id: str
    sender: str


class CaptureServer:
    """Listens on `port`."""

    def __init__(self, folder: Path) -> None:
        self.port = take_port()
        tables = folder / "tables"
        tables.mkdir(parents=True)
        (tables / "version").write_text("table_name(string) table_version(int)\nsip_capture:4\n")
        (tables / "sip_capture").write_text("id(int)\n")
        config = folder / "capture.cfg"
        config.write_text(_CONFIG.format(port=self.port, modules=module_folder(), folder=folder.resolve()))
        self._process = PeerProcess("capture", ["kamailio", "-f", str(config), "-DD", "-E"], folder / "capture.log")
        self._process.wait_for("Listening on|listening")

    @property
    def messages(self) -> list[Captured]:
        return [Captured(*match.groups()) for line in self._process.output.lines if (match := _LINE.search(line))]

    def stop(self) -> None:
        self._process.stop()
