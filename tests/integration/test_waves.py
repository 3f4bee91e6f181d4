"""Growth in waves, y0 from the input, and a row that is too long: the job as a process."""

import json
import subprocess
import sys

import pytest

from avr.pipeline.tables import read_rows, read_trees

pytestmark = pytest.mark.integration
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
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return folder / "run", run.stdout


def test_rows_in_are_trees_and_quarantined_with_reasons(grown):
    run_dir, output = grown
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
    run_dir, _ = grown
    for tree in read_trees(run_dir / "grow_rsft" / "trees"):
        assert tree.first.text == GOOD
        assert tree.first.finish_reason == "input"
        assert len(tree.levels) == 1
        assert all(response.reward is not None for response in tree.responses())
    between = list(read_trees(run_dir / "grow_rsft" / "wave-0-correct"))
    assert {tree.first.reward for tree in between} == {None}
