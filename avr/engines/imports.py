"""Import vLLM with garbage collection off: imports are most of an engine's start.

They make a million objects that stay. Python looks through those that are there again and again
while it imports, and vLLM has it do so several times in a start: a third of the start of an engine
(benchmarks/README.md). vLLM's computing process is spawned, in a Ray actor and on a CPU, so it
imports everything for itself. It runs this module first, as Python has a spawned process run the
main module of the process that spawns it.
"""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Turn garbage collection off inside; objects that are there at the end are never collected.

    It is for imports, once in a process: garbage that is there stays until the process ends.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        # Otherwise libraries take the frozen objects for leaks.
        atexit.register(gc.unfreeze)
        if was_on:
            gc.enable()


@contextmanager
def spawning_here() -> Iterator[None]:
    """Have processes that are spawned inside run this module first, in the place of the main one.

    The main module of a Ray worker is of no use to them. Use it in one thread at a time: it changes
    the main module of the whole process.
    """
    main = sys.modules["__main__"]
    before = main.__spec__
    main.__spec__ = find_spec(__name__)
    try:
        yield
    finally:
        main.__spec__ = before


if __name__ == "__mp_main__":
    with lasting_imports():
        import vllm.v1.engine.core  # noqa: F401
