"""Configure the sandbox in which programs that a model wrote are run against unit tests."""

from dataclasses import dataclass
from enum import Enum

from avr.config.fields import at_least


class Isolation(Enum):
    """Name the ways to keep a program apart from the machine (docs/concepts/sandbox.md).

    `auto` is the first of `bubblewrap` and `namespaces` that works on the machine. `process` is
    less (limits and a session of its own) and is never chosen by itself.
    """

    auto = "auto"
    bubblewrap = "bubblewrap"
    namespaces = "namespaces"
    process = "process"


@dataclass
class SandboxConfig:
    """Configure isolation and limits; each limit holds for one test, which starts anew.

    `wall_s` bounds the seconds of a test by the clock, `cpu_s` those of one process on a core.
    The clock is generous because a busy machine slows a good program down; a loop without an end
    meets the limit of CPU time first. `memory_mib` bounds the address space of one process, which
    Python itself takes some 30 MiB of. `max_processes` bounds processes and threads together, so
    that a program takes at most `memory_mib * max_processes`. `output_kib` bounds the encoded
    result of one call, `file_mib` the program's own file system as a whole.
    """

    isolation: Isolation = Isolation.auto
    wall_s: float = at_least(0.1, 10.0)
    cpu_s: int = at_least(1, 4)
    memory_mib: int = at_least(64, 512)
    max_processes: int = at_least(1, 8)
    output_kib: int = at_least(1, 1024)
    file_mib: int = at_least(1, 16)
