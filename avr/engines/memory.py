"""Wait until devices have the memory that an engine is going to ask for.

An engine that was killed frees its device some time after its process is gone from every list, and
vLLM does not wait: it refuses to start.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

FREED_IN_S = 60.0


class Device(NamedTuple):
    """Describe a device and its memory in bytes."""

    name: str
    free: int
    total: int


def wait_for_memory(
    share: float,
    read: Callable[[], list[Device]],
    say: Callable[[str], None],
    timeout_s: float = FREED_IN_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until each device that `read` gives has `share` of its memory free, or until a timeout.

    Returns whether they have. `share` is vLLM's `gpu_memory_utilization`. After `timeout_s` seconds
    it is for vLLM to refuse: its own count of free bytes is a little different.
    """
    until, said = clock() + timeout_s, False
    while short := [device for device in read() if device.free < share * device.total]:
        words = ", ".join(
            f"{d.name} has {d.free / 2**30:.1f} of {d.total / 2**30:.1f} GiB free" for d in short
        )
        if clock() >= until:
            say(f"{words}, an engine asks for {share:.0%}; starting it all the same")
            return False
        if not said:
            say(f"{words}, an engine asks for {share:.0%}; waiting up to {timeout_s:.0f} s")
            said = True
        sleep(1.0)
    return True


def visible_gpus() -> list[Device]:
    """Read the memory of the GPUs that this process may use, without taking a byte of it.

    It asks NVML: CUDA's own way, `mem_get_info`, takes half a gigabyte for a context. On a node
    with different GPUs, NVML's numbers are CUDA's only where CUDA_DEVICE_ORDER is PCI_BUS_ID.
    """
    import pynvml

    pynvml.nvmlInit()
    try:
        return list(_devices(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES")))
    finally:
        pynvml.nvmlShutdown()


def _devices(nvml: Any, visible: str | None) -> Iterator[Device]:
    if visible is None:
        visible = ",".join(map(str, range(nvml.nvmlDeviceGetCount())))
    for name in filter(None, map(str.strip, visible.split(","))):
        handle = (
            nvml.nvmlDeviceGetHandleByIndex(int(name))
            if name.isdigit()
            else nvml.nvmlDeviceGetHandleByUUID(name)
        )
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        yield Device(f"GPU {name}", int(memory.free), int(memory.total))
