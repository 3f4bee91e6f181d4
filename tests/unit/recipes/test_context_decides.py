"""In which steps it counts what a critique sees of the turns before."""

import json

import pytest
from configured import decided, steps_of

from avr.config.answers import EvaluateConfig, RefineConfig
from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.table import TableConfig
from avr.core.growth import Shape
from avr.recipes.stage1 import Stage1Config
from avr.recipes.stage2 import Stage2Config
from avr.steps.search import Search

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


@pytest.mark.parametrize("context", ["answer", "history"])
@pytest.mark.parametrize(("schema", "name", "step", "overrides", "key"), STEPS)
def test_works_of_all_steps_that_answer_are_told_it(schema, name, step, overrides, key, context):
    config = recipe(schema, name, [*overrides, f"{key}={context}"])
    answers = steps_of(config)[step]
    if isinstance(answers, Search):
        assert answers.tree.context == context
        return
    refining = [e for e in answers.entrants if not e.samples]
    assert refining
    for entrant in refining:
        # Without a reward model, too: as `refine` may be asked to.
        for score in ("score", None):
            work, _ = answers.asked(entrant, "policy", score, (), "recipe")
            assert work.shape.context == context


def test_a_context_that_nobody_knows_is_refused():
    with pytest.raises(ConfigError, match=r"tree.context: .*histry"):
        recipe(Stage2Config, "stage2", [*STAGE2, "tree.context=histry"])
