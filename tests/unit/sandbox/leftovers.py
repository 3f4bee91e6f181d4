"""Look for what a sandbox may have left on the machine."""

import time
from pathlib import Path

_PATIENCE_S = 5.0  # the kernel takes a namespace down after its last process


def left():
    """Give this process's open files, mounts, and sandboxes that still run, when all is quiet."""
    deadline = time.monotonic() + _PATIENCE_S
    while (running := _running()) and time.monotonic() < deadline:
        time.sleep(0.05)
    mounts = Path("/proc/self/mountinfo").read_text()
    return {
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "mounts": mounts,
        "running": running,
    }


def _running():
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"avr.sandbox.inside" in each.read_bytes():
                found.append(each.parent.name)
        except OSError:
            continue
    return found
