"""An evaluation on devices that hold one model at a time: all answers first, then all rewards."""

import os
import signal
import subprocess
import sys
import time

import pytest

from avr.data.tables import read_trees

pytestmark = pytest.mark.integration
NUM_PROMPTS = 6


def start(run_dir, log, *more):
    # Of a run without its trainings, the seed policy alone is evaluated.
    command = [sys.executable, "jobs/stage1.py", "conf/miniature/stage1.yaml", "steps=[evaluate]"]
    command += [f"run_dir={run_dir}", f"evaluation.prompts.limit={NUM_PROMPTS}", *more]
    return subprocess.Popen(
        command, stdout=log.open("a"), stderr=subprocess.STDOUT, start_new_session=True
    )


def answered(run_dir):
    """The texts and rewards of each prompt; ids hold which run it was."""
    trees = read_trees(run_dir / "evaluate" / "seed" / "trees")
    return {
        tree.prompt.id: [(each.text, pytest.approx(each.reward, abs=1e-4)) for each in answers]
        for tree in trees
        if (answers := list(tree.responses()))
    }


def test_waves_give_the_same_and_a_kill_among_rewards_starts_no_policy_again(tmp_path):
    log = tmp_path / "log"
    whole, waves = tmp_path / "resident", tmp_path / "waves"
    assert start(whole, log).wait(600) == 0, log.read_text()[-3000:]
    asked = "growth.placement=waves"
    job = start(waves, log, asked)
    logs, deadline = waves / "evaluate" / "logs", time.monotonic() + 600
    while not list(logs.glob("evaluate-reward_model-*")):
        assert job.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert len(list(logs.glob("evaluate-policy-*"))) == 1
    assert start(waves, log, asked).wait(600) == 0, log.read_text()[-3000:]
    assert len(list(logs.glob("evaluate-policy-*"))) == 1
    assert len(list(logs.glob("evaluate-reward_model-*"))) == 2
    given = answered(waves)
    assert len(given) == NUM_PROMPTS and given == answered(whole)
    assert all(len(texts) > 1 for texts in given.values())
