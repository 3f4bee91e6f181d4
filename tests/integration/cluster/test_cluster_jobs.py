"""Jobs submitted to a cluster that grows and shrinks: real Ray, fake machines, scripted engines.

The nodes are processes of this machine that Ray's autoscaler starts and ends as it would rent and
return machines. Requests need a token, as they should anywhere.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from scripted_growth import grown_in, undisturbed

from avr.data.tables import read_ids

pytestmark = [pytest.mark.integration, pytest.mark.long]
RAY = str(Path(sys.executable).with_name("ray"))
SCRIPTS = Path(__file__).parents[1]
GCS_PORT = 6379  # Ray's fake machines look for the head nowhere else
NODES = {
    "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    "gpu": {"resources": {"CPU": 2, "GPU": 1}, "node_config": {}, "max_workers": 4},
}
AUTOSCALING = {
    "cluster_name": "fake",
    "max_workers": 4,
    "idle_timeout_minutes": 0.2,
    "upscaling_speed": 10,
    "provider": {
        "type": "external",
        "module": "fake_machines.FakeMachines",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "available_node_types": NODES,
    "head_node_type": "ray.head.default",
    "auth": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
}


@dataclass(frozen=True)
class Cluster:
    """Where jobs go, with what in the environment, and where its processes can be told from."""

    address: str
    environment: dict[str, str]
    temporary: Path

    def submit(self, *command, log):
        """`ray job submit`, which follows the job and ends as it ends."""
        return subprocess.Popen(
            [RAY, "job", "submit", "--address", self.address, "--working-dir", ".", "--", *command],
            env=self.environment,
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
        )

    def run(self, *command, log):
        status = self.submit(*command, log=log).wait(300)
        return status, log.read_text()

    def num_nodes(self):
        """Each node is a raylet; the head is one of them."""
        return sum(name == "raylet" for name, _ in self.processes())

    def processes(self):
        found = []
        for process in psutil.process_iter(["name", "cmdline"]):
            if any(str(self.temporary) in part for part in process.info["cmdline"] or ()):
                found.append((process.info["name"], process))
        return found


@pytest.fixture(scope="module")
def cluster():
    # Ray's socket paths must be short; pytest's folders are not.
    temporary = Path(tempfile.mkdtemp(prefix="avr-", dir="/tmp"))
    (temporary / "autoscaling.yaml").write_text(json.dumps(AUTOSCALING))  # JSON is YAML
    environment = {
        **{k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"},
        "PATH": f"{Path(RAY).parent}:{os.environ['PATH']}",  # an activated environment
        "RAY_FAKE_CLUSTER": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "PYTHONPATH": str(SCRIPTS),  # the scripted engines, for every process of the cluster
    }
    dashboard, agent, client = free_ports(3)
    made = Cluster(f"http://127.0.0.1:{dashboard}", environment, temporary)
    start = [RAY, "start", "--head", "--num-cpus=0", f"--port={GCS_PORT}"]
    start += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    start += [f"--ray-client-server-port={client}", f"--temp-dir={temporary / 'ray'}"]
    start += [f"--autoscaling-config={temporary / 'autoscaling.yaml'}", "--disable-usage-stats"]
    started = subprocess.run(
        start, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        wait_until_it_takes_jobs(made)
        yield made
    finally:
        for _, process in made.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(temporary, ignore_errors=True)


def free_ports(number):
    """Ports of this machine that nobody listens on, below those that Ray gives its workers."""
    found = []
    for port in range(7265, 9000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
        if len(found) == number:
            return found
    raise AssertionError("no free ports")


def wait_until_it_takes_jobs(cluster):
    deadline = time.monotonic() + 90
    log = cluster.temporary / "first.log"
    while cluster.run("true", log=log)[0] != 0:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(1)


def growth(folder, num_trees, latency, gpus=1):
    script = str(SCRIPTS / "scripted_growth.py")
    return ("python", script, str(folder), str(num_trees), str(latency), str(gpus))


def test_code_is_uploaded_small_and_used_by_the_job(cluster, tmp_path):
    status, said = cluster.run(
        "python", "-c", "import avr; print(avr.__file__)", log=tmp_path / "log"
    )
    assert status == 0
    assert "working_dir_files" in said.split("avr/__init__.py")[0].splitlines()[-1]


def test_wrong_request_ends_the_job_with_its_words_and_status(cluster, tmp_path):
    job = ("python", "jobs/stage1.py", "conf/miniature/stage1.yaml", "growth.rows_per_blok=4")
    status, said = cluster.run(*job, log=tmp_path / "log")
    assert status == 1
    assert "did you mean 'growth.rows_per_block'?" in said


def test_without_the_token_nothing_is_taken(cluster):
    environment = {**cluster.environment, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    job = [RAY, "job", "submit", "--address", cluster.address, "--", "true"]
    refused = subprocess.run(job, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "token" in (refused.stdout + refused.stderr).lower()


def test_nodes_come_under_load_and_go_when_idle_and_every_tree_is_there(cluster, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    job = cluster.submit(*growth(folder, 120, 0.5), log=log)
    most = 1
    while job.poll() is None:
        most = max(most, cluster.num_nodes())
        time.sleep(0.5)
    assert job.returncode == 0, log.read_text()[-3000:]
    assert most >= 4  # the head and a node for each of three engines
    assert grown_in(folder) == undisturbed(120)
    deadline = time.monotonic() + 120
    while cluster.num_nodes() > 1:
        assert time.monotonic() < deadline, f"{cluster.num_nodes()} nodes are still there"
        time.sleep(0.5)


def test_job_that_was_stopped_continues_when_it_is_submitted_again(cluster, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    job = cluster.submit(*growth(folder, 80, 1.0), log=log)
    deadline = time.monotonic() + 180
    while not list((folder / "trees").glob("*.parquet")):
        assert job.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)
    name = log.read_text().split("Job '")[1].split("'")[0]
    stop = [RAY, "job", "stop", "--address", cluster.address, name]
    subprocess.run(stop, env=cluster.environment, check=True, capture_output=True)
    job.wait(60)
    assert "was stopped" in log.read_text()
    committed = read_ids(folder / "trees")
    assert 0 < len(committed) < 80
    status, said = cluster.run(*growth(folder, 80, 0.2), log=log)
    assert status == 0, said[-3000:]
    resumed = int(said.split("resumed ")[1].split("/80")[0])
    assert len(committed) <= resumed < 80  # what was in flight may have committed as well
    assert grown_in(folder) == undisturbed(80)


def test_job_that_can_never_be_placed_says_which_role_waits_for_what_and_ends(cluster, tmp_path):
    status, said = cluster.run(*growth(tmp_path / "run", 8, 0.1, gpus=2), log=tmp_path / "log")
    assert status == 1
    assert "policy needs 2 GPUs and 0.5 CPUs on one node" in said
    assert "no room after" in said
