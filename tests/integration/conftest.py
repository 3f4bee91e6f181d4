"""One Ray cluster and one object store for all integration tests of a process."""

import logging
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the scripts and models beside this file, for tests in any folder


@pytest.fixture(scope="module")
def short_folder():
    """A folder whose path is short enough for Ray's sockets; pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="avr-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def store():
    """A server of the S3 protocol on the loopback: the URL of an empty bucket.

    Its address and keys are in the environment, as users have them.
    """
    import boto3
    from moto.server import ThreadedMotoServer
    from planted_secrets import SECRETS

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="runs")
        yield "s3://runs"
    server.stop()


@pytest.fixture(scope="session")
def ray_cluster(store):
    """Eight logical CPUs and one GPU, whatever is there; workers import checkout and tests."""
    # On a busy machine the node processes need longer than the default 30 s.
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")
    import ray

    # Engines and rows of a test are classes of its own file, in any of the folders.
    folders = [HERE.parents[1], HERE, *sorted({file.parent for file in HERE.glob("*/test_*.py")})]
    ray.init(
        num_cpus=8,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": ":".join(map(str, folders))}},
    )
    yield ray
    ray.shutdown()
