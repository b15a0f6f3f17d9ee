"""A pjsua2 phone (PJSIP stack), each in a process of its own (pjsua_phone.py), driven over a pipe."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from peers import tones
from peers.certificates import Certificate
from peers.messages import Seen, Trace
from peers.phone import Account
from peers.ports import take_port, take_ports
from peers.process import PeerFailed, PeerProcess


class Pjsua:
    """One phone with one account. It plays the tone `tone` (Hz) and records what it hears (`recording`).

    `media_address`: what its SDP claims as its address, when that is to be a lie (a phone behind NAT).
    `signalling_address`: the same for its Contact and Via. `session_timer`: seconds asked for (RFC 4028), 0: none.
    `certificate`: what it shows over TLS, as client and as server.
    """

    kind = "pjsua2"

    def __init__(
        self,
        account: Account,
        folder: Path,
        *,
        tone: int = 440,
        address: str = "127.0.0.1",
        codecs: Sequence[str] = ("PCMA/8000", "PCMU/8000"),
        media_address: str = "",
        signalling_address: str = "",
        ca_file: Path | None = None,
        certificate: Certificate | None = None,
        register: bool = True,
        srtp: str = "off",
        session_timer: int = 0,
        prack: bool = False,
        prack_required: bool = False,
        ring_with: int = 180,
        sip_port: int = 0,
        inside: Sequence[str] = (),
    ) -> None:
        self.account = account
        self.folder = folder
        self.tone = tone
        self.sip_port = sip_port or take_port()
        folder.mkdir(parents=True, exist_ok=True)
        tones.write_tone(folder / "tone.wav", tone)
        settings = {
            "folder": str(folder),
            "address": address,
            "sip_port": self.sip_port,
            "rtp_port": take_ports(32),
            "transport": account.transport,
            "aor": account.aor,
            "registrar": f"sip:{account.host}",
            "proxy": f"{account.proxy};lr",
            "auth_username": account.auth_username or account.username,
            "password": account.password,
            "expires": account.expires,
            "register": register,
            "codecs": list(codecs),
            "media_address": media_address,
            "signalling_address": signalling_address,
            "ca_file": str(ca_file or ""),
            "certificate": str(certificate.chain) if certificate is not None else "",
            "key": str(certificate.key) if certificate is not None else "",
            "srtp": srtp,
            "session_timer": session_timer,
            "prack": prack,
            "prack_required": prack_required,
            "ring_with": ring_with,
        }
        self._process = PeerProcess(
            f"pjsua2 {account.username}",
            [*inside, sys.executable, str(Path(__file__).with_name("pjsua_phone.py")), json.dumps(settings)],
            folder / "events.log",
            cwd=folder,
            stdin=subprocess.PIPE,
        )
        try:
            self._process.wait_for(r"^READY", 20)
        except PeerFailed:
            self._process.stop()
            raise

    # -- what a person does ------------------------------------------------------------------------------------------

    @property
    def mark(self) -> int:
        return self._process.output.mark

    def wait_registered(self, timeout: float = 10.0) -> None:
        self._process.wait_for(r"^REGISTER 200 [1-9]", timeout)

    def wait_register_answer(self, timeout: float = 10.0, after: int = 0) -> int:
        """The status of the final answer to a REGISTER."""
        return int(self._process.wait_for(r"^REGISTER (\d+)", timeout, after).group(1))

    def register(self) -> None:
        self._do("register")

    def freeze(self) -> None:
        """It hears and says nothing until `thaw`."""
        os.kill(self._process.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on, with what came meanwhile."""
        os.kill(self._process.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Cut its power: nobody is told."""
        self._process.process.kill()

    def unregister(self) -> None:
        self._do("unregister")

    def dial(self, target: str, headers: Mapping[str, str] | None = None) -> None:
        """Call a number, an extension or a SIP URI, with extra header fields."""
        self._do("dial", target=self.account.uri(target), headers=dict(headers or {}))

    def wait_incoming(self, timeout: float = 10.0, after: int = 0) -> str:
        """The URI of the caller, with the display name if there is one."""
        return self._process.wait_for(r"^INCOMING (.*)", timeout, after).group(1)

    def wait_ringing(self, timeout: float = 10.0, after: int = 0) -> None:
        self._process.wait_for(r"^EARLY 18", timeout, after)

    def wait_early_media(self, timeout: float = 10.0, after: int = 0) -> None:
        self._process.wait_for(r"^MEDIA active", timeout, after)

    def wait_media(self, status: str, timeout: float = 10.0, after: int = 0) -> None:
        """`active`, `local-hold` or `remote-hold`."""
        self._process.wait_for(rf"^MEDIA {status}", timeout, after)

    def wait_established(self, timeout: float = 10.0, after: int = 0) -> None:
        self._process.wait_for(r"^ESTABLISHED", timeout, after)

    def wait_closed(self, timeout: float = 10.0, after: int = 0) -> str:
        """The last status code and its reason."""
        return self._process.wait_for(r"^CLOSED (.*)", timeout, after).group(1)

    def wait_for(self, pattern: str, timeout: float = 10.0, after: int = 0) -> re.Match[str]:
        return self._process.wait_for(pattern, timeout, after)

    def answer(self, status: int = 200) -> None:
        """Answer the ringing call: 200, or 183 to begin with early media."""
        self._do("answer", status=status)

    def hangup(self, status: int = 0) -> None:
        """End the call, refuse a ringing one with `status` (603 by itself), or give up an own attempt."""
        self._do("hangup", status=status)

    def hold(self) -> None:
        after = self.mark
        self._do("hold")
        self.wait_media("local-hold", after=after)

    def resume(self) -> None:
        after = self.mark
        self._do("resume")
        self.wait_media("active", after=after)

    def reinvite(self) -> None:
        self._do("reinvite")

    def update(self) -> None:
        self._do("update")

    def transfer(self, target: str) -> None:
        """Blind transfer (REFER) of the newest call."""
        self._do("transfer", target=self.account.uri(target))

    def transfer_attended(self, index: int = 0, to: int = 1) -> None:
        """Transfer call `index` to the party of call `to` (REFER with Replaces)."""
        self._do("transfer_attended", index=index, to=to)

    def send_dtmf(self, digits: str) -> None:
        self._do("dtmf", digits=digits)

    def send_text(self, content: str, content_type: str = "text/plain") -> int:
        """MESSAGE in the newest call; the status that it is answered with."""
        after = self.mark
        self._do("text", content=content, content_type=content_type)
        return int(self._process.wait_for(r"^TEXT-ANSWER (\d+)", 10, after).group(1))

    def wait_text(self, timeout: float = 10.0, after: int = 0) -> str:
        """Content type and content of a MESSAGE in a call."""
        return self._process.wait_for(r"^TEXT (.*)", timeout, after).group(1)

    def wait_dtmf(self, digits: str, timeout: float = 10.0, after: int = 0) -> None:
        """Wait for digits in this order, as RFC 4733 events."""
        for digit in digits:
            found = self._process.wait_for(rf"^DTMF {re.escape(digit)}$", timeout, after)
            after = self._process.output.lines.index(found.string, after) + 1

    # -- what is measured --------------------------------------------------------------------------------------------

    @property
    def recording(self) -> Path:
        """The newest recording of what this phone heard; complete after the call."""
        return self.recordings[-1] if self.recordings else self.folder / "heard-none.wav"

    @property
    def recordings(self) -> list[Path]:
        """One recording per call, in order of the calls."""
        return sorted(self.folder.glob("heard-*.wav"), key=lambda path: int(path.stem.split("-")[1]))

    @property
    def trace(self) -> Trace:
        """All SIP messages so far, from the library's log."""
        found = Trace()
        log = self.folder / "pjsip.log"
        text = log.read_bytes().decode("utf-8", "replace") if log.exists() else ""
        for match in _MESSAGE.finditer(text):
            found.append(Seen("in" if match.group(1) == "RX" else "out", match.group(2)))
        return found

    def _do(self, command: str, **arguments: object) -> None:
        after = self.mark
        stdin = self._process.process.stdin
        assert stdin is not None
        stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
        stdin.flush()
        answer = self._process.wait_for(r"^(DONE|FAILED)(.*)", 10, after)
        if answer.group(1) == "FAILED":
            raise PeerFailed(f"pjsua2 {self.account.username}: {command}:{answer.group(2)}")

    def stop(self) -> None:
        """Hang up, unregister and end."""
        stdin = self._process.process.stdin
        if self._process.running and stdin is not None:
            stdin.close()
            try:
                self._process.wait(10)
            except PeerFailed:
                pass
        self._process.stop()


_MESSAGE = re.compile(r"\b(RX|TX) \d+ bytes .*?:\n(.*?)\n--end msg--", re.DOTALL)
