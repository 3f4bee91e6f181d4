"""Wait for the processes of engines to end, before others can have their devices."""

import gc
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from avr.hosting.witness import Report

RELEASE_TIMEOUT_S = 120.0
_ASK_TIMEOUT_S = 30.0
# A clock that is set may put the beginning of a process later by so much.
_CLOCK_STEP_S = 2.0


class ReleaseError(RuntimeError):
    """Signal processes that did not end; they hold devices."""


def wait_until_released(report: Report, timeout_s: float = RELEASE_TIMEOUT_S) -> None:
    """Return once every process of every engine in the report has ended.

    Only then are their devices free, whatever Ray counts. Raises ReleaseError after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    on_node: defaultdict[str, dict[int, float]] = defaultdict(dict)
    role_of: dict[tuple[str, int], str] = {}
    for host, (role, children) in report.processes.items():
        for pid in (host[1], *children):
            on_node[host[0]][pid] = report.told[host]
            role_of[host[0], pid] = role
    for node, told in on_node.items():
        while left := _running_on(node, told):
            # Ray Data ends its actors by dropping the last references to them. These are in
            # circles, which only the garbage collector frees.
            gc.collect()
            if time.monotonic() > deadline:
                raise ReleaseError(
                    f"processes {left} of the {role_of[node, left[0]]}'s engine still run on "
                    f"node {node[:8]} (their step ended {timeout_s:.0f} s ago) and may hold a "
                    "device; end them there"
                )
            time.sleep(0.5)


def wait_for_orphans(witness: Any, node: str, timeout_s: float = RELEASE_TIMEOUT_S) -> None:
    """Wait until no engine of a killed host runs on this node any more, or until `timeout_s`.

    Ray ends such engines, but at the same time starts the replacement, on the same device.
    """
    try:
        hosts = ray.get(witness.hosts_on.remote(node), timeout=_ASK_TIMEOUT_S)
    except ray.exceptions.RayError:
        # There is no witness left: its job is over.
        return
    alive = running({pid: told for pid, _, told in hosts})
    orphans = {
        child: told for pid, children, told in hosts if pid not in alive for child in children
    }
    deadline = time.monotonic() + timeout_s
    while (left := running(orphans)) and time.monotonic() < deadline:
        print(f"processes {left} of a killed engine still run; waiting for their end", flush=True)
        time.sleep(0.5)


def running(told: Mapping[int, float]) -> list[int]:
    """Return the processes of this node that still run, of those in `told`.

    `told` maps each process id to a time at which its process was there. Ids come again: a process
    that began later is another one.
    """

    def runs(pid: int, there: float) -> bool:
        try:
            process = psutil.Process(pid)
            began, status = process.create_time(), process.status()
        except psutil.NoSuchProcess:
            return False
        return bool(status != psutil.STATUS_ZOMBIE and began < there + _CLOCK_STEP_S)

    return [pid for pid, there in told.items() if runs(pid, there)]


def without_engine(report: Report, roles: Sequence[str]) -> list[str]:
    """Return the roles that have no started engine on any node that is there."""
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    serving = {role for (node, _), role in report.serving.items() if node in alive}
    return [role for role in roles if role not in serving]


def last_words(report: Report, role: str) -> str:
    """Return the last words of a role's engines: why one did not start, or the end of a log."""
    failed = [cause for failed, cause in report.failures if failed == role]
    if failed:
        return failed[-1]
    hosts = [host for host, (hosted, _) in report.processes.items() if hosted == role]
    starting = [host for host in hosts if host not in report.gone | report.serving.keys()]
    if not starting:
        return "none of its processes has started on any node"
    node, log = starting[-1][0], report.logs[starting[-1]]
    words = _there(_last_line, node, log) or "its log is empty, or its node is gone"
    return f"{words} (log: {log})"


def _running_on(node: str, told: Mapping[int, float]) -> list[int]:
    """Return the processes in `told` that run on a node; on a node that is gone none does."""
    if node not in {n["NodeID"] for n in ray.nodes() if n["Alive"]}:
        return []
    answer: list[int] | None = _there(running, node, told)
    # A node that is about to go does not answer: until it is gone its processes count as running.
    return list(told) if answer is None else answer


def _there(function: Any, node: str, *arguments: Any) -> Any:
    """Return the result of a function on a node, None where the node does not answer."""
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(function).options(num_cpus=0, scheduling_strategy=here)
    try:
        return ray.get(task.remote(*arguments), timeout=_ASK_TIMEOUT_S)
    except ray.exceptions.RayError:
        return None


def _last_line(log: str) -> str:
    lines = Path(log).read_text(errors="replace")[-20_000:].split("\n")
    said = [line.rpartition("\r")[2].strip() for line in lines]
    return next((line[:300] for line in reversed(said) if line), "")
