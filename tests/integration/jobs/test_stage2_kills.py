"""A search with real engines, one of them killed: the undisturbed trees, exactly.

One sequence at a time and no prefix cache: in a batch, what a sequence's neighbours are moves the
last bits of its logits, and now and then a token.
"""

import subprocess
import sys

import pytest
from test_stage1 import kill_an_engine, wait_for

from avr.core.tree import tree_to_dict
from avr.data.tables import read_ids, read_trees
from avr.serving.journal import journalled

pytestmark = [pytest.mark.integration, pytest.mark.long]
NUM_QUERIES = 16  # enough that the kill comes before the last, on a fast machine too


def start(run_dir, log):
    one_at_a_time = ("engine.max_num_seqs=1", "engine.enable_prefix_caching=false")
    command = [
        sys.executable,
        "jobs/stage2.py",
        "conf/miniature/stage2.yaml",
        f"run_dir={run_dir}",
        "stage1_dir=null",
        "policy.model=avr/miniature/models/policy",
        f"prompts.search.limit={NUM_QUERIES}",
        "queries.queries_per_task=2",
        "queries.max_queries_in_flight=4",
        "steps=[search]",
        *(f"{role}.{one}" for role in ("policy", "reward_model") for one in one_at_a_time),
    ]
    return subprocess.Popen(
        command, stdout=log.open("w"), stderr=subprocess.STDOUT, start_new_session=True
    )


def test_killed_engine_changes_no_tree(tmp_path):
    calm, run_dir = tmp_path / "calm", tmp_path / "run"
    log = tmp_path / "log"
    job = start(calm, log)
    assert job.wait(600) == 0, log.read_text()[-3000:]

    def num_committed():
        return len(list(journalled(run_dir / "search" / "journal")))

    job = start(run_dir, log)
    wait_for(num_committed, job, log)
    wait_for(lambda: kill_an_engine(job.pid, "search-policy"), job, log)
    assert num_committed() < NUM_QUERIES
    assert job.wait(600) == 0, log.read_text()[-3000:]
    assert "an engine died (policy:" in log.read_text()
    assert trees_of(run_dir) == trees_of(calm)
    assert len(read_ids(run_dir / "search" / "trees")) == NUM_QUERIES


def trees_of(run_dir):
    return {tree.id: tree_to_dict(tree) for tree in read_trees(run_dir / "search" / "trees")}
