"""How long calls are without their daemon: `kill -9` with so many calls up, until the first BYE is answered again.

python bench/restart.py                  1,000, 5,000 and 10,000 calls that are up
python bench/restart.py --calls 10000    one run
python bench/restart.py --upgrade        the same with `sip-edge upgrade` in place of kill -9
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from pathlib import Path

# ten thousand calls need forty thousand ports for media
os.environ["PEER_PORTS"] = "1100-1999"

import load
from load import CARRIER, PHONES, Office, Sipp, Usage, cpu, memory, pause

load.MEDIA_PORTS = "2000-65000"

from peers.messages import Seen  # noqa: E402
from peers.process import poll  # noqa: E402
from peers.raw import Raw  # noqa: E402

HELD_MS = 3_600_000
QUIET = 20
"""Seconds for which calls are merely up."""
SDP = (
    f"v=0\r\no=- 1 1 IN IP4 {CARRIER}\r\ns=-\r\nc=IN IP4 {CARRIER}\r\nt=0 0\r\nm=audio 1090 RTP/AVP 8\r\n"
    "a=rtpmap:8 PCMA/8000\r\n"
)


def invite(port: int, called: str) -> str:
    """A carrier's call."""
    return (
        f"INVITE sip:{called}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {CARRIER}:{port};branch=z9hG4bK-probe;rport\r\n"
        f"From: <sip:+4930999999@static.example>;tag=probe\r\nTo: <sip:{called}@127.0.0.1>\r\n"
        f"Call-ID: probe-{port}\r\nCSeq: 1 INVITE\r\nContact: <sip:probe@{CARRIER}:{port}>\r\nMax-Forwards: 70\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n\r\n{SDP}"
    )


def in_dialog(method: str, answer: Seen, cseq: int, port: int) -> str:
    """A request in the dialog of a 2xx."""
    target = answer.header("Contact").partition("<")[2].partition(">")[0]
    return (
        f"{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {CARRIER}:{port};branch=z9hG4bK-{method}-{cseq};rport\r\n"
        f"From: {answer.header('From')}\r\nTo: {answer.header('To')}\r\nCall-ID: {answer.header('Call-ID')}\r\n"
        f"CSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )


def measure(calls: int, rate: float, folder: Path, upgrade: bool) -> None:
    """One run; prints a line. `upgrade`: the program gives its place to another, instead of being killed."""
    office = Office(folder, {"media_timeout": 3600, "guard_rate": 5000, "guard_burst": 5000})
    sipps: list[Sipp] = []
    try:
        office.start()
        sipps.append(Sipp(office, "answers", PHONES, office.phone_port, pause_ms=20))
        sipps.append(
            Sipp(
                office,
                "carrier_calls",
                CARRIER,
                office.carrier_port,
                calls=calls - 1,  # the probe's is one more
                rate=rate,
                lines=office.called,
                pause_ms=HELD_MS,
            )
        )
        edge = office.edge
        at_rest = memory(office.signalling)
        begun = time.monotonic()
        calls, wanted = 0, calls
        while calls < wanted - 1 and time.monotonic() - begun < wanted / rate + 60:
            pause(1)
            calls = len(edge.rows("calls"))
        pause(2)
        calls = len(edge.rows("calls"))
        with Raw(edge.server(), address=CARRIER) as probe:
            probe.send(invite(probe.port, "+49228386001"))
            answer = probe.final(10)
            if answer is None or answer.status != 200:
                raise SystemExit(f"the probe's call was not answered: {answer}")
            probe.send(in_dialog("ACK", answer, 1, probe.port))
            pause(0.2)
            before = len(edge.rows("calls"))
            weighed = memory(office.signalling)
            look = Usage.of(office)
            pause(QUIET)
            later = Usage.of(office)
            idle = (later.cpu["signalling"] - look.cpu["signalling"]) / (later.at - look.at) * 100
            lag = later.lag_since(look, 0.99)
            journal = sum(path.stat().st_size for path in (edge.data / "journal").iterdir())
            bye = in_dialog("BYE", answer, 2, probe.port)
            began = time.monotonic()
            if upgrade:
                os.kill(office.signalling, signal.SIGUSR2)
                # the new program is tried first, beside the calls; from here on they wait
                poll(lambda: bool(edge.events("edge.upgrading")), "the new program takes over", 60)
                spent = cpu([office.signalling])
                began = time.monotonic()
            else:
                spent = 0.0
                edge.kill()
                edge.launch()
            status = 0
            while not status and time.monotonic() - began < 60:
                probe.send(bye)
                status = probe.status(0.02)
            took = time.monotonic() - began
            used = cpu([office.signalling]) - spent
        poll(edge.ready, "the edge is ready", 60)
        ready = time.monotonic() - began
        poll(lambda: bool(edge.events("calls.restored")), "calls were restored", 10)
        unreadable = int(str(edge.events("calls.restored")[0]["unreadable"]))
        # calls that are merely up follow a few at a time
        after, until = 0, time.monotonic() + 30
        while after != calls and time.monotonic() < until:
            pause(0.2)
            after = len(edge.rows("calls"))
        every = time.monotonic() - began
        print(
            f"{calls:7} {took:7.2f} {used:7.2f} {ready:7.2f} {every:7.2f} {status:6} {before:7} {after:7}"
            f" {unreadable:6} {journal / calls / 1024:8.1f} {at_rest / 1024**2:7.0f}"
            f" {weighed / 1024**2:7.0f} {memory(office.signalling) / 1024**2:7.0f} {idle:6.1f} {lag:6g}",
            flush=True,
        )
        if status != 200 or unreadable or after != calls or edge.metric("sip_edge_internal_errors_total"):
            raise SystemExit("calls were lost, or something went wrong inside: see --folder")
    finally:
        for sipp in sipps:
            sipp.stop()
        office.edge.kill()
        office.edge.discard()


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, action="append", help="calls that are up (default 1000, 5000, 10000)")
    parser.add_argument("--rate", type=float, default=100, help="calls begun per second (default %(default)s)")
    parser.add_argument("--upgrade", action="store_true", help="`sip-edge upgrade` in place of kill -9")
    parser.add_argument("--folder", type=Path, help="keep logs here")
    asked = parser.parse_args()
    print(
        "  calls   BYE s   CPU s ready s   all s status  before   after unread KiB/call    MiB  before   after  CPU %"
        " lag ms"
    )
    for calls in asked.calls or (1000, 5000, 10000):
        with tempfile.TemporaryDirectory(prefix="restart-") as made:
            measure(calls, asked.rate, asked.folder or Path(made), asked.upgrade)


if __name__ == "__main__":
    main()
