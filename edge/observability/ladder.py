"""A traced call as text: the ladder, then the messages (docs/operations.md explains it; tests keep it as golden files).

    0.000  A → E  INVITE sip:+441632960123@edge  cseq 1  sdp
    0.000  A ← E  100 Trying
    0.000      E → B  INVITE sip:1001@10.0.0.5  cseq 1  sdp  call-id e-0001
    0.020      E ← B  180 Ringing

A is the caller, E the edge, B the called; where several were called they are B1, B2 and so on. Pure.
"""

from __future__ import annotations

import re
import struct
from datetime import UTC, datetime
from ipaddress import ip_address

from edge.observability.printable import printable_lines
from edge.observability.privacy import redact
from edge.observability.trace import TracedCall, TracedMessage

_CSEQ = re.compile(rb"(?im)^cseq[ \t]*:[ \t]*(\d+)[ \t]+(\S+)")
_SDP = re.compile(rb"(?im)^(?:content-type|c)[ \t]*:[ \t]*application/sdp")
_REASON = re.compile(rb"(?im)^reason[ \t]*:[ \t]*([^\r\n]+)")
_MAX_PCAP_PAYLOAD = 65_507


def render(call: TracedCall, wall_offset: float, messages: bool = True) -> str:
    """The ladder of a call, followed by its `messages` with digest proofs, keys and content hidden.

    `wall_offset`: wall clock minus the monotonic clock of the messages, in seconds.
    """
    lines = _in_order(call)
    start = lines[0][1].at
    began = datetime.fromtimestamp(start + wall_offset, UTC)
    out = [f"call {call.call}  {began:%Y-%m-%d %H:%M:%S}.{began.microsecond // 1000:03d} UTC"]
    if not call.complete:
        out.append("earlier messages of this call are no longer kept")
    names = _names(call)
    seen: set[int] = set()
    sent: set[tuple[int, str, bytes]] = set()
    body: list[str] = []
    for leg, message in lines:
        name = names[leg]
        arrow = ("→" if message.direction == "in" else "←") if leg == 0 else "→" if message.direction == "out" else "←"
        rung = f"{name} {arrow} E" if leg == 0 else f"    E {arrow} {name}"
        notes = _notes(message.data)
        if leg not in seen and leg != 0:
            notes.append(f"call-id {call.legs[leg].sip_call_id}")
        seen.add(leg)
        if (leg, message.direction, message.data) in sent:
            notes.append("again")
        sent.add((leg, message.direction, message.data))
        text = "  ".join([_start_line(message.data), *notes])
        out.append(f"{message.at - start:9.3f}  {rung}  {text}")
        if messages:
            flow = message.flow
            way = "from" if message.direction == "in" else "to"
            body.append(f"\n---- {message.at - start:.3f}  {rung.strip()}  {way} {flow.transport}:{flow.remote}")
            body.append(redact(message.data).decode("utf-8", "backslashreplace").replace("\r\n", "\n").rstrip("\n"))
    if body:
        out += body
    return printable_lines("\n".join(out)) + "\n"


def pcap(call: TracedCall, wall_offset: float) -> bytes:
    """The call as a capture file for Wireshark, hidden what `render` hides.

    Every message becomes one UDP datagram between the addresses it had, also what came over TCP and TLS.
    """
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 101)]
    for _, message in _in_order(call):
        packet = _datagram(message)
        at = message.at + wall_offset
        out.append(struct.pack("<IIII", int(at), int(at % 1 * 1_000_000), len(packet), len(packet)))
        out.append(packet)
    return b"".join(out)


def _in_order(call: TracedCall) -> list[tuple[int, TracedMessage]]:
    lines = [(n, message) for n, leg in enumerate(call.legs) for message in leg.messages]
    lines.sort(key=lambda line: line[1].number)
    return lines


def _names(call: TracedCall) -> list[str]:
    called = len(call.legs) - 1
    return ["A"] + (["B"] if called == 1 else [f"B{n}" for n in range(1, called + 1)])


def _start_line(data: bytes) -> str:
    line = data[: data.find(b"\r\n")].decode("utf-8", "backslashreplace").replace("\n", "\\x0a")
    if line.startswith("SIP/2.0 "):
        return line[8:]
    return line.removesuffix(" SIP/2.0")


def _notes(data: bytes) -> list[str]:
    notes = []
    head = data.partition(b"\r\n\r\n")[0]
    cseq = _CSEQ.search(head)
    if data.startswith(b"SIP/2.0 "):
        if cseq is not None and cseq[2] != b"INVITE":
            notes.append(f"({cseq[2].decode('ascii', 'backslashreplace')})")
    elif cseq is not None:
        notes.append(f"cseq {cseq[1].decode()}")
    if _SDP.search(head) is not None:
        notes.append("sdp")
    reason = _REASON.search(head)
    if reason is not None:
        notes.append(f"reason {reason[1].decode('utf-8', 'backslashreplace')}")
    return notes


def _datagram(message: TracedMessage) -> bytes:
    flow = message.flow
    source, target = (flow.remote, flow.local) if message.direction == "in" else (flow.local, flow.remote)
    payload = redact(message.data)[:_MAX_PCAP_PAYLOAD]
    length = 8 + len(payload)
    udp = struct.pack("!HHHH", source.port, target.port, length, 0)
    src, dst = ip_address(source.host.partition("%")[0]), ip_address(target.host.partition("%")[0])
    if src.version == dst.version == 4:
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0, 64, 17, 0, src.packed, dst.packed)
        head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
        return head + udp + payload
    packed = [a.packed if a.version == 6 else b"\0" * 10 + b"\xff\xff" + a.packed for a in (src, dst)]
    pseudo = packed[0] + packed[1] + struct.pack("!IBBBB", length, 0, 0, 0, 17)
    total = _checksum(pseudo + udp + payload) or 0xFFFF
    udp = udp[:6] + struct.pack("!H", total)
    return struct.pack("!IHBB16s16s", 6 << 28, length, 17, 64, *packed) + udp + payload


def _checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
