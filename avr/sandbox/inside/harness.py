"""Evaluate a row's tests apart from the program that they test: the sandbox's trusted process.

It starts the keeper of the program's processes before it reads the tests, so that no copy of its
memory holds any. Tests are evaluated here; a call of the program goes to its process and comes
back as a value. Outcomes go to standard output, one frame each. A failure of the sandbox itself is
one line on standard error and exit status `BROKEN`.
"""

from __future__ import annotations

import _socket
import os
import resource
import select
import sys
import time

from avr.sandbox.inside.keeper import BEGIN, END, READY
from avr.sandbox.inside.launch import socket_pair, start_keeper
from avr.sandbox.inside.limits import Limits, lower
from avr.sandbox.inside.plain import decode, encode
from avr.sandbox.inside.trial import Outcome, tried
from avr.sandbox.inside.wire import receive, send

BROKEN = 70  # EX_SOFTWARE of sysexits.h
_START_S = 30.0  # a start takes 0.1 s, on a busy machine many times that
_MOST_JOB, _MOST_OUTCOME = 2**30, 2**16
_OWN_MIB = 512  # for the values of tests, beside those that a program may send
_RIGHTS = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)


def main(arguments: list[str]) -> None:
    """Do the job on standard input; arguments: isolation, bubblewrap's file, limits."""
    status = BROKEN
    try:
        isolation, bubblewrap, *rest = arguments
        limits = Limits.from_arguments(rest)
        os.umask(0o022)  # the program, another user, has to enter the folders that are made
        harness = Harness(isolation, bubblewrap, limits)
        _work(harness, limits)
        harness.close()
        status = 0
    except Exception as error:
        os.write(2, f"{type(error).__name__}: {error}".encode(errors="replace"))
    finally:
        os._exit(status)  # without taking the interpreter down, which takes 4 ms


def _work(harness: Harness, limits: Limits) -> None:
    prelude, program, tests = decode(receive(0, _MOST_JOB), lambda *_: None)
    lower(resource.RLIMIT_AS, (limits.memory_mib + _OWN_MIB) * 2**20)
    # In case that whoever asked is gone and a test never ends.
    lower(resource.RLIMIT_CPU, int(len(tests) * (limits.wall_s + 1) + _START_S))
    lost: Outcome | None = None  # of a program that does not load, for any test
    for test in tests:
        if lost is None:
            outcome, loaded = tried(harness, prelude, program, test, limits)
            lost = None if loaded else outcome
        send(1, encode(lost or outcome, _MOST_OUTCOME, str))


class Harness:
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
        if not self.ready(fd, select.POLLIN, time.monotonic() + _START_S):
            raise RuntimeError(f"the keeper said nothing for {_START_S:g} s")
        said = self._control.recv(1000)
        if not said or (expected and said != expected):
            raise RuntimeError(said.decode(errors="replace") or "the keeper's process ended")
        return said
