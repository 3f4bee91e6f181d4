"""What an evaluation compares, and sets aside, in a run of some of the steps."""

import json

import pytest
from configured import steps_of

from avr.config.load import load
from avr.recipes.stage1 import Stage1Config


def evaluated(run_dir, *overrides):
    """The names of the models that are compared, and of the steps whose prompts are set aside."""
    words = [f"run_dir={run_dir}", *overrides]
    step = steps_of(load(Stage1Config, "conf/miniature/stage1.yaml", words))["evaluate"]
    return [each.name for each in step.entrants], [each.name for each in step.apart_from]


def done(run_dir, *names):
    (run_dir / "ledger").mkdir(exist_ok=True)
    for name in names:
        entry = {"inputs": {}, "seconds": 1.0, "result": {}}
        (run_dir / "ledger" / f"{name}.json").write_text(json.dumps(entry))


ALL = (["seed", "rsft", "dpo"], ["grow_rsft", "grow_dpo"])


@pytest.mark.parametrize(
    ("steps", "before", "found"),
    [
        (None, (), ALL),
        ("[grow_rsft,select,rsft,evaluate]", (), (["seed", "rsft"], ["grow_rsft"])),
        ("[evaluate]", ("grow_rsft", "select", "rsft"), (["seed", "rsft"], ["grow_rsft"])),
        ("[dpo,evaluate]", ("grow_rsft", "select", "rsft", "grow_dpo", "pair"), ALL),
        ("[evaluate]", (), (["seed"], [])),
    ],
)
def test_an_evaluation_takes_what_is_asked_for_or_there(tmp_path, steps, before, found):
    done(tmp_path, *before)
    assert evaluated(tmp_path, *([f"steps={steps}"] if steps else [])) == found


def test_a_step_that_was_begun_and_not_done_is_not_there(tmp_path):
    done(tmp_path, "grow_rsft", "select")
    (tmp_path / "ledger" / "rsft.json").write_text('{"inputs": {}, "seconds": 1.0}')
    assert evaluated(tmp_path, "steps=[evaluate]") == (["seed"], ["grow_rsft"])


def test_limits_of_growths_hold_for_the_engines_of_the_evaluation():
    words = ["growth.parity_tolerance=0.5", "growth.start_timeout_s=77"]
    step = steps_of(load(Stage1Config, "conf/miniature/stage1.yaml", words))["evaluate"]
    assert (step.queries.parity_tolerance, step.queries.start_timeout_s) == (0.5, 77.0)
