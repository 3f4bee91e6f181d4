"""The short version of `make chaos`: a growth and a search under fire, whole at the end."""

import subprocess
import sys

import pytest
from chaos import NUM_QUERIES, NUM_TREES, Nodes, chaos

pytestmark = [pytest.mark.integration, pytest.mark.long]
WITNESSES = """
import ray
from avr.hosting.witness import witness_beside_driver
ray.init(log_to_driver=False)
here = ray.get_runtime_context().get_node_id()
witnesses = [witness_beside_driver() for _ in range(8)]
ray.get([witness.report.remote() for witness in witnesses])
where = [ray._private.state.actors(w._actor_id.hex())["Address"]["NodeID"] for w in witnesses]
print(len(ray.nodes()), where == [here] * 8)
"""


def test_what_is_left_after_random_kills_is_what_no_kill_would_have_left(tmp_path):
    report = chaos(num_kills=8, seed=0, folder=tmp_path, kills_per_run=4)
    assert sum(report["kills"].values()) == 8
    assert report["compared"]["trees"] >= NUM_TREES + NUM_QUERIES  # one run of each at least
    assert report["gave_up"] == []  # only those that were killed were started again


def test_a_witness_is_on_the_node_of_its_driver_whatever_nodes_there_are(short_folder):
    with Nodes(short_folder) as nodes:
        environment = {**nodes.environment, "RAY_ADDRESS": nodes.address}
        command = [sys.executable, "-c", WITNESSES]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["3", "True"], done.stderr[-2000:]
