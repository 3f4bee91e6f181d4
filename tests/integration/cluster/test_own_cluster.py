"""The cluster that a job starts for itself: nobody else on the network reaches or commands it."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.long]
JOB = """
import json, os, subprocess, sys
from contextlib import suppress
from pathlib import Path
import psutil
import ray
from ray import serve
from avr.hosting.cluster import connect
connect({"num_cpus": 2}, [], Path(sys.argv[1]))
address = ray.get_runtime_context().gcs_address
code = f"import ray; ray.init({address!r}, logging_level='ERROR'); print('obeyed')"
stranger = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
guesser = stranger | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
def asks(environment):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True)
answers = [asks(one).stdout for one in (stranger, guesser, dict(os.environ))]
serve.start(proxy_location="Disabled")
ray.get(ray.remote(lambda: 1).remote())
listening = set()
for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
    with suppress(psutil.NoSuchProcess):
        listening |= {
            connection.laddr.ip.removeprefix("::ffff:")
            for connection in process.net_connections("inet")
            if connection.status == "LISTEN"
        }
print(json.dumps([answers, sorted(listening)]))
"""


def test_it_listens_on_the_loopback_and_refuses_requests_without_the_job_s_token(tmp_path):
    command = [sys.executable, "-c", JOB, str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    answers, listening = json.loads(done.stdout.splitlines()[-1])
    assert answers == ["", "", "obeyed\n"]
    assert listening == ["127.0.0.1"]
    assert not (tmp_path / "log").exists() or "AUTH_TOKEN" not in (tmp_path / "log").read_text()
