"""The imports of vLLM and its like, of which a start mostly consists, without looking for garbage.

They make a million objects that stay. Python goes through those that are there again and again
while it imports, and vLLM has it do so several times in a start: a third of the start of an engine
(benchmarks/README.md). vLLM's process that computes is spawned, in a Ray actor and on a CPU, so it
imports everything for itself. What it runs first is this module, as Python has a spawned process
run the main module of the process that spawns it.
"""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Inside, Python does not look for garbage, nor later among what is there at the end.

    So it is for imports, once in a process: garbage that is there stays, until the process ends.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # or libraries take for leaks what is left alone
        if was_on:
            gc.enable()


@contextmanager
def spawning_here() -> Iterator[None]:
    """Processes that are spawned inside run this module first, in the place of the main one.

    The main module of a Ray worker is of no use to them. One thread at a time: it is the process
    whose main module passes for this one.
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
