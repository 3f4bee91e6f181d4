"""Ask NVML about the GPUs of this machine: the driver, and which processes hold memory."""

from contextlib import suppress
from typing import Any

import psutil


def holders_by_uuid() -> dict[str, Any]:
    """Read the driver, its CUDA version, and the processes on each GPU with their memory in GiB.

    GPUs are named by UUID, as torch counts only the GPUs that a process is given. `nvml` is "", or
    the reason why nothing can be read.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
        return _read(pynvml)
    except Exception as error:  # no package, no driver, no right to ask, a GPU that is lost
        return {"nvml": f"{type(error).__name__}: {error}", "driver": None, "holders": {}}


def _read(pynvml: Any) -> dict[str, Any]:
    holders = {}
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid = _text(pynvml.nvmlDeviceGetUUID(handle)).removeprefix("GPU-")
        holders[uuid] = [
            {"pid": one.pid, "name": _name_of(one.pid), "gib": _gib(one.usedGpuMemory)}
            for one in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        ]
    cuda = pynvml.nvmlSystemGetCudaDriverVersion()
    return {
        "nvml": "",
        "driver": _text(pynvml.nvmlSystemGetDriverVersion()),
        "driver_cuda": f"{cuda // 1000}.{cuda % 1000 // 10}",
        "holders": holders,
    }


def _gib(size: int | None) -> float | None:
    return None if size is None else round(size / 2**30, 1)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _name_of(pid: int) -> str:
    with suppress(psutil.Error):
        return str(psutil.Process(pid).name())
    return "unknown"
