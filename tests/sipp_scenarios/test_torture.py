"""RFC 4475 and RFC 5118 on the wire: each message thrown at the running edge, over UDP and TCP, as a stranger would.

What the parser makes of each is in tests/unit/sip/test_torture.py; here it is what leaves the edge, which lives on.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from peers.raw import Raw
from peers.world import STRANGER_ADDRESS, World

pytestmark = pytest.mark.sipp

HERE = Path(__file__).parents[1] / "unit/sip"
REFUSED = {
    "badinv01": 400, "clerr": 400, "ncl": 400, "scalar02": 400, "quotbal": 400, "ltgtruri": 400, "lwsruri": 400,
    "lwsstart": 400, "trws": 400, "escruri": 400, "badvers": 505, "mismatch01": 400, "mismatch02": 400,
    "badbranch": 400, "insuf": 400, "unkscm": 416, "novelsc": 416, "bext01": 420, "multi01": 400, "mcl01": 400,
    "ipv6-bad": 400,
}  # fmt: skip
"""Refused whoever sends it, with the status that the RFC names."""
STRANGERS = {
    "wsinv": {481}, "intmeth": {405, 501}, "esc02": {405, 501}, "unksm2": {400, 401}, "invut": {415, 401},
    "regaut01": {401}, "zeromf": {200, 483}, "sdp01": {401, 406, 488}, "mpart01": {405, 501}, "regbadct": {400, 401},
}  # fmt: skip
"""Well formed, or a fault only for who looks: what a stranger gets. All others may be challenged or refused."""
DROPPED = {"scalarlg", "bigcode", "bcast", "unreason", "noreason", "mcl01-tcp"}
"""Responses to nothing that was sent."""
FRAMING = {"clerr", "ncl", "mcl01", "dblreq", "inv2543"}
"""Their Content-Length is wrong, missing or doubled: on a stream nothing that follows can be read."""
NAMES = [p for rfc in ("rfc4475", "rfc5118") for p in sorted((HERE / rfc).glob("*.dat"))]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_outcome_on_the_wire(world: World, transport: str) -> None:
    """The status that the RFC names, silence where it says so, and after each message the edge still answers."""
    wrong = []
    for path in NAMES:
        name = path.stem
        with Raw(world.edge.server(), transport, STRANGER_ADDRESS) as stranger:
            stranger.send(here(path.read_bytes(), transport, stranger.port))
            quiet = name in DROPPED or (transport == "tcp" and name in FRAMING)
            status = stranger.status(0.15 if quiet else 2.0)
        if quiet:
            # a stream that cannot be read any further may be told so before it is closed
            right = status in ((0,) if name in DROPPED else (0, 400, 401, 405, 481, 501))
        elif name in REFUSED:
            right = status == REFUSED[name]
        elif name in STRANGERS:
            right = status in STRANGERS[name]
        else:
            right = 200 <= status < 500
        if not right:
            wrong.append(f"{name}: {status}")
        with Raw(world.edge.server(), "udp", STRANGER_ADDRESS) as stranger:
            stranger.send(ping(stranger.port))
            assert stranger.status() == 200, f"no answer any more after {name}"
    assert not wrong, wrong


def here(data: bytes, transport: str, port: int) -> bytes:
    """The message, to be answered where it is sent from (`rport`), and of a transaction of its own: some share one."""
    head, end, body = data.partition(b"\r\n\r\n")
    if b";rport" not in head:
        head = head.replace(b";branch=z9hG4bK", b";rport;branch=z9hG4bK", 1)
    head = re.sub(rb";branch=z9hG4bK(?=[^\s;,])", b";branch=z9hG4bK%dx" % port, head, count=1)
    if transport == "tcp":
        head = re.sub(rb"(?im)^((?:call-id|i)[ \t]*:\s*)", rb"\1again-", head)
    return head + end + body


def ping(port: int) -> str:
    return (
        "OPTIONS sip:edge.example SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {STRANGER_ADDRESS}:{port};branch=z9hG4bKping{port};rport\r\n"
        f"From: <sip:x@example.com>;tag=p{port}\r\nTo: <sip:edge.example>\r\nCall-ID: ping{port}\r\n"
        "CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )


def test_merged_request(world: World) -> None:
    """RFC 3261 section 8.2.2.2: the same request by two ways is one call; the second way gets 482."""
    with Raw(world.edge.server(), "udp", STRANGER_ADDRESS) as stranger:
        first = ping(stranger.port).replace("OPTIONS", "INVITE").replace(
            "Max-Forwards", f"Contact: <sip:x@{STRANGER_ADDRESS}:{stranger.port}>\r\nMax-Forwards"
        )  # fmt: skip
        stranger.send(first)
        stranger.send(first.replace("branch=z9hG4bKping", "branch=z9hG4bKother"))
        statuses = {stranger.status(1.0), stranger.status(1.0)}
    assert 482 in statuses and len(statuses) == 2, statuses
