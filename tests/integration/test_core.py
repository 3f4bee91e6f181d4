"""The method once, small, as a user runs it: grow, train and search with real engines, one kill.

It is the part of the integration tests that `make test` has. The jobs as a whole are in `jobs/`.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from looked_at import assert_rows_say_what_their_trees_say

from avr.core.search import best_answer, has_improved
from avr.core.tree import reward_of
from avr.data.tables import read_ids, read_rows, read_trees

pytestmark = [pytest.mark.integration, pytest.mark.core]
NUM_PROMPTS, NUM_QUERIES = 16, 12
SEED = "avr/miniature/models/corrector"


def stage1(run_dir, *more):
    command = [sys.executable, "jobs/stage1.py", "conf/miniature/stage1.yaml"]
    command += [f"run_dir={run_dir}", "steps=[grow_rsft,select,rsft]"]
    command += [f"prompts.rsft.limit={NUM_PROMPTS}", "growth.rows_per_block=2"]
    # One model less to start, which corrects its own answers.
    command += ["corrector=null", f"policy.model={SEED}"]
    # Several steps: at the first one the learning rate is zero.
    command += ["rsft.trl.num_train_epochs=2", "rsft.trl.per_device_train_batch_size=2"]
    return [*command, *more]


def stage2(run_dir):
    command = [sys.executable, "jobs/stage2.py", "conf/miniature/stage2.yaml"]
    command += [f"run_dir={run_dir}", "steps=[search,unroll]", "stage1_dir=null"]
    command += [f"policy.model={run_dir.parent / 'stage1' / 'rsft'}", "start=policy"]
    return [*command, f"prompts.search.limit={NUM_QUERIES}"]


def begin(command, log):
    return subprocess.Popen(
        command, stdout=log.open("a"), stderr=subprocess.STDOUT, start_new_session=True
    )


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A run killed among its trees and run again, and the trees that were there at the kill."""
    folder = tmp_path_factory.mktemp("core")
    run_dir, log = folder / "stage1", folder / "log"
    trees, deadline = run_dir / "grow_rsft" / "trees", time.monotonic() + 600
    # Two at a time, so that the kill lands among the trees.
    job = begin(stage1(run_dir, "policy.max_rows_per_replica=2"), log)
    while not list(trees.glob("*.parquet")):
        assert job.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    committed = read_ids(trees)
    assert begin(stage1(run_dir), log).wait(600) == 0, log.read_text()[-3000:]
    return run_dir, committed


@pytest.fixture(scope="module")
def searched(grown):
    """A run in which the model that was just trained searches."""
    run_dir, log = grown[0].parent / "stage2", grown[0].parent / "log"
    assert begin(stage2(run_dir), log).wait(600) == 0, log.read_text()[-3000:]
    return run_dir


def test_a_killed_growth_goes_on_and_has_every_tree_once(grown):
    run_dir, committed = grown
    folder = run_dir / "grow_rsft"
    trees = {tree.id: tree for tree in read_trees(folder / "trees")}  # raises on an id twice
    assert trees.keys() | read_ids(folder / "quarantine") == read_ids(folder / "seedlings.parquet")
    assert len(trees) == NUM_PROMPTS
    growth = json.loads((run_dir / "summary.json").read_text())["grow_rsft"]["growth"]
    # Workers outlive their driver for a moment, and what they commit then counts too.
    assert 0 < len(committed) <= growth["num_resumed"] < NUM_PROMPTS
    for tree in trees.values():
        (level,) = tree.levels
        assert level.critiques and all(each.reward is not None for each in tree.responses())


def test_rows_say_what_their_trees_say(grown):
    assert_rows_say_what_their_trees_say(grown[0])


def test_a_training_on_the_rows_leaves_another_model_of_the_same_shape(grown):
    from safetensors.torch import load_file

    run_dir, _ = grown
    trained = load_file(run_dir / "rsft" / "model.safetensors")
    seed = load_file(f"{SEED}/model.safetensors")
    assert set(trained) == set(seed) - {"lm_head.weight"}  # tied: it need not be written
    assert any((trained[name].float() != seed[name].float()).any() for name in trained)
    record = json.loads((run_dir / "summary.json").read_text())["rsft"]
    assert record["num_rows"] == record["num_trained"] > 0


def test_searches_go_on_while_the_best_answer_gets_better(searched):
    trees = list(read_trees(searched / "search" / "trees"))
    assert {tree.id for tree in trees} == read_ids(searched / "search" / "queries.parquet")
    assert len(trees) == NUM_QUERIES
    for tree in trees:
        # All levels but the last brought something better, or the search would have ended there.
        assert all(has_improved(tree, level) for level in tree.levels[:-1])
        assert reward_of(best_answer(tree)) == max(map(reward_of, tree.responses()))
    rows = list(read_rows(searched / "unroll" / "rows.parquet"))
    assert rows and all(row["messages"][-1]["role"] == "assistant" for row in rows)


def test_what_is_done_is_not_done_again_and_not_under_other_settings(grown):
    run_dir, _ = grown
    before = {file: file.stat().st_mtime_ns for file in run_dir.rglob("*.parquet")}
    again = subprocess.run(stage1(run_dir), capture_output=True, text=True, check=True)
    assert again.stdout.count("done before") == 3
    assert before == {file: file.stat().st_mtime_ns for file in run_dir.rglob("*.parquet")}
    other = stage1(run_dir, "tree.num_critiques=3")
    refused = subprocess.run(other, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "tree.num_critiques: 2 -> 3" in refused.stderr
