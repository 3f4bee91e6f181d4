"""Tell the driver what happens in the workers: how far each operator is, and what died."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@dataclass
class Report:
    """Hold the trees advanced by operator, and the engine deaths by role with their causes.

    `num_tokens` counts the tokens that all engines have generated.

    `failures` are (role, cause) of engines that did not start, `ready` the roles that ever had a
    started engine. Hosts are named by (node id, process id). `processes` maps each host to its role
    and the processes of its engine. `gone` are the hosts whose engine died or did not start.
    `serving` maps hosts whose engine has started to their role. `logs` maps each host to its log on
    its node, and `told` to the second of its clock at which its processes were last told.
    """

    advanced: Counter[str] = field(default_factory=Counter)
    num_tokens: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    causes: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    ready: set[str] = field(default_factory=set)
    processes: dict[tuple[str, int], tuple[str, list[int]]] = field(default_factory=dict)
    gone: set[tuple[str, int]] = field(default_factory=set)
    serving: dict[tuple[str, int], str] = field(default_factory=dict)
    logs: dict[tuple[str, int], str] = field(default_factory=dict)
    told: dict[tuple[str, int], float] = field(default_factory=dict)


@ray.remote(num_cpus=0)
class Witness:
    """Collect what every operator reports, in a small actor that the driver asks."""

    def __init__(self, deaths: Counter[str], ready: frozenset[str]):
        self._report = Report(deaths=Counter(deaths), ready=set(ready))
        self._starting: Counter[str] = Counter()

    def advanced(self, operator: str, num_trees: int) -> None:
        """Count trees that left an operator."""
        self._report.advanced[operator] += num_trees

    def generated(self, num_tokens: int) -> None:
        """Count tokens that an engine has generated."""
        self._report.num_tokens += num_tokens

    def died(self, role: str, cause: str, host: tuple[str, int]) -> int:
        """Note the death of an engine; return how many engines of the role have died so far."""
        self._report.deaths[role] += 1
        self._report.causes.append(f"{role}: {cause}")
        self._lost(host)
        return self._report.deaths[role]

    def starts(self, role: str) -> str:
        """Note an engine that is about to start; return the reason why it should not, or "".

        It should not where two engines of its role have failed, none ever started, and no other one
        is about to.
        """
        causes = [cause for failed, cause in self._report.failures if failed == role]
        if len(causes) > 1 and role not in self._report.ready and not self._starting[role]:
            return causes[0]
        self._starting[role] += 1
        return ""

    def ready(self, role: str, host: tuple[str, int]) -> None:
        """Note an engine that has started."""
        self._starting[role] -= 1
        self._report.ready.add(role)
        self._report.serving[host] = role

    def failed(self, role: str, cause: str, host: tuple[str, int]) -> None:
        """Note an engine that did not start."""
        self._starting[role] -= 1
        self._report.failures.append((role, cause))
        self._lost(host)

    def _lost(self, host: tuple[str, int]) -> None:
        self._report.gone.add(host)
        self._report.serving.pop(host, None)

    def hosted(
        self, node: str, pid: int, role: str, children: list[int], log: str, now: float
    ) -> None:
        """Note a process that hosts an engine, and the processes its engine has started by now."""
        self._report.processes[node, pid] = (role, children)
        self._report.logs[node, pid], self._report.told[node, pid] = log, now
        # Process ids come again: this may be the id of a host that is gone.
        self._report.gone.discard((node, pid))

    def hosts_on(self, node: str) -> list[tuple[int, list[int], float]]:
        """Return each host of a node: its process, its engine's processes, and when it told them.

        Hosts whose engine is gone are among them.
        """
        report = self._report
        return [
            (pid, children, report.told[there, pid])
            for (there, pid), (_, children) in report.processes.items()
            if there == node
        ]

    def report(self) -> Report:
        """Return all that was told."""
        return self._report


def witness_beside_driver(
    deaths: Mapping[str, int] = MappingProxyType({}), ready: frozenset[str] = frozenset()
) -> Any:
    """Start a witness on the driver's node: a preempted worker node must not take it along.

    `deaths` of engines, by role, have been seen before, and engines of the roles in `ready`. The
    affinity is hard: with a soft one Ray puts an actor that needs no devices on any node.
    """
    # `Any`, because the decorator has made something else of the class.
    actor: Any = Witness
    placed = actor.options(scheduling_strategy=on_this_node())
    return placed.remote(Counter(deaths), ready)


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Return the strategy that places an actor on this process's node and on no other."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def told(witness: Any) -> Report:
    """Return what the witness knows; an empty report where it is gone.

    That it is gone must not hide or fail anything.
    """
    try:
        report: Report = ray.get(witness.report.remote(), timeout=30)
    except ray.exceptions.RayError:
        return Report()
    return report


class Tally:
    """Count trees in a worker, and tell the witness at most twice a second."""

    def __init__(self, witness: "ray.actor.ActorHandle", operator: str):
        self._witness = witness
        self._operator = operator
        self._count = 0

    def add(self) -> None:
        """Count one more tree that is through; call it in an event loop."""
        # One message for all trees of half a second: the witness is one small actor for all.
        if not self._count:
            asyncio.get_running_loop().call_later(0.5, self.flush)
        self._count += 1

    def flush(self) -> None:
        """Tell the witness the count that it was not told yet."""
        count, self._count = self._count, 0
        if count:
            self._witness.advanced.remote(self._operator, count)
