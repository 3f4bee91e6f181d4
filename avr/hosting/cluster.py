"""Connect to Ray: to the cluster a job was submitted to, or to one it starts on this machine."""

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
    """Signal that the cluster lacks devices: they are not there, or not free."""


def connect(settings: dict[str, Any], plan: Sequence[StepPlan], log: Path) -> None:
    """Join the cluster that RAY_ADDRESS names (as in a submitted job), or start one here.

    `settings` go to `ray.init` of a cluster of our own. The output of Ray's native code goes to
    `log`. Raises ClusterError where our own cluster is too small for the plan; a foreign cluster
    may still grow: see `place`.
    """
    # A program that calls this may have its own connection.
    if ray.is_initialized():
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    _divert_native_stderr(log)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    own = "RAY_ADDRESS" not in os.environ
    if own:
        # The address is "local", or Ray would join the cluster that was started last on this
        # machine. The processes of a cluster run what they are sent; Ray therefore demands a token.
        # This token lives as long as the job; Ray would keep one of its own in ~/.ray.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # An engine must not outlive the actor that started it. (The image sets this for clusters.)
        os.environ.setdefault("RAY_process_group_cleanup_enabled", "1")
        if "_node_ip_address" not in settings:
            _listen_to_this_machine_only()
        # Ray would start one idle worker for each logical CPU ahead of need, at seconds of CPU
        # each. It would also warn of more workers than cores, as a laptop has more logical CPUs
        # than cores.
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
        CONSOLE.print(
            f"  too few devices now ({problem}); the step will wait for the cluster to grow",
            markup=False,
        )


def nodes_there() -> list[NodeType]:
    """Return the nodes of the cluster that are alive, each as a type of its own."""
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
    """Wait until there is room for the step, all at the same time, and return.

    All of it is asked for in one go: a cluster that grows then adds its nodes together, and engines
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
            # A second at a time: signals are not seen inside `wait`.
            while not room.wait(1):
                now = time.monotonic()
                if now > deadline:
                    raise ClusterError(
                        f"no room after {timeout_s:.0f} s (placement_timeout_s): {missing(step)}; "
                        "the same command continues"
                    )
                if now > word:
                    say(f"waiting for devices ({missing(step)})")
                    word = now + SAY_EVERY_S
        finally:
            # Engines are not started inside this group: it only shows that there is room.
            remove_placement_group(room)


def missing(step: StepPlan) -> str:
    """Say which role has no place on the nodes there are, or on what is free of them."""
    nodes = nodes_there()
    there = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    problem = misfit(step, nodes)
    if problem is not None:
        return f"{problem}; the cluster has {there} now"
    free = available_resources_per_node()
    left = [
        NodeType(f"node {node[:8]}", 1, devices.get("CPU", 0.0), devices.get("GPU", 0.0))
        for node, devices in free.items()
    ]
    problem = misfit(step, left) or f"step {step.step} is about to be placed"
    return f"{problem}; this counts only what is free on {there}"


def _listen_to_this_machine_only() -> None:
    """Turn on Ray's switch for laptops, with which it takes the loopback's address for its own.

    The variable is read when Ray is imported. This process has imported it already; its workers
    have not.
    """
    os.environ.setdefault(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, "0")
    ray_constants.ENABLE_RAY_CLUSTER = False


def _divert_native_stderr(log: Path) -> None:
    """Send what native code writes to stderr into a file; Python keeps its stderr."""
    # Descriptor 2 is no longer Python's stderr: it was diverted before, or somebody replaced it.
    if sys.stderr.fileno() != 2:
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    with log.open("a") as file:
        os.dup2(file.fileno(), 2)
