"""A baresip phone (libre stack), driven over its control socket: JSON in netstrings (module ctrl_tcp)."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

from peers import tones
from peers.phone import Account
from peers.ports import take_port, take_ports
from peers.process import Output, PeerFailed, PeerProcess, connect_beside

_MODULES = ("g711", "aufile", "auloop", "sndfile", "srtp", "uuid", "account", "contact", "menu", "ctrl_tcp")


class Baresip:
    """One baresip process with one account. It plays the tone `tone` (Hz) and records what it hears (`recording`)."""

    kind = "baresip"

    def __init__(
        self,
        account: Account,
        folder: Path,
        *,
        tone: int = 440,
        address: str = "127.0.0.1",
        codecs: str = "PCMA,PCMU",
        media_encryption: str = "",
        ca_file: Path | None = None,
        register: bool = True,
        inside: Sequence[str] = (),
    ) -> None:
        self.account = account
        self.folder = folder
        self.tone = tone
        self.sip_port = take_port()
        self._control_port = take_port()
        folder.mkdir(parents=True, exist_ok=True)
        tones.write_tone(folder / "tone.wav", tone)
        first = take_ports(32)
        config = [
            "poll_method epoll",
            f"sip_listen {address}:{self.sip_port}",
            "call_max_calls 4",
            "call_local_timeout 120",
            "audio_source aufile,tone.wav",
            "audio_player aufile,/dev/null",
            "audio_alert aufile,/dev/null",
            "ausrc_srate 8000",
            "ausrc_channels 1",
            "audio_txmode thread",
            f"rtp_ports {first}-{first + 31}",
            f"net_interface {address}",
            "menu_bell no",
            "ringback_disabled yes",
            "module_path /usr/lib/baresip/modules",
            *(f"module{'_app' if name in _APPS else '_tmp' if name in _TMP else ''} {name}.so" for name in _MODULES),
            f"ctrl_tcp_listen 127.0.0.1:{self._control_port}",
            # Relative: baresip cuts long paths off.
            "snd_path .",
            "statmode_default off",
        ]
        if ca_file is not None:
            config += [f"sip_cafile {ca_file}", "sip_verify_server yes"]
        (folder / "config").write_text("\n".join(config) + "\n")
        parts = [
            f"<{account.aor};transport={account.transport}>",
            f"auth_user={account.auth_username or account.username}",
            f"auth_pass={account.password}",
            f'outbound="{account.proxy}"',
            f"regint={account.expires if register else 0}",
            "answermode=manual",
            f"audio_codecs={codecs}",
            "ptime=20",
        ]
        if media_encryption:
            parts.append(f"mediaenc={media_encryption}")
        (folder / "accounts").write_text(";".join(parts) + "\n")
        (folder / "contacts").write_text("")
        self._process = PeerProcess(
            f"baresip {account.username}",
            [*inside, "baresip", "-s", "-f", str(folder)],
            folder / "baresip.log",
            cwd=folder,
        )
        self.events = Output(f"baresip {account.username} events", folder / "events.log")
        self._answers = Output(f"baresip {account.username} answers", folder / "answers.log")
        self._token = 0
        try:
            self._process.wait_for(r"baresip is ready")
            self._socket = connect_beside(self._process.process.pid, ("127.0.0.1", self._control_port))
            self._socket.settimeout(None)
        except (OSError, PeerFailed):
            self._process.stop()
            raise
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    # -- what a person does ------------------------------------------------------------------------------------------

    @property
    def mark(self) -> int:
        return self.events.mark

    def wait_registered(self, timeout: float = 10.0) -> None:
        self._process.wait_for(r"200 OK \(.*\) \[\d+ binding", timeout)

    def kill(self) -> None:
        """Cut its power: nobody is told."""
        self._process.process.kill()

    def dial(self, target: str) -> None:
        """Call a number, an extension or a SIP URI."""
        self.command("dial", self.account.uri(target))

    def wait_incoming(self, timeout: float = 10.0, after: int = 0) -> str:
        """The URI of the caller."""
        return self.events.wait_for(r"CALL_INCOMING .*peer=(\S*)", timeout, after).group(1)

    def wait_ringing(self, timeout: float = 10.0, after: int = 0) -> None:
        self.events.wait_for(r"CALL_RINGING", timeout, after)

    def wait_early_media(self, timeout: float = 10.0, after: int = 0) -> None:
        self.events.wait_for(r"CALL_PROGRESS", timeout, after)

    def wait_established(self, timeout: float = 10.0, after: int = 0) -> None:
        self.events.wait_for(r"CALL_ESTABLISHED", timeout, after)

    def wait_closed(self, timeout: float = 10.0, after: int = 0) -> str:
        """Why the call ended, as baresip says it (for a refusal: code and reason)."""
        return self.events.wait_for(r"CALL_CLOSED .*param=(.*)", timeout, after).group(1)

    def answer(self) -> None:
        self.command("accept")

    def hangup(self) -> None:
        """End the call, refuse a ringing one, or give up an own attempt."""
        self.command("hangup")

    def hold(self) -> None:
        after = self.mark
        self.command("hold")
        self.events.wait_for(r"CALL_REMOTE_SDP .*param=answer", 10, after)

    def resume(self) -> None:
        after = self.mark
        self.command("resume")
        self.events.wait_for(r"CALL_REMOTE_SDP .*param=answer", 10, after)

    def transfer(self, target: str) -> None:
        """Blind transfer (REFER) of the call."""
        self.command("transfer", self.account.uri(target))

    def send_dtmf(self, digits: str) -> None:
        for digit in digits:
            self.command("sndcode", digit)

    def wait_dtmf(self, digits: str, timeout: float = 10.0, after: int = 0) -> None:
        """Wait for digits in this order, as RFC 4733 events."""
        for digit in digits:
            found = self.events.wait_for(
                rf"CALL_DTMF_START .*param={'[*]' if digit == '*' else digit}$", timeout, after
            )
            after = self.events.lines.index(found.string, after) + 1

    # -- what is measured --------------------------------------------------------------------------------------------

    @property
    def recording(self) -> Path:
        """The newest recording of what this phone heard."""
        found = sorted(self.folder.glob("dump-*-dec.wav"), key=lambda path: path.stat().st_mtime)
        return found[-1] if found else self.folder / "dump-none-dec.wav"

    @property
    def messages(self) -> str:
        """All SIP messages sent and received, as baresip traced them."""
        return "\n".join(self._process.output.lines)

    # -- the control socket ------------------------------------------------------------------------------------------

    def command(self, name: str, params: str = "") -> str:
        """Run a baresip command; what it printed. Raises PeerFailed when it was refused."""
        self._token += 1
        token = str(self._token)
        body = json.dumps({"command": name, "params": params, "token": token}).encode()
        after = self._answers.mark
        self._socket.sendall(b"%d:%s," % (len(body), body))
        answer = self._answers.wait_for(rf"^{token} (ok|failed) (.*)", 5, after)
        if answer.group(1) != "ok":
            raise PeerFailed(f"baresip {self.account.username}: {name} {params}: {answer.group(2)}")
        return answer.group(2)

    def _read(self) -> None:
        buffer = b""
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            buffer += data
            while b":" in buffer:
                size, _, rest = buffer.partition(b":")
                if len(rest) <= int(size):
                    break
                self._heard(json.loads(rest[: int(size)]))
                buffer = rest[int(size) + 1 :]
        self.events.close()
        self._answers.close()

    def _heard(self, message: dict[str, object]) -> None:
        if message.get("event"):
            line = f"{message.get('type')} id={message.get('id', '')} peer={message.get('peeruri', '')}"
            self.events.add(f"{line} param={message.get('param', '')}")
        elif message.get("response"):
            said = str(message.get("data", "")).replace("\n", " | ")
            self._answers.add(f"{message.get('token', '')} {'ok' if message.get('ok') else 'failed'} {said}")

    def stop(self) -> None:
        """Unregister and end."""
        self._process.stop()
        self._socket.close()
        self._reader.join(5)


_APPS = ("auloop", "contact", "menu", "ctrl_tcp")
_TMP = ("uuid", "account")
