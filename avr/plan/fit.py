"""Check whether a plan can be placed on a cluster at all: replicas into nodes, not sums. Pure.

A tensor-parallel engine takes its GPUs from one node, so 2 GPUs on 2 nodes are none for it. Sums
over the cluster cannot see that, and Ray waits for such a replica for ever.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from avr.plan.resources import Pool, StepPlan

# Ray counts devices in ten-thousandths.
_RESOLUTION = 1e-4


@dataclass(frozen=True, slots=True)
class NodeType:
    """Describe nodes that are alike: at most `count`, each with so many CPUs and GPUs to give.

    In a cluster that runs, every node is a type with a count of 1. `gpu_gib` is the memory of one
    of its GPUs, None where nobody knows.
    """

    name: str
    count: int
    cpus: float
    gpus: float = 0.0
    gpu_gib: float | None = None


class _Room:
    """Keep the devices left on one node; a share of a GPU comes from one GPU, not from a sum."""

    def __init__(self, node: NodeType):
        self._cpus = node.cpus
        # Ray says how much of a node's GPUs is free, not of which: the part is taken for one GPU's.
        part = node.gpus % 1
        self._gpus = [1.0] * int(node.gpus) + ([part] if part > _RESOLUTION else [])

    def take(self, pool: Pool) -> bool:
        """Place one replica here, if it fits."""
        whole, share = divmod(pool.gpus, 1)
        share = share if share > _RESOLUTION else 0.0
        untouched = [gpu for gpu in self._gpus if gpu > 1 - _RESOLUTION]
        if pool.cpus > self._cpus + _RESOLUTION or whole > len(untouched):
            return False
        left = sorted(self._gpus)[: len(self._gpus) - int(whole)]
        if share:
            at = next((i for i, gpu in enumerate(left) if gpu > share - _RESOLUTION), None)
            if at is None:
                return False
            left[at] -= share
        self._cpus -= pool.cpus
        self._gpus = left
        return True


def misfits(plan: Iterable[StepPlan], nodes: Sequence[NodeType]) -> list[str]:
    """Return a sentence for each step that cannot be placed even if all possible nodes exist."""
    return [words for step in plan if (words := misfit(step, nodes)) is not None]


def misfit(step: StepPlan, nodes: Sequence[NodeType]) -> str | None:
    """Say which roles of a step have no place, and what they lack; None where all have one.

    The least number of replicas is placed first-fit-decreasing: the largest replica first, into the
    smallest node that still holds it. Ray's autoscaler packs greedily as well. Where GPU counts
    divide each other (1, 2, 4, 8, and shares of one like a half and a quarter) and CPUs are to
    spare, no other order finds room if this one finds none; elsewhere one may.
    """
    for group in step.groups():
        problems = _unplaced(group, nodes)
        if problems:
            one_by_one = replace(step, together=False, waves=False)
            hint = ""
            if step.waves and misfit(one_by_one, nodes) is None:
                hint = "; growth.placement=waves runs the pools one after the other"
            return f"step {step.step} cannot be placed: {'; '.join(problems)}{hint}"
    return None


def _unplaced(group: Sequence[Pool], nodes: Sequence[NodeType]) -> list[str]:
    """Return one phrase for each role that is not placed in full."""
    small_first = sorted(nodes, key=lambda node: (node.gpus, node.cpus))
    rooms = [_Room(node) for node in small_first for _ in range(node.count)]
    problems = []
    for pool in sorted(group, key=lambda pool: (pool.gpus, pool.cpus), reverse=True):
        placed = 0
        while placed < pool.min_replicas and any(room.take(pool) for room in rooms):
            placed += 1
        if placed < pool.min_replicas:
            problems.append(_lack(pool, placed, nodes))
    return problems


def _lack(pool: Pool, placed: int, nodes: Sequence[NodeType]) -> str:
    """Say, for a role, what one replica needs and what the cluster has."""
    usable = [node for node in nodes if node.count]
    need = f"{pool.name} needs {_devices(pool.cpus, pool.gpus)} on one node"
    if not any(node.cpus >= pool.cpus and node.gpus >= pool.gpus for node in usable):
        largest = max(usable, key=lambda node: (node.gpus, node.cpus), default=None)
        if largest is None:
            return f"{need}, but the cluster has no node"
        have = f"{_devices(largest.cpus, largest.gpus)} ({largest.name})"
        return f"{need}, but the largest node has {have}"
    cpus = sum(node.count * node.cpus for node in usable)
    gpus = sum(node.count * node.gpus for node in usable)
    return (
        f"{need}, {pool.min_replicas} times, but only {placed} fit beside the larger pools "
        f"(in all {_devices(cpus, gpus)} on {sum(node.count for node in usable)} nodes)"
    )


def _devices(cpus: float, gpus: float) -> str:
    words = [f"{n:g} {unit}{'' if n == 1 else 's'}" for n, unit in ((gpus, "GPU"), (cpus, "CPU"))]
    return " and ".join(words if gpus else words[1:])
