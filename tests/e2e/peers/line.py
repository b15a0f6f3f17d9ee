"""A line between two network namespaces that delays, loses and swallows packets: a mobile network on a bad day.

    python line.py NAME-A NAMESPACE-A ADDRESS-A NAME-B NAMESPACE-B ADDRESS-B

Opens two TUN devices, gives each away to its namespace, and forwards what one sends to the other. It says READY, then
takes commands on its standard input, each answered with DONE and the number of packets lost so far: `delay SECONDS`
(each way), `loss SHARE` (each way), `dead`, `alive` and `lost`. Kernels without `tc netem` do as well.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time

_TUNSETIFF = 0x400454CA
_TUN_WITHOUT_INFO = 0x1001


def main() -> None:
    ends: list[int] = []
    for name, namespace, address in (sys.argv[1:4], sys.argv[4:7]):
        end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", name.encode(), _TUN_WITHOUT_INFO))
        ends.append(end)
        for command in (
            f"ip link set {name} netns {namespace}",
            f"ip -n {namespace} addr add {address} dev {name}",
            f"ip -n {namespace} link set {name} up",
        ):
            subprocess.run(command.split(), check=True)
    os.set_blocking(0, False)
    sys.stdout.write("READY\n")
    sys.stdout.flush()
    chance = random.Random(7)
    delay = loss = 0.0
    alive = True
    waiting: list[tuple[float, int, int, bytes]] = []
    number = lost = 0
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        readable, _, _ = select.select([0, *ends], [], [], timeout)
        now = time.monotonic()
        if 0 in readable:
            words = os.read(0, 4096).decode().split()
            if not words:
                return
            for verb, value in zip(words, [*words[1:], ""], strict=True):
                if verb == "delay":
                    delay = float(value)
                elif verb == "loss":
                    loss = float(value)
                elif verb in ("dead", "alive"):
                    alive = verb == "alive"
            sys.stdout.write(f"DONE {lost}\n")
            sys.stdout.flush()
        for end in readable:
            if end == 0:
                continue
            packet = os.read(end, 65536)
            if alive and chance.random() >= loss:
                number += 1
                heapq.heappush(waiting, (now + delay, number, ends[1 - ends.index(end)], packet))
            else:
                lost += 1
        while waiting and waiting[0][0] <= now:
            _, _, to, packet = heapq.heappop(waiting)
            try:
                os.write(to, packet)
            except OSError:
                continue  # its queue is full: the line is too narrow, and loses


main()
