"""Kamailio as a carrier with a digest registrar of its own, or as a registrar for phones alone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from peers.certificates import Certificate
from peers.messages import Seen, Trace
from peers.ports import take_ports
from peers.process import PeerFailed, PeerProcess

_TEMPLATE = Path(__file__).with_name("kamailio.cfg.in")


class Kamailio:
    """One Kamailio on `address`, with UDP and TCP on `port` and, with a certificate, TLS on `tls_port`.

    `passwords`: digest user to password. `numbers`: called number to the account whose registered contact gets it;
    such calls need no digest (they come from the network). `callees`: number to SIP URI, where calls of registered
    customers go; what is in neither table is looked up among the registered users, and what is not found there either
    goes to the SIP URI `network`, if there is one. `deaf`: it answers REGISTER and nothing else.
    """

    def __init__(
        self,
        folder: Path,
        passwords: Mapping[str, str],
        *,
        address: str = "127.0.0.1",
        domain: str = "carrier.example",
        realm: str = "",
        numbers: Mapping[str, str] | None = None,
        callees: Mapping[str, str] | None = None,
        network: str = "",
        certificate: Certificate | None = None,
        algorithm: str = "MD5",
        min_expires: int = 0,
        called_number_in_uri: bool = True,
        deaf: bool = False,
        nonce_expire: int = 300,
    ) -> None:
        self.folder = folder
        self.address = address
        self.domain = domain
        self.port = take_ports(4)
        self.tls_port = self.port + 1
        folder.mkdir(parents=True, exist_ok=True)
        # The path of a Unix socket may have only some 100 characters.
        self._control_folder = tempfile.mkdtemp(prefix="kamailio-")
        self._control = f"{self._control_folder}/ctl"
        listen = [f"listen=udp:{address}:{self.port}", f"listen=tcp:{address}:{self.port}"]
        tls = ""
        if certificate is not None:
            listen.append(f"listen=tls:{address}:{self.tls_port}")
            tls = (
                'loadmodule "tls.so"\n'
                f'modparam("tls", "private_key", "{certificate.key}")\n'
                f'modparam("tls", "certificate", "{certificate.chain}")\n'
                'modparam("tls", "tls_method", "TLSv1.2+")\n'
                'modparam("tls", "verify_certificate", 0)\n'
            )
        tables = [
            *(f'    $sht(passwords=>{user}) = "{password}";' for user, password in passwords.items()),
            *(f'    $sht(numbers=>{number}) = "{account}";' for number, account in (numbers or {}).items()),
            *(f'    $sht(callees=>{number}) = "{uri}";' for number, uri in (callees or {}).items()),
        ]
        values = {
            "NETWORK": f'$du = "{network}";' if network else 'sl_send_reply("404", "Not Found");\n        exit;',
            "ENABLE_TLS": "yes" if certificate else "no",
            "LISTEN": "\n".join(listen),
            "DOMAIN": domain,
            "REALM": realm or domain,
            "MODULES": module_folder(),
            "TLS": tls,
            "CONTROL": self._control,
            "ALGORITHM": algorithm,
            "TABLES": "\n".join(tables),
            "KEEP_NUMBER": "$rU = $var(number);" if called_number_in_uri else "",
            "MIN_EXPIRES": str(min_expires),
            "NONCE_EXPIRE": str(nonce_expire),
            "DEAF": 'if (!is_method("REGISTER")) {\n        drop;\n    }' if deaf else "",
        }
        text = re.sub(r"@([A-Z_]+)@", lambda found: values[found.group(1)], _TEMPLATE.read_text())
        config = folder / "kamailio.cfg"
        config.write_text(text)
        self._process = PeerProcess(
            "kamailio",
            ["kamailio", "-f", str(config), "-DD", "-E", "-w", str(folder), "-Y", str(folder), "-m", "32", "-M", "4"],
            folder / "kamailio.log",
            cwd=folder,
        )
        # Sockets are bound before the processes are forked, and the control process is the last of these.
        try:
            self._process.wait_for(r"io_listen_loop")
        except PeerFailed:
            self.stop()
            raise

    def server(self, transport: str = "udp") -> str:
        """`host:port` for clients of this transport."""
        return f"{self.address}:{self.tls_port if transport == 'tls' else self.port}"

    @property
    def trace(self) -> Trace:
        """All messages so far."""
        found = Trace()
        for line in list(self._process.output.lines):
            if match := _MESSAGE.search(line):
                text = bytes.fromhex(match.group(4)).decode("utf-8", "replace")
                found.append(Seen(match.group(1), text))
        return found

    def registered(self, account: str) -> list[str]:
        """The contacts that `account` has registered now."""
        text = self.rpc("ul.dump")
        contacts: list[str] = []
        current = ""
        for line in text.splitlines():
            key, _, value = line.strip().partition(":")
            if key == "AoR":
                current = value.strip()
            elif key == "Address" and current.split("@")[0] == account:
                contacts.append(value.strip())
        return contacts

    def wait_message(self, pattern: str, timeout: float = 10.0, after: int = 0) -> None:
        """Wait until a message whose text contains `pattern` (plain text) was seen."""
        self._process.wait_for(rf"MSG (in|out) .*{pattern.encode().hex()}", timeout, after)

    @property
    def mark(self) -> int:
        return self._process.output.mark

    def rpc(self, *command: str) -> str:
        return subprocess.run(
            ["kamcmd", "-s", f"unixs:{self._control}", *command], capture_output=True, text=True, timeout=10, check=True
        ).stdout

    @property
    def running(self) -> bool:
        return self._process.running

    def kill(self) -> None:
        """End it as a crash would: nobody is told, and its connections are gone."""
        for child in self._children():
            os.kill(child, signal.SIGKILL)
        self._process.process.kill()
        self._process.process.wait()

    def _children(self) -> list[int]:
        tasks = Path(f"/proc/{self._process.process.pid}/task/{self._process.process.pid}/children")
        return [int(child) for child in tasks.read_text().split()]

    def stop(self) -> None:
        self._process.stop()
        shutil.rmtree(self._control_folder, ignore_errors=True)


_MESSAGE = re.compile(r"MSG (in|out) (\S+) (\S+) ([0-9a-fA-F]+)")


def module_folder() -> str:
    found = [path for path in Path("/usr/lib").glob("*/kamailio/modules") if path.is_dir()]
    if not found or shutil.which("kamailio") is None:
        raise PeerFailed("kamailio is not installed; run scripts/install-debian test")
    return str(found[0])
