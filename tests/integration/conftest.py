"""One Ray cluster for all integration tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ray_cluster():
    """Eight logical CPUs here, whatever the machine has; workers import checkout and scripts."""
    # On a busy machine the node processes need longer than the default 30 s.
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")
    import ray

    here = Path(__file__).parent
    ray.init(
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": f"{here.parents[1]}:{here}"}},
    )
    yield ray
    ray.shutdown()
