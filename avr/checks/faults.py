"""Find faults in the facts that machines report: versions, hosts, GPUs. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from avr.checks.settings import HostLimits

# bfloat16 and FlashAttention need tensor cores of this compute capability (A100, L4, H100).
LEAST_CAPABILITY = (8, 0)


def version_faults(answers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List the packages, and Pythons, that are not the same on all machines."""
    own = {name: {"python": a["python"], **a["packages"]} for name, a in answers.items()}
    first, *others = own
    problems = []
    for other in others:
        for package in sorted(own[first].keys() | own[other].keys()):
            here, there = own[first].get(package, "none"), own[other].get(package, "none")
            if here != there:
                problems.append(f"{package} is {here} on {first} and {there} on {other}")
    return problems


def host_faults(facts: Mapping[str, Any], limits: HostLimits, *, works: bool) -> list[str]:
    """List what a machine lacks, one phrase each; only one that `works` needs room and speed."""
    if not facts["marker"]:
        return [
            "run_dir is not shared: what the driver wrote there is not seen here; use a folder that"
            " every machine mounts, or an object store"
        ]
    if not works:
        return []
    lacks = []
    for name, what, unit in (
        ("run_dir_gib", "run_dir has", "GiB free"),
        ("temporary_gib", f"{facts['temporary']} (TMPDIR) has", "GiB free"),
        ("write_mib_per_s", "run_dir takes", "MiB/s"),
        ("open_files", "a process may open", "files (ulimit -n)"),
        ("shared_memory_gib", "/dev/shm has", "GiB (docker: --shm-size, Kubernetes: emptyDir)"),
    ):
        least = getattr(limits, name)
        if facts[name] is not None and facts[name] < least:
            lacks.append(f"{what} {facts[name]:g} {unit}, limits.{name} is {least:g}")
    return lacks


def gpu_faults(facts: Mapping[str, Any], promised: int, free_memory: float) -> list[str]:
    """List what is wrong with the GPUs of one machine, one phrase each."""
    gpus = facts["gpus"]
    if len(gpus) != promised:
        why = facts["torch"] or facts["nvml"]
        return [f"Ray promises {promised} GPUs, torch sees {len(gpus)}{f' ({why})' if why else ''}"]
    found = [f"NVML cannot be asked: {facts['nvml']}"] if facts["nvml"] else []
    for index, gpu in enumerate(gpus):
        name = f"GPU {index} ({gpu['name']})"
        if gpu["wrong"]:
            found.append(f"{name}: {gpu['wrong']}")
        if tuple(gpu["capability"]) < LEAST_CAPABILITY:
            has, least = (".".join(map(str, c)) for c in (gpu["capability"], LEAST_CAPABILITY))
            found.append(
                f"{name} has compute capability {has}: bfloat16 and FlashAttention need {least}"
            )
        if gpu["free_gib"] < free_memory * gpu["total_gib"]:
            holders = _holders(facts["holders"].get(gpu["uuid"], []))
            room = f"{gpu['free_gib']:g} of {gpu['total_gib']:g} GiB are free"
            found.append(f"{name}: {room}; the rest is held by {holders}")
    return found


def _holders(holders: Sequence[Mapping[str, Any]]) -> str:
    """Name the processes that hold memory of a GPU.

    Processes of other containers have no names here, or are not seen.
    """
    if not holders:
        return "processes that are not seen from here (another container, or the host)"
    return ", ".join(f"{h['name']} (process {h['pid']}, {h['gib']} GiB)" for h in holders)
