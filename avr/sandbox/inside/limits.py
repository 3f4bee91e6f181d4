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

    def impose(self, num_others: int | None) -> None:
        """Set all limits on this process and its children, which cannot raise them again.

        `num_others` processes of the same user stand beside the program; None: that user has
        others, too, so that processes are not limited by their number. At the soft limit of CPU
        time comes SIGXCPU, by which the end is told from others; a second later comes SIGKILL.
        """
        lower(resource.RLIMIT_CPU, self.cpu_s, self.cpu_s + 1)
        lower(resource.RLIMIT_AS, self.memory_mib * 2**20)
        lower(resource.RLIMIT_FSIZE, self.file_mib * 2**20)
        if num_others is not None:
            lower(resource.RLIMIT_NPROC, self.max_processes + num_others)
        lower(resource.RLIMIT_NOFILE, 64)
        for what in (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
            lower(what, 0)


def lower(what: int, soft: int, hard: int | None = None) -> None:
    """Set a limit of this process for good, unless a lower one holds; `hard` is `soft` if None."""
    _, now = resource.getrlimit(what)
    bound = soft if hard is None else hard
    bound = bound if now == resource.RLIM_INFINITY else min(bound, now)
    resource.setrlimit(what, (min(soft, bound), bound))
