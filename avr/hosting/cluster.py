"""The Ray cluster a job runs on: the one it was submitted to, or one it starts on this machine."""

import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray._private.state import available_resources_per_node
from ray.util.placement_group import placement_group, remove_placement_group

from avr.plan.fit import NodeType, misfit, misfits
from avr.plan.resources import StepPlan
from avr.terminal import CONSOLE

FIRST_WORD_S = 20.0
SAY_EVERY_S = 60.0


class ClusterError(RuntimeError):
    """Devices that are not there, or not free."""


def connect(settings: dict[str, Any], plan: Sequence[StepPlan], log: Path) -> None:
    """Join the cluster named by RAY_ADDRESS (as in a submitted job), or start one right here.

    `settings` go to `ray.init` of a cluster of our own; what Ray's native code has to say goes to
    `log`. Raises ClusterError where that one is too small for the plan; a foreign cluster may
    still grow: see `place`.
    """
    if ray.is_initialized():  # called from a program that has its own connection
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    _divert_native_stderr(log)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    own = "RAY_ADDRESS" not in os.environ
    if own:
        # "local", or Ray would join whatever cluster was started on this machine last. A cluster's
        # processes run what they are sent; Ray therefore demands a token. This one lives as long as
        # the job; Ray's own would be kept in ~/.ray.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # As the image has it for clusters: an engine must not outlive the actor that started it.
        os.environ.setdefault("RAY_process_group_cleanup_enabled", "1")
        if "_node_ip_address" not in settings:
            _listen_to_this_machine_only()
        # Ray would start an idle worker per logical CPU ahead of need, at seconds of CPU each, and
        # warn of more workers than cores: logical CPUs of a laptop are more than its cores.
        system = {
            "prestart_worker_first_driver": False,
            "worker_maximum_startup_concurrency": int(settings.get("num_cpus", 0)) or None,
        }
        system = {key: value for key, value in system.items() if value is not None}
        here = {"address": "local", "include_dashboard": False, "_system_config": system}
        quiet |= {**here, **settings}
    ray.init(**quiet)
    problems = misfits(plan, nodes_there())
    if problems and own:
        raise ClusterError(problems[0])
    for problem in problems:
        CONSOLE.print(f"  the cluster has to grow: {problem}", markup=False)


def nodes_there() -> list[NodeType]:
    """The nodes of the cluster that are alive, each as a type of its own."""
    return [
        NodeType(
            f"node {node['NodeID'][:8]}",
            1,
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def place(step: StepPlan, timeout_s: float, say: Callable[[str], None]) -> None:
    """Return once there is room, at the same time, for all that the step has to have at once.

    All of it is asked for in one go, so a cluster that grows adds its nodes together, and engines
    of the step before that are still ending are waited for. `say` is told every minute what is
    missing. The room is free again on return, for the engines to take. Raises ClusterError after
    `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    for group in step.groups():
        demands = [
            {"CPU": pool.cpus, "GPU": pool.gpus} for pool in group for _ in range(pool.min_replicas)
        ]
        bundles = [{key: n for key, n in demand.items() if n} for demand in demands]
        room = placement_group([bundle for bundle in bundles if bundle], strategy="PACK")
        try:
            word = time.monotonic() + FIRST_WORD_S
            while not room.wait(1):  # a second at a time: signals are not seen inside
                now = time.monotonic()
                if now > deadline:
                    raise ClusterError(f"waited {timeout_s:.0f} s in vain: {missing(step)}")
                if now > word:
                    say(f"waiting: {missing(step)}")
                    word = now + SAY_EVERY_S
        finally:
            remove_placement_group(room)


def missing(step: StepPlan) -> str:
    """Which role has no place on the nodes there are, or on what is free of them."""
    nodes = nodes_there()
    there = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    problem = misfit(step, nodes)
    if problem is not None:
        return f"{problem}. The cluster has {there} now"
    free = available_resources_per_node()
    left = [
        NodeType(f"node {node[:8]}", 1, devices.get("CPU", 0.0), devices.get("GPU", 0.0))
        for node, devices in free.items()
    ]
    problem = misfit(step, left) or f"step {step.step} is about to be placed"
    return f"{problem}, counting what is free on {there}"


def _listen_to_this_machine_only() -> None:
    """Ray's switch for laptops, where it takes the loopback's address for its own.

    The variable is read when Ray is imported: here that was before, in its workers it will be.
    """
    os.environ.setdefault(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, "0")
    ray_constants.ENABLE_RAY_CLUSTER = False


def _divert_native_stderr(log: Path) -> None:
    """Python keeps its stderr; the file descriptor that native code writes to becomes a file."""
    if sys.stderr.fileno() != 2:
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    with log.open("a") as file:
        os.dup2(file.fileno(), 2)
