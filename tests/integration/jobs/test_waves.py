"""Growth in waves, y0 from the input, a row that is too long, health: the job as a process."""

import json
import re
import subprocess
import sys

import pytest

from avr.data.tables import read_rows, read_trees

pytestmark = [pytest.mark.integration, pytest.mark.long]
GOOD = "Tools: a1 saw, a2 drill. Fruits: b1 apple, b2 tiger."


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("waves")
    rows = [
        {"instruction": f"List (a) two tools and (b) two fruits. Case {n}", "output": GOOD}
        for n in range(5)
    ]
    rows.append({"instruction": "Too long", "output": "saw " * 5000})
    rows.append({"instruction": "No answer"})
    (folder / "outputs.json").write_text(json.dumps(rows))
    command = [sys.executable, "jobs/stage1.py", "conf/miniature/alpaca_eval.yaml"]
    command += [f"run_dir={folder / 'run'}", f"prompts.rsft.path={folder / 'outputs.json'}"]
    command += ["growth.placement=waves", "tree.max_tries=2"]
    # One of six trees is quarantined: a growth in which none may be is not well.
    command += ["growth.health.num_trees=6", "growth.health.barren=0"]

    def run(*overrides):
        return subprocess.run([*command, *overrides], capture_output=True, text=True, check=False)

    stopped = [run("growth.health.on_failure=stop") for _ in range(2)]
    summary = json.loads((folder / "run" / "summary.json").read_text())
    done = run()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "run", done.stdout, stopped, summary


def test_a_growth_that_is_not_well_stops_says_so_and_stops_again_before_engines_start(grown):
    run_dir, output, (first, again), summary = grown
    assert (first.returncode, again.returncode) == (1, 1)
    told = "HealthError: grow_rsft fails its health check, on its first 6 trees:\n"
    assert told in first.stderr
    assert re.search(r"barren: \d of 6 trees have no refinement", first.stderr)
    assert "for example: correct: too long for the corrector" in first.stderr
    assert again.stderr[again.stderr.index(told) :] == first.stderr[first.stderr.index(told) :]
    assert "starting engines" in first.stdout
    assert "starting engines" not in again.stdout
    assert "barren" in summary["health"]["grow_rsft"]["failed"]
    assert summary["health"]["grow_rsft"]["stopped"] and "grow_rsft" not in summary["seconds"]
    # With `on_failure: warn`, which the recipe has, the same trees go on.
    assert "on_failure is warn; the step goes on" in output
    after = json.loads((run_dir / "summary.json").read_text())
    assert after["health"]["grow_rsft"]["stopped"] is False
    assert "barren" in after["health"]["grow_rsft"]["failed"]
    assert after["grow_rsft"]["growth"]["num_quarantined"] == 1


def test_rows_in_are_trees_and_quarantined_with_reasons(grown):
    run_dir, output, *_ = grown
    growth = run_dir / "grow_rsft"
    trees = list(read_trees(growth / "trees"))
    (long,) = read_trees(growth / "quarantine")
    (bad,) = read_rows(growth / "rejected.parquet")
    assert len(trees) == 5
    assert "correct: too long for the corrector: " in long.quarantined
    assert "> max_model_len 4096" in long.quarantined
    assert bad["source"].endswith("outputs.json[6]")
    assert "no field 'output'" in bad["reason"]
    assert "too long for the corrector" in output


def test_y0_is_the_answer_the_row_brought_and_waves_leave_whole_trees(grown):
    run_dir, *_ = grown
    for tree in read_trees(run_dir / "grow_rsft" / "trees"):
        assert tree.first.text == GOOD
        assert tree.first.finish_reason == "input"
        assert len(tree.levels) == 1
        assert all(response.reward is not None for response in tree.responses())
    between = list(read_trees(run_dir / "grow_rsft" / "wave-0-correct"))
    assert {tree.first.reward for tree in between} == {None}
