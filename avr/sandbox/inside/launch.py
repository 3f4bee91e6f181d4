"""Start the keeper of a program's processes under the isolation that was asked for."""

from __future__ import annotations

import _socket
import os
import sys

from avr.sandbox.inside import namespaces, system
from avr.sandbox.inside.keeper import Place, keep
from avr.sandbox.inside.limits import Limits

_CODE = "/code"  # where bubblewrap shows these modules
_OWN_USERS = 2**30  # of a bubblewrap started by root: far above those of people and services
START_KEEPER = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from avr.sandbox.inside.launch import keep_in_bubblewrap; keep_in_bubblewrap(sys.argv[2:])"
)
PYTHON_OPTIONS = ("-S", "-s", "-P", "-X", "utf8")  # no site (10 ms), nothing of the user's


def socket_pair(kind: int) -> tuple[_socket.socket, _socket.socket]:
    """Make two connected local sockets."""
    pair = _socket.socketpair(_socket.AF_UNIX, kind)
    return pair[0], pair[1]


def start_keeper(isolation: str, limits: Limits, bubblewrap: str) -> tuple[int, _socket.socket]:
    """Start a keeper: its process, and the socket that it says READY on. Raises OSError.

    `bubblewrap` is the program of that name. With namespaces this process itself moves into them.
    """
    ours, theirs = socket_pair(_socket.SOCK_SEQPACKET)
    control = theirs.fileno()
    if isolation == "bubblewrap":
        os.set_inheritable(control, True)
        command = _bubblewrap(bubblewrap, control, limits)
        keeper = os.posix_spawn(bubblewrap, command, os.environ)
    else:
        place = _place(isolation, limits)
        keeper = os.fork()
        if keeper == 0:
            keep(control, limits, place)
    theirs.close()
    return keeper, ours


def _place(isolation: str, limits: Limits) -> Place:
    if isolation == "namespaces":
        user = namespaces.enter(limits.file_mib)
        return Place(user, 2 if user is None else 1)  # the keeper, and where alike: us
    system.prctl(system.PR_SET_DUMPABLE, 0)  # then a process of our user cannot read our memory
    return Place()


def _bubblewrap(bubblewrap: str, control: int, limits: Limits) -> list[str]:
    """Write bubblewrap's command line; as root it needs no user namespace.

    Root's own user would not be limited in processes, so the keeper becomes one that nobody else
    has; for that it keeps two capabilities.
    """
    rooted = os.getuid() == 0
    python = os.path.realpath(sys.executable)
    code = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = [bubblewrap, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--as-pid-1"]
    command += ["--cap-drop", "ALL"]
    if rooted:
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user"]
    for folder in namespaces.interpreter_folders():
        command += _open_parents(folder)
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        else:
            command += ["--ro-bind", folder, folder]
    shown = f"{_CODE}/avr/sandbox"
    command += [*_open_parents(python), "--ro-bind", python, python]
    command += [*_open_parents(shown), "--ro-bind", code, shown]
    command += [*_open_parents("/dev/null"), "--dev-bind", "/dev/null", "/dev/null"]
    command += ["--perms", "1777"]
    command += ["--size", str(limits.file_mib * 2**20), "--tmpfs", namespaces.HOME]
    command += ["--remount-ro", "/", "--chdir", namespaces.HOME, "--"]
    command += [python, *PYTHON_OPTIONS, "-c", START_KEEPER, _CODE]
    user = _OWN_USERS + os.getpid() if rooted else -1
    return [*command, str(control), str(user), *limits.as_arguments()]


def _open_parents(path: str) -> list[str]:
    """Have bubblewrap make the folders above a path such that another user may enter them."""
    parts = path.split("/")[1:-1]
    parents = ["/" + "/".join(parts[: number + 1]) for number in range(len(parts))]
    return [word for each in parents for word in ("--perms", "0755", "--dir", each)]


def keep_in_bubblewrap(arguments: list[str]) -> None:
    """Be the keeper in a bubblewrap: arguments are the socket, the user and the limits."""
    control, user = int(arguments[0]), int(arguments[1])
    place = Place(None if user < 0 else user, 1)
    keep(control, Limits.from_arguments(arguments[2:]), place)
