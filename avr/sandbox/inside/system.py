"""Call what Linux offers and Python 3.11 does not: namespaces, mounts, capabilities, seccomp."""

import ctypes
import os

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID = 0x08000000, 0x10000000, 0x20000000
CLONE_NEWNET = 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT = 1, 2, 4, 32
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
MNT_DETACH = 2
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38
_AT_RECURSIVE, _AT_FDCWD = 0x8000, -100
_MOUNT_SETATTR = 442  # the same on all architectures, as are others above 424
_CAPABILITIES_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    result: int = getattr(_libc, name)(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Move this process (for processes: its children) into new namespaces. Raises OSError."""
    _call("unshare", flags)


def mount(what: str | None, where: str, kind: str | None, flags: int, data: str = "") -> None:
    """Mount as mount(2) does. Raises OSError."""
    source, type_ = (text.encode() if text else None for text in (what, kind))
    _call("mount", source, where.encode(), type_, ctypes.c_ulong(flags), data.encode())


def make_read_only(where: str) -> None:
    """Make a mount and all below it read-only, without devices and setuid. Raises OSError."""
    attributes = (ctypes.c_uint64 * 4)(MS_RDONLY | MS_NOSUID | MS_NODEV, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    number, flags = ctypes.c_long(_MOUNT_SETATTR), ctypes.c_long(_AT_RECURSIVE)
    _call("syscall", number, ctypes.c_long(_AT_FDCWD), where.encode(), flags, attributes, size)


def pivot_root(new: str, put_old: str) -> None:
    """Make `new` the root of this mount namespace, and the old one `put_old`. Raises OSError."""
    _call("syscall", ctypes.c_long(_numbers()["pivot_root"]), new.encode(), put_old.encode())


def unmount(where: str) -> None:
    """Detach a mount and all below it. Raises OSError."""
    _call("umount2", where.encode(), MNT_DETACH)


def prctl(option: int, value: int) -> None:
    """Set a property of this process. Raises OSError."""
    _call("prctl", option, *(ctypes.c_ulong(each) for each in (value, 0, 0, 0)))


def drop_capabilities() -> None:
    """Give up all capabilities; with no_new_privs nothing brings them back. Raises OSError."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())


# What a program has no use for and what could take memory that no limit counts, reach other
# processes or make namespaces: numbers on x86_64 and aarch64.
_REFUSED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (_MOUNT_SETATTR, _MOUNT_SETATTR),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
}
_CLONE, _CLONE3 = (56, 220), 435
# vfork and fork (x86_64 alone has them), socket, tkill, pidfd_open, pidfd_send_signal, and both
# calls that queue a signal.
_COMPANY = ((58,), (57,), (41, 198), (200, 130), (434, 434), (424, 424), (129, 138), (297, 240))
_SIGNALS = ((62, 129), (234, 131))  # kill, tgkill: allowed to the process itself
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32 = 0x40000000  # numbers of x86_64's second table begin here
_NAMESPACES, _THREAD = 0x7E020000, 0x00010000  # all CLONE_NEW* that clone takes; CLONE_THREAD
_EPERM, _ENOSYS = 1, 38
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_ALLOWED, _DENIED = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERROR | _EPERM)
_FIRST_OPERAND = (_LOAD, 0, 0, 16)  # its lower half


def _architecture() -> tuple[int, int]:
    name = os.uname().machine
    if name not in _ARCHITECTURES:
        raise OSError(f"the processor {name} is none of {', '.join(_ARCHITECTURES)}")
    return _ARCHITECTURES[name]


def _numbers() -> dict[str, int]:
    column, _ = _architecture()
    return {name: numbers[column] for name, numbers in _REFUSED.items()}


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("then", ctypes.c_uint8),
        ("otherwise", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction)))


def refuse_calls() -> None:
    """Have the kernel refuse (EPERM) the system calls above, here and in all children, for good.

    Sets no_new_privs. Raises OSError, also on a processor whose numbers are not known here.
    """
    column, _ = _architecture()
    code = []
    for number in _numbers().values():
        code += [(_EQUAL, 0, 1, number), _DENIED]
    # C libraries fall back to clone, whose flags can be looked at.
    code += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERROR | _ENOSYS)]
    code += [(_EQUAL, 0, 4, _CLONE[column]), _FIRST_OPERAND, (_ANY_BIT, 0, 1, _NAMESPACES)]
    _install([*code, _DENIED, _ALLOWED])


def refuse_company() -> None:
    """Have the kernel refuse new processes, signals to others and sockets, to this process.

    For a program without a process namespace, whose processes nobody could be sure to find, and
    which as root no limit would keep from having thousands. Threads stay allowed. Raises OSError.
    """
    column, _ = _architecture()
    code = []
    for numbers in _COMPANY:
        if column < len(numbers):
            code += [(_EQUAL, 0, 1, numbers[column]), _DENIED]
    code += [(_EQUAL, 0, 4, _CLONE[column]), _FIRST_OPERAND, (_ANY_BIT, 1, 0, _THREAD)]
    code += [_DENIED, _ALLOWED]
    for numbers in _SIGNALS:
        code += [(_EQUAL, 0, 4, numbers[column]), _FIRST_OPERAND, (_EQUAL, 1, 0, os.getpid())]
        code += [_DENIED, _ALLOWED]
    _install(code)


def _install(code: list[tuple[int, int, int, int]]) -> None:
    """Install a filter; its code begins with the call's number loaded, and falls through to yes."""
    _, architecture = _architecture()
    before = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    before += [(_LOAD, 0, 0, 0), (_AT_LEAST, 0, 1, _X32), _DENIED]
    whole = [*before, *code, _ALLOWED]
    instructions = (_Instruction * len(whole))(*(_Instruction(*each) for each in whole))
    program = _Filter(len(whole), instructions)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    _call("prctl", PR_SET_SECCOMP, ctypes.c_ulong(2), ctypes.byref(program))
