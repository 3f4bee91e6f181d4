"""Put this process and its children into namespaces of their own, with an empty file system."""

from __future__ import annotations

import os
import sys

from avr.sandbox.inside import system

NOBODY = 65534
HOME = "/tmp"  # the one folder in which a program may write
_ALL = (
    system.CLONE_NEWUSER
    | system.CLONE_NEWNS
    | system.CLONE_NEWPID
    | system.CLONE_NEWNET
    | system.CLONE_NEWIPC
    | system.CLONE_NEWUTS
    | system.CLONE_NEWCGROUP
)
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")  # what extension modules load


def interpreter_folders() -> list[str]:
    """List the folders that hold Python's standard library and the libraries that it loads.

    A folder inside another is left out.
    """
    own = [os.path.dirname(os.__file__), f"{sys.base_prefix}/lib"]
    found = sorted({each for each in (*own, *_LIBRARIES) if os.path.isdir(each)})
    real = [each for each in found if not os.path.islink(each)]
    return [each for each in found if not any(each.startswith(f"{other}/") for other in real)]


def enter(file_mib: int) -> int | None:
    """Move this process into new namespaces; the process namespace is that of its children.

    The new root holds Python's folders, read-only, and an empty /tmp of `file_mib` MiB. Returns
    the user that a program must become, None where it cannot be another. Raises OSError.
    """
    rooted = os.getuid() == 0
    if rooted:
        _unshare_as_root()
    else:
        uid, gid = os.getuid(), os.getgid()
        system.unshare(_ALL)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    _make_root(file_mib)
    return NOBODY if rooted else None


def _write(file: str, text: str) -> None:
    fd = os.open(file, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _unshare_as_root() -> None:
    """Map two users, root and nobody: the kernel does not count the processes of root's own user.

    Only a process that stays outside may map two, so a child does it.
    """
    ours, theirs = os.pipe()
    mapper = os.fork()
    if mapper == 0:
        status = 1
        try:
            os.close(theirs)
            if os.read(ours, 1):
                for which in ("uid_map", "gid_map"):
                    _write(f"/proc/{os.getppid()}/{which}", f"0 0 1\n{NOBODY} {NOBODY} 1")
                status = 0
        finally:
            os._exit(status)
    os.close(ours)
    try:
        system.unshare(_ALL)
        os.write(theirs, b"m")
    finally:
        os.close(theirs)
        _, status = os.waitpid(mapper, 0)
    if status:
        raise PermissionError(f"cannot map users 0 and {NOBODY} into a user namespace")


def _make_root(file_mib: int) -> None:
    folders = {each: os.path.realpath(each) for each in interpreter_folders()}
    system.mount(None, "/", None, system.MS_REC | system.MS_PRIVATE)
    flags = system.MS_NOSUID | system.MS_NODEV
    system.mount("tmpfs", "/tmp", "tmpfs", flags, "size=1m,nr_inodes=1024,mode=755")
    os.chdir("/tmp")
    os.mkdir("old")
    system.pivot_root(".", "old")
    os.chdir("/")
    for folder, real in folders.items():
        _show(folder, real)
    os.mkdir("/dev")
    os.close(os.open("/dev/null", os.O_CREAT))
    system.mount("/old/dev/null", "/dev/null", None, system.MS_BIND)
    system.unmount("/old")
    os.rmdir("/old")
    os.makedirs(HOME, exist_ok=True)
    system.mount(None, "/", None, system.MS_REMOUNT | system.MS_BIND | system.MS_RDONLY | flags)
    system.mount("tmpfs", HOME, "tmpfs", flags, f"size={file_mib}m,nr_inodes=4096,mode=1777")
    os.chdir(HOME)


def _show(folder: str, real: str) -> None:
    """Make a folder of the old root visible, read-only; a link stays a link."""
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    if os.path.islink(f"/old{folder}"):
        os.symlink(os.readlink(f"/old{folder}"), folder)
        return
    os.mkdir(folder)
    system.mount(f"/old{real}", folder, None, system.MS_BIND | system.MS_REC)
    system.make_read_only(folder)
