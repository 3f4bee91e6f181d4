"""In which steps it counts what a critique sees of the turns before."""

import json

import pytest
from configured import decided

from avr.config.answers import EvaluateConfig, RefineConfig
from avr.config.load import load
from avr.config.stage1 import Stage1Config
from avr.config.stage2 import Stage2Config
from avr.config.table import TableConfig
from avr.core.growth import Shape

MODEL = "avr/miniature/models/policy"
STAGE2 = ["stage1_dir=null", f"policy.model={MODEL}"]
STEPS = [
    (Stage1Config, "stage1", "evaluate", [], "tree.context"),
    (Stage2Config, "stage2", "search", STAGE2, "tree.context"),
    (Stage2Config, "stage2", "evaluate", STAGE2, "tree.context"),
    (EvaluateConfig, "evaluate", "answer", [f"policy.model={MODEL}"], "tree.context"),
    (RefineConfig, "refine", "refine", [f"policy.model={MODEL}"], "tree.context"),
    (TableConfig, "table", "answer", [], "context"),
]


def recipe(schema, name, overrides):
    config = load(schema, f"conf/miniature/{name}.yaml", overrides)
    if schema is TableConfig:
        config.entrants = {"seed": config.entrants["seed"]}
    return config


@pytest.mark.parametrize(("schema", "name", "step", "overrides", "key"), STEPS)
def test_context_decides_the_results_of_every_step_that_has_levels(
    monkeypatch, schema, name, step, overrides, key
):
    monkeypatch.setattr("avr.run.decided.content_of", lambda prompts: "content")

    def inputs(*more):
        return decided(recipe(schema, name, [*overrides, *more]), step)

    assert inputs() == inputs(f"{key}=answer")
    assert "history" not in json.dumps(inputs())
    assert '"context": "history"' in json.dumps(inputs(f"{key}=history"))


def test_growths_of_stage_1_have_one_level_and_do_not_depend_on_it():
    def inputs(*more):
        return decided(recipe(Stage1Config, "stage1", more), "grow_rsft")

    assert inputs() == inputs("tree.context=history")
    assert Shape(**vars(recipe(Stage1Config, "stage1", ["tree.context=history"]).tree)).context
