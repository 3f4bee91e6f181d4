"""Check the disks, the limits and the shared folder of every machine."""

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avr.checks.faults import host_faults
from avr.checks.machines import Machine, ask_each, working
from avr.checks.outcome import CheckFailed, Finding
from avr.checks.settings import HostLimits
from avr.storage import Location, is_remote, location, remove, write_text, written

MARKER = "marker"
_MIB = 1 << 20


def look(folder: str, token: str, write_mib: int) -> dict[str, Any]:
    """Report this machine's disks and limits, from a worker process; write to the shared folder.

    `folder` holds the driver's marker with `token` in it. Figures are GiB, MiB/s and numbers of
    files; `None` where a place is an object store, which is never full.
    """
    shared = location(folder)
    facts: dict[str, Any] = {
        "temporary": tempfile.gettempdir(),
        "temporary_gib": _free_gib(Path(tempfile.gettempdir())),
        "run_dir_gib": None,
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "shared_memory_gib": round(shutil.disk_usage("/dev/shm").total / 2**30, 3),
        "marker": False,
        "write_mib_per_s": None,
    }
    marker = shared / MARKER
    facts["marker"] = marker.exists() and marker.read_text() == token
    # A folder that is not the driver's is this machine's own: nobody would look at a file there.
    if not facts["marker"]:
        return facts
    if not is_remote(shared):
        facts["run_dir_gib"] = _free_gib(shared)
    facts["write_mib_per_s"] = round(_write_rate(shared, write_mib), 1)
    return facts


def check_host(
    found: Sequence[Machine], folder: Location, token: str, limits: HostLimits
) -> Finding:
    """Check that every machine sees the run directory, with room and speed, and has its limits."""
    shared = folder / "host"
    write_text(shared / MARKER, token)
    answers = ask_each(found, look, str(shared), token, limits.write_mib)
    remove(shared)
    facts = {machine.name: answer for machine, answer in answers.items()}
    problems = [
        f"{machine.name}: {words}"
        for machine, answer in answers.items()
        for words in host_faults(answer, limits, works=machine in working(found))
    ]
    if problems:
        raise CheckFailed("; ".join(problems), facts)
    rates = [answer["write_mib_per_s"] for answer in answers.values()]
    rooms = [answer["run_dir_gib"] for answer in answers.values()]
    room = "an object store" if None in rooms else f"{min(rooms):.0f} GiB free"
    seen = "1 machine sees it" if len(found) == 1 else f"{len(found)} machines see it"
    words = f"run_dir: {room}, {sum(rates):.0f} MiB/s written and synced, {seen}"
    return Finding(words, facts)


def _free_gib(folder: Path) -> float:
    return round(shutil.disk_usage(folder).free / 2**30, 1)


def _write_rate(folder: Location, mib: int) -> float:
    """Measure MiB/s of writing one file until it is on the disk.

    The file holds random numbers, which no file system can make smaller.
    """
    file = folder / f"written-{os.uname().nodename}-{os.getpid()}"
    block = os.urandom(_MIB)
    began = time.perf_counter()
    with written(file) as temporary, temporary.open("wb") as stream:
        for _ in range(mib):
            stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())
    rate = mib / (time.perf_counter() - began)
    file.unlink()
    return rate
