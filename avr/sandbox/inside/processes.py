"""Lead the processes of a program from outside: the harness's side of the keeper."""

from __future__ import annotations

import _socket
import os
import select
import sys
import time

from avr.sandbox.inside.keeper import BEGIN, END, READY
from avr.sandbox.inside.launch import socket_pair, start_keeper
from avr.sandbox.inside.limits import Limits

START_S = 30.0  # a start takes 0.1 s, on a busy machine many times that
_RIGHTS = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)


class Processes:
    """Hold the keeper of a program's processes. Raises RuntimeError where it does not start."""

    def __init__(self, isolation: str, bubblewrap: str, limits: Limits):
        self._poll = select.poll()
        self._poll.register(1, 0)  # which tells its end alone: whoever asked is gone
        self._keeper, self._control = start_keeper(isolation, limits, bubblewrap)
        self._hear(READY)

    def begin(self) -> int:
        """Have a process started: the descriptor that leads to it, which does not block."""
        ours, theirs = socket_pair(_socket.SOCK_STREAM)
        fd = theirs.fileno().to_bytes(4, sys.byteorder)
        self._control.sendmsg([BEGIN], [(*_RIGHTS, fd)])
        theirs.close()
        ours.setblocking(False)
        return ours.detach()

    def end(self) -> tuple[int, float]:
        """Have all processes ended: wait status and CPU seconds of the one that was started."""
        self._control.send(END)
        status, milliseconds = self._hear().split()
        return int(status), int(milliseconds) / 1000

    def close(self) -> None:
        """End the keeper, and with it whatever there may be."""
        self._control.close()
        os.waitpid(self._keeper, 0)

    def ready(self, fd: int, event: int, deadline: float) -> bool:
        """Wait until a descriptor is ready; False where the deadline is first."""
        self._poll.register(fd, event)
        try:
            while (left_s := deadline - time.monotonic()) > 0:
                found = {each for each, _ in self._poll.poll(left_s * 1000 + 1)}
                if 1 in found:
                    os._exit(0)  # the keeper sees its socket closed, and ends all that runs
                if fd in found:
                    return True
            return False
        finally:
            self._poll.unregister(fd)

    def _hear(self, expected: bytes = b"") -> bytes:
        fd = self._control.fileno()
        if not self.ready(fd, select.POLLIN, time.monotonic() + START_S):
            raise RuntimeError(f"the keeper said nothing for {START_S:g} s")
        said = self._control.recv(1000)
        if not said or (expected and said != expected):
            raise RuntimeError(said.decode(errors="replace") or "the keeper's process ended")
        return said
