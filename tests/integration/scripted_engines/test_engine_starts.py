"""Engines that start slowly, never, or beside the remains of one that was killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray
from scripted_engine import ROLE, SHAPE, TEMPLATES, ScriptedEngine
from scripted_growth import grown_in, planted
from scripted_search import plain, search_all, trees_of, undisturbed

from avr.config.roles import GrowthConfig, QueriesConfig
from avr.dataflow.grow import grow
from avr.dataflow.grown import GrowthError
from avr.dataflow.operators import Operator
from avr.hosting.host import Hosted
from avr.hosting.release import running

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ray_cluster")]
NUM_TREES = 12
# Ignores SIGTERM, as a busy EngineCore may, and writes down when it was last there.
CHILD = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if float(sys.argv[2]):
    os.setsid()  # where Ray does not find it
print("up", flush=True)
while not float(sys.argv[2]) or os.getppid() == PARENT or time.time() < end:
    if os.getppid() == PARENT:
        end = time.time() + float(sys.argv[2])
    open(sys.argv[1], "w").write(str(time.time()))
    time.sleep(0.05)
"""


class StartingScriptedEngine(ScriptedEngine):
    """Takes its time to start, and has a process of its own, both as its environment says.

    `EACH` gets a line a start: its second, its process's id, its child's and vLLM's sampler switch.
    """

    def __init__(self, role, config, seed):
        if "EACH" in config.env:  # not of the reward model beside it
            self._start(config)
        super().__init__(role, config, seed)

    def _start(self, config):
        each = Path(config.env["EACH"])
        again = each.exists()
        print("loading shard 7 of 9", flush=True)
        child = self._child(config.env, each)
        switch = os.environ.get("VLLM_USE_FLASHINFER_SAMPLER")
        with each.open("a") as log:
            log.write(json.dumps([time.time(), os.getpid(), child, switch]) + "\n")
        time.sleep(float(config.env.get("STARTS_AGAIN_IN" if again else "STARTS_IN", 0.0)))

    def _child(self, env, each):
        if "OUTLIVES" not in env:
            return None
        code = CHILD.replace("PARENT", str(os.getpid()))
        lock = f"{each}-{os.getpid()}"
        command = [sys.executable, "-c", code, lock, env["OUTLIVES"]]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        child.stdout.readline()
        return child.pid


def grow_with(folder, config, **env):
    env = {"EACH": str(folder.parent / "each"), **env}
    hosted = Hosted(
        "respond",
        "policy",
        replace(ROLE, env=env, max_rows_per_replica=4),
        0,
        folder,
        max_deaths=3,
        make_engine=StartingScriptedEngine,
    )
    operators = [Operator("respond", hosted, TEMPLATES, SHAPE)]
    return grow(planted(NUM_TREES), operators, config, folder)


def starts(folder):
    return [json.loads(line) for line in (folder / "each").read_text().splitlines()]


def kill_the_host_once_it_works(each, requests):
    """SIGKILL the process of the first engine; what it started goes on for itself."""

    def kill():
        while not requests.exists():
            time.sleep(0.05)
        os.kill(json.loads(each.read_text().splitlines()[0])[1], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()


def test_a_start_is_not_standing_still(tmp_path):
    config = GrowthConfig(rows_per_block=4, no_progress_timeout_s=20.0)
    assert grow_with(tmp_path / "run", config, STARTS_IN="40").num_trees == NUM_TREES
    ((_, _, _, switch),) = starts(tmp_path)
    assert switch == "0"


@pytest.mark.long
def test_a_start_that_hangs_ends_the_growth_with_the_role_and_its_last_words(tmp_path):
    config = GrowthConfig(rows_per_block=4, start_timeout_s=90.0)
    words = (
        r"no engine of the policy for \d+ s .growth.start_timeout_s; last known: "
        r"loading shard 7 of 9 .log: .*respond-policy-"
    )
    with pytest.raises(GrowthError, match=words):
        grow_with(tmp_path / "run", config, STARTS_IN="600")


@pytest.mark.long
def test_a_replacement_s_start_is_not_standing_still_for_a_search(tmp_path):
    env = {"EACH": tmp_path / "each", "DIED": tmp_path / "died", "STARTS_AGAIN_IN": 40}
    worked, _ = search_all(
        tmp_path / "run",
        8,
        env,
        QueriesConfig(queries_per_task=8, no_progress_timeout_s=20.0),
        make_engine=StartingScriptedEngine,
    )
    assert worked.engine_deaths == {"policy": 1}
    assert plain(trees_of(tmp_path / "run")) == plain(undisturbed(8))


# What is left of a killed engine: a process that Ray finds by its group, and one that it does not.
@pytest.mark.parametrize("outlives", ["0", pytest.param("8", marks=pytest.mark.long)])
def test_a_replacement_starts_when_nothing_of_the_killed_engine_is_left(tmp_path, outlives):
    folder = tmp_path / "run"
    requests = tmp_path / "requests"
    kill_the_host_once_it_works(tmp_path / "each", requests)
    config = GrowthConfig(rows_per_block=4)
    grown = grow_with(folder, config, OUTLIVES=outlives, LATENCY="2", REQUESTS=str(requests))
    assert grown.num_trees == len(grown_in(folder)) == NUM_TREES
    (_, host, child, _), (started, *_) = starts(tmp_path)
    last_there = float((tmp_path / f"each-{host}").read_text())
    assert last_there < started
    assert not psutil.pid_exists(child)


def test_a_growth_is_over_when_every_process_of_its_engines_is(tmp_path):
    grow_with(tmp_path / "run", GrowthConfig(rows_per_block=4), OUTLIVES="5")
    ((_, host, child, _),) = starts(tmp_path)
    # One that has ended and is not reaped yet holds nothing.
    assert running({host: time.time(), child: time.time()}) == []
    assert ray.is_initialized()


def test_a_process_s_number_that_has_come_again_is_not_waited_for():
    ended = subprocess.Popen(["true"])
    ended.wait()
    now = time.time()
    assert running({os.getpid(): now, ended.pid: now}) == [os.getpid()]
    assert running({os.getpid(): psutil.Process().create_time() - 60}) == []
