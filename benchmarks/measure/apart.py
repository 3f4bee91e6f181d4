"""Give engines cores of their own, as on machines where they do not share the driver's."""

import os
from contextlib import suppress

import psutil
from measure.measuring import Watch, children, kind_of


class Apart(Watch):
    """Bind engine cores to half of this process's cores, and all else to the others.

    What is started inside inherits the others; engine cores are moved as soon as they are seen.
    Raises ValueError where there is one core only.
    """

    every_s = 0.2

    def __init__(self):
        self._all = sorted(os.sched_getaffinity(0))
        half = len(self._all) // 2
        if not half:
            raise ValueError("one core cannot be shared out: --apart needs two")
        self._engines, self._others = self._all[:half], self._all[half:]

    def __enter__(self):
        os.sched_setaffinity(0, self._others)
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        os.sched_setaffinity(0, self._all)

    def look(self):
        """Bind every thread of every engine core; threads that one starts later inherit that."""
        for process in children():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if kind_of(process) == "engines":
                    for thread in process.threads():
                        os.sched_setaffinity(thread.id, self._engines)
