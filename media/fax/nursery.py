"""Where fax processes are born: a small process that has loaded what they need, and forks one for each order.

    python -m media.fax.nursery --fd N      N: a SOCK_SEQPACKET socket; each message is an order with the control
                                            socket of the new process, and the lock of its folder, as descriptors

It knows nothing of calls and touches no media, so it has no reason to die; when its socket closes, it ends, and so do
its children, each with what it has. How a child died is told on the socket.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
import sys
import traceback
from contextlib import suppress
from typing import Final

from media.fax.call import MESSAGE, Order, run_call
from media.fax.spandsp import library

_NICE: Final = -10
READY: Final = b'{"is": "ready"}'


class Nursery:
    """The loop."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, int] = {}
        self._poller = select.poll()
        self._poller.register(control, select.POLLIN)

    def run(self) -> None:
        """Serve until the socket closes."""
        library()
        with suppress(PermissionError):
            # For where real-time priority is not to be had (`media.fax.call`): no more than a help.
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        # What is loaded now stays shared between all children.
        gc.collect()
        gc.freeze()
        self._control.send(READY)
        while True:
            for descriptor, _ in self._poller.poll():
                if descriptor in self._children:
                    self._bury(descriptor)
                elif not self._take_order():
                    return

    def _take_order(self) -> bool:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE, 4)
        except ConnectionError:
            return False
        if not message:
            return False
        pid = os.fork()
        if pid == 0:
            _be_child(message, descriptors, self._control)
        for descriptor in descriptors:
            os.close(descriptor)
        watch = os.pidfd_open(pid)
        self._children[watch] = pid
        self._poller.register(watch, select.POLLIN)
        return True

    def _bury(self, watch: int) -> None:
        pid = self._children.pop(watch)
        self._poller.unregister(watch)
        os.close(watch)
        _, status = os.waitpid(pid, 0)
        if status:
            code = os.waitstatus_to_exitcode(status)
            said = f"signal {-code}" if code < 0 else f"exit status {code}"
            self._control.send(json.dumps({"is": "died", "pid": pid, "status": said}).encode())


def _be_child(message: bytes, descriptors: list[int], parent: socket.socket) -> None:
    status = 1
    try:
        parent.close()
        control = socket.socket(fileno=descriptors[0])
        order = json.loads(message)
        do = order.pop("do")
        if do == "call":
            order["ports"] = tuple(order["ports"])
            run_call(control, Order(**order))
        elif do == "document":
            # Loaded here, so that calls do not carry it.
            from media.fax.work import run_document

            run_document(control, order)
        status = 0
    except BaseException:  # the last frame of this process
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def main() -> None:
    """The entry point."""
    if len(sys.argv) != 3 or sys.argv[1] != "--fd":
        sys.exit("usage: python -m media.fax.nursery --fd N   (started by the edge)")
    Nursery(socket.socket(fileno=int(sys.argv[2]))).run()


if __name__ == "__main__":
    main()
