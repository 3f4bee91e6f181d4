"""Keep the processes of a program: start one for each test, end all that it leaves behind.

The keeper runs no code of the program and knows no test. In a process namespace it is the first
process, which nothing inside can end or stop.
"""

from __future__ import annotations

import _socket
import os
import select
import sys

from avr.sandbox.inside import system
from avr.sandbox.inside.limits import Limits
from avr.sandbox.inside.namespaces import HOME
from avr.sandbox.inside.served import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

READY, BEGIN, END = b"ready", b"begin", b"end"
_KILL = 9
_MOST_FD = 2**20
_SCM_RIGHTS_BYTES = 64


class Place:
    """Say where a keeper lives.

    `user` is whom it and the program must become, None where they stay who they are. In a process
    namespace of its own it kills all that it sees, and `num_others` processes of its user stand
    beside the program there.
    """

    def __init__(self, user: int | None = None, num_others: int | None = None):
        self.user = user
        self.num_others = num_others
        self.own_namespace = num_others is not None


def keep(control: int, limits: Limits, place: Place) -> NoReturn:
    """Serve the harness over the socket `control` until that is closed; never return."""
    status = 1
    try:
        _settle(control, place)
        os.write(control, READY)
        _loop(_socket.socket(fileno=control), limits, place)
        status = 0
    except BaseException as error:
        os.write(control, f"{type(error).__name__}: {error}".encode()[:1000])
    finally:
        os._exit(status)


def _settle(control: int, place: Place) -> None:
    """Give up all that the program must not have; where that fails, so does the sandbox."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.closerange(3, control)
    os.closerange(control + 1, _MOST_FD)
    if place.own_namespace:
        os.chdir(HOME)
    else:
        os.setsid()
        os.chdir("/")
    if place.user is not None:
        os.setgroups([])
        os.setresgid(place.user, place.user, place.user)
        os.setresuid(place.user, place.user, place.user)
    system.drop_capabilities()
    system.refuse_calls()
    os.environ.clear()
    del sys.path[0]  # our own code


def _loop(control: _socket.socket, limits: Limits, place: Place) -> None:
    while True:
        message, ancillary, _, _ = control.recvmsg(16, _SCM_RIGHTS_BYTES)
        if not message:
            return
        if message != BEGIN:  # the end of a test whose process has ended by itself
            continue
        channel = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
        child = os.fork()
        if child == 0:
            control.close()
            _run(channel, limits, place)
        os.close(channel)
        closed = _wait(control, child)
        status, seconds = _end(child, place)
        if closed:
            return
        control.send(b"%d %d" % (status, seconds * 1000))


def _run(channel: int, limits: Limits, place: Place) -> NoReturn:
    try:
        limits.impose(place.num_others)
        if not place.own_namespace:
            system.refuse_company()
        serve(channel, limits.output_bytes)
    finally:
        os._exit(0)


def _wait(control: _socket.socket, child: int) -> bool:
    """Wait until the child has ended or shall; returns whether the harness is gone."""
    watched = select.poll()
    watched.register(control.fileno(), select.POLLIN)
    child_fd = os.pidfd_open(child)
    try:
        watched.register(child_fd, select.POLLIN)
        ready = [fd for fd, _ in watched.poll()]
    finally:
        os.close(child_fd)
    return control.fileno() in ready and not control.recv(16)


def _end(child: int, place: Place) -> tuple[int, float]:
    """Kill and reap every process but this one: the child's wait status and CPU seconds.

    A child that has ended by itself keeps its status.
    """
    ended = 0, 0.0
    while True:
        try:  # noqa: SIM105 (contextlib takes 3 ms)
            os.kill(-1 if place.own_namespace else child, _KILL)
        except ProcessLookupError:
            pass
        try:
            process, status, used = os.wait3(0)
        except ChildProcessError:
            return ended
        if process == child:
            ended = status, used.ru_utime + used.ru_stime
