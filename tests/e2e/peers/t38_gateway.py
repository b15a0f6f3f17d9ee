"""rtpengine as a T.38 gateway: G.711 on the side of a fax machine, T.38 of its own making on the other.

Driven over its ng protocol (bencoded dictionaries over UDP). It needs no kernel module and no privileges.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from peers.ports import take_port, take_ports
from peers.process import PeerFailed, PeerProcess, poll

Value = int | bytes | list["Value"] | dict[bytes, "Value"]


class T38Gateway:
    """One rtpengine on `address`."""

    def __init__(self, folder: Path, address: str = "127.0.0.1", ports: int = 64) -> None:
        self._control = (address, take_port())
        first = take_ports(ports)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(2.0)
        self._socket.connect(self._control)
        self.process = PeerProcess(
            "rtpengine",
            [
                "rtpengine", "--config-file=none", "--foreground", "--log-stderr", "--log-level=6", "--table=-1",
                f"--interface={address}", f"--listen-ng={address}:{self._control[1]}",
                f"--port-min={first}", f"--port-max={first + ports - 1}",
            ],
            folder / "rtpengine.log",
        )  # fmt: skip
        try:
            poll(lambda: not self.process.running or self._answers(), "rtpengine answers", 10)
        except PeerFailed:
            self.stop()
            raise

    def stop(self) -> None:
        self._socket.close()
        self.process.stop()

    def offer(
        self, call: str, from_tag: str, sdp: bytes, t38: Sequence[str], to_tag: str = "", profile: str = ""
    ) -> bytes:
        """What the other side is offered. `t38`: `force` makes T.38 of G.711, `decode` G.711 of T.38. `profile`:
        RTP/SAVP has rtpengine encrypt what goes there."""
        tags = {"from-tag": from_tag, **({"to-tag": to_tag} if to_tag else {})}
        if profile:
            tags |= {"transport-protocol": profile, "DTLS": "off"}
        return self._translate("offer", call, sdp, t38, **tags)

    def answer(self, call: str, from_tag: str, to_tag: str, sdp: bytes) -> bytes:
        """What who offered is answered; `from_tag` is that of the offer."""
        return self._translate("answer", call, sdp, (), **{"from-tag": from_tag, "to-tag": to_tag})

    def delete(self, call: str) -> None:
        """The call is over."""
        self._ask({"command": "delete", "call-id": call})

    def _translate(self, command: str, call: str, sdp: bytes, t38: Sequence[str], **tags: str) -> bytes:
        order: dict[str, object] = {"command": command, "call-id": call, "sdp": sdp, "ICE": "remove", **tags}
        order["replace"] = ["origin", "session-connection"]
        if t38:
            order["T.38"] = list(t38)
        found = self._ask(order).get(b"sdp")
        assert isinstance(found, bytes)
        return found

    def _ask(self, order: dict[str, object]) -> dict[bytes, Value]:
        cookie = secrets.token_hex(4).encode()
        self._socket.send(cookie + b" " + encode(order))
        while True:
            got, _, body = self._socket.recv(65536).partition(b" ")
            if got == cookie:
                break
        answer, _ = decode(body, 0)
        assert isinstance(answer, dict)
        if answer[b"result"] == b"error":
            raise PeerFailed(f"rtpengine: {answer.get(b'error-reason')!r} to {order}")
        return answer

    def _answers(self) -> bool:
        with suppress(OSError):
            return self._ask({"command": "ping"})[b"result"] == b"pong"
        return False


def encode(value: object) -> bytes:
    """Bencode (BEP 3)."""
    match value:
        case str():
            return encode(value.encode())
        case bytes():
            return b"%d:%s" % (len(value), value)
        case int():
            return b"i%de" % value
        case list():
            return b"l" + b"".join(map(encode, value)) + b"e"
        case dict():
            return b"d" + b"".join(encode(k) + encode(v) for k, v in sorted(value.items())) + b"e"
    raise TypeError(f"{value!r} has no bencoding")


def decode(data: bytes, at: int) -> tuple[Value, int]:
    """The value that begins at `at`, and where the next one does. Raises ValueError."""
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        items: list[Value] = []
        at += 1
        while data[at : at + 1] != b"e":
            item, at = decode(data, at)
            items.append(item)
        if kind == b"l":
            return items, at + 1
        keys = [key for key in items[::2] if isinstance(key, bytes)]
        return dict(zip(keys, items[1::2], strict=True)), at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    return data[colon + 1 : end], end
