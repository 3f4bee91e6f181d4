"""Hold the limits of a program, and set them on its process."""

from __future__ import annotations

import resource


class Limits:
    """Hold the limits of one test, in the units of `avr.config.sandbox.SandboxConfig`."""

    def __init__(
        self,
        wall_s: float,
        cpu_s: int,
        memory_mib: int,
        max_processes: int,
        output_kib: int,
        file_mib: int,
    ):
        self.wall_s = wall_s
        self.cpu_s = cpu_s
        self.memory_mib = memory_mib
        self.max_processes = max_processes
        self.output_bytes = output_kib * 1024
        self.file_mib = file_mib

    @staticmethod
    def from_arguments(texts: list[str]) -> Limits:
        """Read limits from a command line, in the order of the constructor."""
        wall_s, *rest = texts
        return Limits(float(wall_s), *(int(each) for each in rest))

    def as_arguments(self) -> list[str]:
        """Write limits for a command line."""
        output_kib = self.output_bytes // 1024
        values = (self.wall_s, self.cpu_s, self.memory_mib, self.max_processes)
        return [str(each) for each in (*values, output_kib, self.file_mib)]

    def impose(self, num_others: int) -> None:
        """Set all limits on this process and its children, which cannot raise them again.

        `num_others` processes of the same user stand beside the program. Soft limits equal hard
        ones: then the kernel ends a process that has used its CPU time without a signal that it
        could ignore.
        """
        for what, most in (
            (resource.RLIMIT_CPU, self.cpu_s),
            (resource.RLIMIT_AS, self.memory_mib * 2**20),
            (resource.RLIMIT_FSIZE, self.file_mib * 2**20),
            (resource.RLIMIT_NPROC, self.max_processes + num_others),
            (resource.RLIMIT_NOFILE, 64),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
        ):
            lower(what, most)


def lower(what: int, most: int) -> None:
    """Set a limit of this process for good, soft and hard, unless a lower one holds already."""
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))
