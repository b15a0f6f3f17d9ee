"""A linphone phone (belle-sip and mediastreamer), the program linphonec driven over a pipe."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from peers import tones
from peers.phone import Account
from peers.ports import take_port, take_ports
from peers.process import PeerFailed, PeerProcess

_CODECS = (("PCMA", 8000), ("PCMU", 8000))
_NO_CODECS = ("opus/48000", "speex/16000", "speex/8000", "speex/32000", "GSM/8000", "G722/8000", "G729/8000")


class Linphone:
    """One linphonec with one account. It plays the tone `tone` (Hz) and records what it hears (`recording`)."""

    kind = "linphone"

    def __init__(
        self,
        account: Account,
        folder: Path,
        *,
        tone: int = 440,
        address: str = "127.0.0.1",
        ca_file: Path | None = None,
        register: bool = True,
        inside: Sequence[str] = (),
    ) -> None:
        self.account = account
        self.folder = folder
        self.tone = tone
        self.sip_port = take_port()
        (folder / ".local/share/linphone").mkdir(parents=True, exist_ok=True)
        (folder / ".config/linphone").mkdir(parents=True, exist_ok=True)
        tones.write_tone(folder / "tone.wav", tone)
        ports = {name: self.sip_port if name == account.transport else 0 for name in ("udp", "tcp", "tls")}
        sections: dict[str, dict[str, object]] = {
            "sip": {
                "sip_port": ports["udp"],
                "sip_tcp_port": ports["tcp"],
                "sip_tls_port": ports["tls"],
                "bind_address": address,
                "guess_hostname": 0,
                "contact": f"sip:{account.username}@{address}",
                "verify_server_certs": 1,
                "verify_server_cn": 0,  # its TLS library reads no addresses in certificates; the chain is verified
                "root_ca": ca_file or "",
                "media_encryption": "none",
                "inc_timeout": 60,
                "default_proxy": 0,
                "register_only_when_network_is_up": 0,
                "auto_net_state_mon": 0,  # it would take a machine with a loopback device alone for one without network
                "zrtp_available": 0,
            },
            "net": {"mtu": 1300, "firewall_policy": 0},
            "rtp": {
                "audio_rtp_port": take_ports(2),
                "video_rtp_port": -1,
                "text_rtp_port": -1,
                "bind_address": address,
            },
            "sound": {"echocancellation": 0, "agc": 0},
            "video": {"enabled": 0, "capture": 0, "display": 0, "automatically_initiate": 0, "automatically_accept": 0},
            "proxy_0": {
                "reg_proxy": f"<{account.proxy}>",
                "reg_route": f"<{account.proxy};lr>",
                "reg_identity": account.aor,
                "reg_expires": account.expires,
                "reg_sendregister": 1 if register else 0,
                "publish": 0,
                "dial_escape_plus": 0,
            },
            "auth_info_0": {
                "username": account.username,
                "userid": account.auth_username,
                "passwd": account.password,
            },
        }
        number = 0
        for mime, rate in _CODECS:
            sections[f"audio_codec_{number}"] = {"mime": mime, "rate": rate, "channels": 1, "enabled": 1}
            number += 1
        for codec in _NO_CODECS:
            mime, _, hertz = codec.partition("/")
            sections[f"audio_codec_{number}"] = {
                "mime": mime,
                "rate": hertz,
                "channels": 2 if mime == "opus" else 1,
                "enabled": 0,
            }
            number += 1
        text = "\n".join(
            f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in values.items() if value != "")
            for name, values in sections.items()
        )
        (folder / "linphonerc").write_text(text)
        self._process = PeerProcess(
            f"linphone {account.username}",
            [*inside, "linphonec", "-c", str(folder / "linphonerc"), "-d", "6", "-l", "/dev/stdout"],
            folder / "linphonec.log",
            cwd=folder,
            env={"HOME": str(folder), "TERM": "dumb", "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""},
            stdin=subprocess.PIPE,
            stop_signal=signal.SIGINT,
        )
        try:
            after = self.mark
            self._say("soundcard use files")
            self._process.wait_for(r"Using wav files", 10, after)
            self._say(f"play {folder}/tone.wav")
            self._say(f"record {self.recording}")
        except PeerFailed:
            self._process.stop()
            raise

    # -- what a person does ------------------------------------------------------------------------------------------

    @property
    def mark(self) -> int:
        return self._process.output.mark

    def wait_registered(self, timeout: float = 10.0) -> None:
        self._process.wait_for(r"Registration on .* successful|LinphoneRegistrationOk", timeout)

    def dial(self, target: str) -> None:
        self._say(f"call {self.account.uri(target)}")

    def wait_incoming(self, timeout: float = 10.0, after: int = 0) -> str:
        """The URI of the caller."""
        return self._process.wait_for(r"Receiving new incoming call from (.*?),? assigned id", timeout, after).group(1)

    def wait_ringing(self, timeout: float = 10.0, after: int = 0) -> None:
        self._process.wait_for(r"Remote ringing|is ringing|LinphoneCallOutgoing(Ringing|EarlyMedia)", timeout, after)

    def wait_early_media(self, timeout: float = 10.0, after: int = 0) -> None:
        self._process.wait_for(r"[Ee]arly ?[Mm]edia", timeout, after)

    def wait_established(self, timeout: float = 10.0, after: int = 0) -> None:
        self._process.wait_for(r"LinphoneCallStreamsRunning|Media streams established", timeout, after)

    def wait_closed(self, timeout: float = 10.0, after: int = 0) -> str:
        return self._process.wait_for(
            r"Call .* (ended|error|released).*|LinphoneCall(End|Error).*", timeout, after
        ).group(0)

    def answer(self) -> None:
        self._say("answer")

    def hangup(self) -> None:
        self._say("terminate")

    def hold(self) -> None:
        after = self.mark
        self._say("pause")
        self._process.wait_for(r"to LinphoneCallPaused$", 10, after)

    def resume(self) -> None:
        after = self.mark
        self._say("resume")
        self._process.wait_for(r"to LinphoneCallStreamsRunning$", 10, after)

    def transfer(self, target: str) -> None:
        """Blind transfer (REFER) of the call."""
        self._say(f"transfer {self.account.uri(target)}")

    def transfer_attended(self, index: int = 0, to: int = 1) -> None:
        """Transfer call `index` to the party of call `to` (REFER with Replaces)."""
        self._say(f"transfer {index + 1} --to-call {to + 1}")

    def send_dtmf(self, digits: str) -> None:
        for digit in digits:
            self._say(digit)

    def wait_dtmf(self, digits: str, timeout: float = 10.0, after: int = 0) -> None:
        """Wait for digits in this order."""
        for digit in digits:
            found = self._process.wait_for(rf"Receiving tone {re.escape(digit)}", timeout, after)
            after = self._process.output.lines.index(found.string, after) + 1

    # -- what is measured --------------------------------------------------------------------------------------------

    @property
    def recording(self) -> Path:
        """What this phone heard in its newest call; complete after the call."""
        return self.folder / "heard.wav"

    def _say(self, command: str) -> None:
        stdin = self._process.process.stdin
        assert stdin is not None
        stdin.write(command.encode() + b"\n")
        stdin.flush()

    def stop(self) -> None:
        """Unregister and end."""
        if self._process.running:
            self._say("unregister")  # by itself it does so only where it watches the network
            self._say("quit")
            try:
                self._process.wait(5)
            except PeerFailed:
                pass
        self._process.stop()
