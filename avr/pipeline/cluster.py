"""The Ray cluster a job runs on: the one it was submitted to, or one it starts on this machine."""

import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from avr.pipeline.plan import StepPlan
from avr.pipeline.progress import CONSOLE

RELEASE_TIMEOUT_S = 120.0


class ClusterError(RuntimeError):
    """Devices that are not there, or not free."""


def connect(settings: dict[str, Any], plan: Sequence[StepPlan], log: Path) -> None:
    """Join the cluster named by RAY_ADDRESS (as in a submitted job), or start one right here.

    `settings` go to `ray.init` of a cluster of our own; what Ray's native code has to say goes to
    `log`. Raises ClusterError where that one is too
    small for the plan; a foreign cluster may still grow, so there it is only said.
    """
    if ray.is_initialized():  # called from a program that has its own connection
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    _divert_native_stderr(log)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    own = "RAY_ADDRESS" not in os.environ
    if own:
        # The token that Ray 2.60 wants by default protects a cluster that others can reach; this
        # one listens on this machine and ends with the job.
        # Ray would start an idle worker per logical CPU ahead of need, at seconds of CPU each, and
        # warn of more workers than cores: logical CPUs of a laptop are more than its cores.
        system = {
            "prestart_worker_first_driver": False,
            "worker_maximum_startup_concurrency": int(settings.get("num_cpus", 0)) or None,
        }
        system = {key: value for key, value in system.items() if value is not None}
        quiet |= {"include_dashboard": False, "_system_config": system, **settings}
    ray.init(**quiet)
    there = ray.cluster_resources()
    for step in plan:
        shortfall = step.shortfall(there.get("CPU", 0), there.get("GPU", 0))
        if shortfall and own:
            raise ClusterError(shortfall)
        if shortfall:
            CONSOLE.print(f"  waiting for the cluster to grow: {shortfall}")


def _divert_native_stderr(log: Path) -> None:
    """Python keeps its stderr; the file descriptor that native code writes to becomes a file."""
    if sys.stderr.fileno() != 2:
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    with log.open("a") as file:
        os.dup2(file.fileno(), 2)


def wait_until_free(step: StepPlan) -> None:
    """Return once the devices of a step are free; engines of the step before may still be ending.

    Raises ClusterError after two minutes, saying what is held.
    """
    deadline = time.monotonic() + RELEASE_TIMEOUT_S
    while True:
        free, there = ray.available_resources(), ray.cluster_resources()
        shortfall = step.shortfall(free.get("CPU", 0), free.get("GPU", 0))
        if shortfall is None or step.shortfall(there.get("CPU", 0), there.get("GPU", 0)):
            return
        if time.monotonic() > deadline:
            raise ClusterError(
                f"devices are still held after {RELEASE_TIMEOUT_S:.0f} s: {shortfall}"
            )
        time.sleep(0.5)
