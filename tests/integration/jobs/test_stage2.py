"""Stage II as a user runs it: the job as a process, real engines, real training.

The shipped corrector searches, so no Stage I has to run first, and what it finds is trained into
the shipped policy (`start=policy`), which knows the long form.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from avr.core.search import best_answer, has_improved
from avr.core.trajectory import parse_trajectory
from avr.core.tree import reward_of
from avr.data.tables import read_ids, read_rows, read_sets, read_trees
from avr.miniature.making.thinking import TEMPLATE
from avr.miniature.oracle import quality

pytestmark = pytest.mark.integration
NUM_SEARCH, NUM_SAMPLE, NUM_HELDOUT = 64, 24, 8
MIN_GAIN = 1.0  # of the recipe
MIN_MARGIN = 0.1


def command(run_dir, *more):
    return [
        sys.executable,
        "jobs/stage2.py",
        "conf/miniature/stage2.yaml",
        f"run_dir={run_dir}",
        "stage1_dir=null",
        "policy.model=avr/miniature/models/corrector",
        "start=policy",
        f"prompts.search.limit={NUM_SEARCH}",
        f"prompts.sample.limit={NUM_SAMPLE}",
        f"evaluation.prompts.limit={NUM_HELDOUT}",
        "evaluation.rounds.stage1=0",
        f"pairs.min_margin={MIN_MARGIN}",
        "queries.queries_per_task=8",
        "outputs.sampling.max_tokens=384",  # those that find no end cost time and show nothing
        *more,
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The run directory and what the job printed."""
    run_dir = tmp_path_factory.mktemp("stage2") / "run"
    job = subprocess.run(
        command(run_dir), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert job.returncode == 0, job.stdout[-3000:]
    return run_dir, job.stdout


def summary_of(run_dir):
    return json.loads((run_dir / "summary.json").read_text())


def test_every_query_is_searched_once(finished):
    run_dir, _ = finished
    folder = run_dir / "search"
    trees = list(read_trees(folder / "trees"))  # raises on an id that is there twice
    wanted = read_ids(folder / "queries.parquet")
    assert {tree.id for tree in trees} | read_ids(folder / "quarantine") == wanted
    assert len(wanted) == NUM_SEARCH
    assert summary_of(run_dir)["search"]["queries"]["engine_deaths"] == {}


def test_searches_go_on_while_they_improve(finished):
    run_dir, _ = finished
    depths = []
    for tree in read_trees(run_dir / "search" / "trees"):
        improved = [has_improved(tree, level) for level in tree.levels]
        assert all(improved[:-1])
        assert improved[-1] is False or len(tree.levels) == 5
        assert reward_of(best_answer(tree)) == max(map(reward_of, tree.responses()))
        depths.append(len(tree.levels))
    assert max(depths) > 1


def test_rows_are_whole_trajectories_of_the_trees(finished):
    run_dir, _ = finished
    trees = {tree.id: tree for tree in read_trees(run_dir / "search" / "trees")}
    rows = list(read_rows(run_dir / "unroll" / "rows.parquet"))
    # The seed improves few of its answers by so much.
    assert sum(row["gain"] > 0 for row in rows) > 2
    for row in rows:
        tree = trees[row["node_ids"][0]]
        query, turn = row["messages"]
        loop = parse_trajectory(turn["content"], TEMPLATE)
        assert query["content"] == tree.prompt.query[0].content
        assert (loop.first, loop.answer) == (tree.first.text, best_answer(tree, MIN_GAIN).text)
        assert loop.closing is not None
        assert (row["gain"] > 0) == bool(loop.turns)


def test_outputs_are_parsed_and_judged_by_their_final_answers(finished):
    run_dir, _ = finished
    sets = list(read_sets(run_dir / "sample" / "outputs"))
    assert len(sets) == NUM_SAMPLE
    for outputs in sets:
        assert len(outputs.outputs) + outputs.num_missing == 5
        for output in outputs.outputs:
            assert parse_trajectory(output.text, TEMPLATE).answer.strip() == output.answer
            assert output.reward is not None


def test_pairs_are_better_and_no_longer(finished):
    run_dir, _ = finished
    of = {o.id: o for s in read_sets(run_dir / "sample" / "outputs") for o in s.outputs}
    rows = list(read_rows(run_dir / "pair" / "rows.parquet"))
    assert rows
    for row in rows:
        chosen, rejected = (of[node] for node in row["node_ids"][-2:])
        assert chosen.reward - rejected.reward > MIN_MARGIN
        assert len(chosen.answer) <= len(rejected.answer)
        assert row["chosen"][0]["content"] == chosen.text


def test_trajectories_of_the_model_that_searched_are_trained_into_the_untrained_policy(finished):
    run_dir, _ = finished
    record = json.loads((run_dir / "rsft" / "training.json").read_text())
    assert record["trained_from"] == str(Path("avr/miniature/models/policy").resolve())
    assert summary_of(run_dir)["rsft"]["trained_from"] == record["trained_from"]


def test_summary_accounts_for_everything(finished):
    run_dir, output = finished
    summary = summary_of(run_dir)
    for funnel in (summary["unroll"]["funnel"], *summary["pair"]["funnels"]):
        assert funnel["in"] == funnel["out"] + sum(funnel["removed"].values())
    rows = {(row["model"], row["rounds"]): row for row in summary["evaluate"]["table"]}
    assert set(rows) == {("seed", 0), ("stage1", 0), ("stage2 rsft", None), ("stage2 dpo", None)}
    assert all(row["num_prompts"] == NUM_HELDOUT for row in rows.values())
    for title in ("Search", "From trees to training rows", "Whole outputs", "Held-out prompts"):
        assert title in output


def test_finished_run_does_nothing_again_and_refuses_other_settings(finished):
    run_dir, _ = finished
    same = command(run_dir)
    run = subprocess.run(same, capture_output=True, text=True, check=True)
    assert run.stdout.count("done before") == 7
    changed = subprocess.run([*same, "max_depth=3"], capture_output=True, text=True, check=False)
    assert changed.returncode == 1
    assert "max_depth: 5 -> 3" in changed.stderr


def test_final_model_answers_prompts_and_failures_are_reported(finished, tmp_path):
    run_dir, _ = finished
    answers = tmp_path / "answers"
    job = [
        sys.executable,
        "jobs/answer.py",
        "conf/miniature/answer.yaml",
        f"policy.model={run_dir / 'dpo'}",
        f"run_dir={answers}",
        "prompts.limit=24",
    ]
    run = subprocess.run(job, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in (answers / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == 24
    assert "24 rows = 24 answers + 0 quarantined + 0 not usable" in run.stdout
    failed = [row for row in rows if row["failure"]]
    assert f"without a final answer: {len(failed)} " in run.stdout
    good = [row for row in rows if not row["failure"]]
    assert good
    for row in good:
        loop = parse_trajectory(row["output"], TEMPLATE)
        assert (row["answer"], row["num_turns"]) == (loop.answer.strip(), len(loop.turns))
        assert row["thinking"].startswith(loop.first[:20])
        assert "<think>" not in row["thinking"] + row["answer"]
    assert sum(quality(row["prompt"], row["answer"]) for row in good) / len(good) > 0.3
