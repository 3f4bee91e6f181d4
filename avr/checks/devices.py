"""Check GPUs: compare what NVML and torch see on each machine with what Ray promises."""

from collections.abc import Mapping, Sequence
from typing import Any

import ray

from avr.checks.faults import gpu_faults
from avr.checks.machines import ANSWER_S, Machine, at
from avr.checks.nvml import holders_by_uuid
from avr.checks.outcome import CheckFailed, Finding, cause


# The process ends after one call, and frees what it held of the GPUs.
@ray.remote(num_gpus=1, max_calls=1)
def look() -> dict[str, Any]:
    """Report the GPUs that a process sees to which Ray has given all GPUs of this machine."""
    # Asked before torch starts: from then on this process is among those that hold memory.
    before = holders_by_uuid()
    return {**before, **_seen_by_torch()}


def _seen_by_torch() -> dict[str, Any]:
    import torch

    seen: dict[str, Any] = {"torch_cuda": torch.version.cuda, "torch": "", "gpus": []}
    try:
        torch.cuda.init()
    except Exception as error:  # "driver too old", "no NVIDIA driver", a build without CUDA
        seen["torch"] = str(error).strip().splitlines()[0]
        return seen
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        wrong = _computes(torch, index)
        free, total = torch.cuda.mem_get_info(index)
        seen["gpus"].append(
            {
                "name": properties.name,
                "uuid": str(properties.uuid),
                "capability": [properties.major, properties.minor],
                "free_gib": round(free / 2**30, 1),
                "total_gib": round(total / 2**30, 1),
                "wrong": wrong,
            }
        )
    return seen


def _computes(torch: Any, index: int) -> str:
    """Say why a product of matrices in bfloat16 is wrong on this GPU, or return ""."""
    try:
        ones = torch.ones(256, 256, dtype=torch.bfloat16, device=f"cuda:{index}")
        product = (ones @ ones).float()
        wrong = int((product != 256).sum().item())
        return f"{wrong} of {product.numel()} numbers of a product are wrong" if wrong else ""
    except Exception as error:  # ECC, "no kernel image", out of memory
        return str(error).strip().splitlines()[0]


def check_devices(found: Sequence[Machine], free_memory: float) -> Finding:
    """Check that Ray, torch and NVML agree on each machine's GPUs, which are free and able.

    Each GPU must also compute a product of matrices rightly.
    """
    there = [machine for machine in found if machine.gpus >= 1]
    if not there:
        raise CheckFailed("no machine has a GPU")
    asked = {
        machine: look.options(
            num_cpus=0, num_gpus=int(machine.gpus), max_retries=0, scheduling_strategy=at(machine)
        ).remote()
        for machine in there
    }
    facts: dict[str, Any] = {}
    problems = []
    for machine, answer in asked.items():
        try:
            facts[machine.name] = ray.get(answer, timeout=ANSWER_S)
        except ray.exceptions.GetTimeoutError:
            # Without this it would take the GPUs in the middle of a later check.
            ray.cancel(answer, force=True)
            problems.append(
                f"{machine.name}: its {machine.gpus:g} GPUs were not free for {ANSWER_S:.0f} s"
            )
        except Exception as error:
            problems.append(f"{machine.name}: {cause(error)}")
        else:
            wrong = gpu_faults(facts[machine.name], int(machine.gpus), free_memory)
            problems += [f"{machine.name}: {words}" for words in wrong]
    if problems:
        raise CheckFailed("; ".join(problems), facts)
    return Finding(_words(facts), facts)


def _words(facts: Mapping[str, Any]) -> str:
    names: dict[str, int] = {}
    for one in facts.values():
        for gpu in one["gpus"]:
            names[gpu["name"]] = names.get(gpu["name"], 0) + 1
    first = next(iter(facts.values()))
    gpus = ", ".join(f"{count} x {name}" for name, count in names.items())
    return (
        f"{gpus}, driver {first['driver']} for CUDA {first['driver_cuda']}, "
        f"torch for CUDA {first['torch_cuda']}"
    )
